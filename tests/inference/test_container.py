"""What the Dockerfiles copy, alone in an empty environment with the pinned CPU dependencies, starts and
answers.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import sagerank_inference

from ..conftest import ROOT, free_port

PACKAGE = Path(sagerank_inference.__file__).parent
DOCKERFILES = sorted((PACKAGE / "image").glob("Dockerfile.*"))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.suffix)
def test_what_is_copied_exists(dockerfile: Path) -> None:
    copies = re.findall(r"^COPY (\S+) \S+$", dockerfile.read_text(), re.M)
    assert len(copies) == 2
    for source in copies:
        assert (PACKAGE / source).exists()


@pytest.mark.parametrize(
    "step",
    [
        r"^ARG BASE=.+$",
        r"^RUN --mount=type=secret(?:.+\\\n)+?.+--requirement \S+",
        r"^RUN rm -rf (?:.+\\\n)+.+$",
    ],
)
def test_steps_that_images_share_are_the_same_in_each(step: str) -> None:
    """They are repeated because a Dockerfile takes nothing from outside of its context, and the contexts differ."""
    files = [*DOCKERFILES, ROOT / "examples/proxy/Dockerfile"]
    found = [re.findall(step, file.read_text(), re.M) for file in files]
    assert len(found[0]) == 1
    assert found == [found[0]] * 3


@pytest.mark.parametrize("step", [r"^RUN cd /opt/program && rm (?:.+\\\n)+.+$", r"^HEALTHCHECK .+\n.+$"])
def test_what_a_server_holds_and_how_its_health_is_asked_is_the_same_in_both(step: str) -> None:
    found = [re.findall(step, file.read_text(), re.M) for file in DOCKERFILES]
    assert len(found[0]) == 1
    assert found == [found[0]] * len(DOCKERFILES)


def test_the_cpu_image_holds_no_torch() -> None:
    pinned = (PACKAGE / "image/requirements-cpu.txt").read_text()
    assert not re.search(r"^(torch|transformers|onnx|boto3)==", pinned, re.M)


def test_the_cpu_images_files_start_and_answer_alone(tmp_path: Path, hostile: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env/bin/python"
    install = [
        str(python),
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--no-compile",
        "--require-hashes",
        "-r",
        str(PACKAGE / "image/requirements-cpu.txt"),
    ]
    subprocess.run(install, check=True)
    shutil.copytree(
        PACKAGE, tmp_path / "program/sagerank_inference", ignore=shutil.ignore_patterns("__pycache__")
    )
    port = free_port()
    server = subprocess.Popen(
        # The new environment and -P: nothing of this checkout is on the path, and nothing of the working directory.
        [python, "-P", "-m", "sagerank_inference.server", "serve"],
        cwd=hostile,
        env={
            "PYTHONPATH": str(tmp_path / "program"),
            "SAGERANK_MODEL_DIR": str(tmp_path / "program/sagerank_inference/micro"),
            "SAGERANK_HOST": "127.0.0.1",
            "SAGERANK_PORT": str(port),
        },
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
                    assert answer.status == 200
                    break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        body = json.dumps({"query": "q", "documents": ["a", "b"]}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert len(json.load(answer)["results"]) == 2
    finally:
        server.terminate()
        assert server.wait(30) == 0
