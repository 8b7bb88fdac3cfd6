"""The image, the compose file and the unit of examples/proxy/, as far as they go without Docker and an init system."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from sagerank.cli import _parser

from ...conftest import ROOT, alone, free_port
from ...servers import KEY, Proxied, Server

FOLDER = ROOT / "examples/proxy"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
# Users of every Debian: useradd fails for these, and so does the build.
DEBIANS = re.compile(
    "root|daemon|bin|sys|sync|games|man|lp|mail|news|uucp|proxy|www-data|backup|list|irc|gnats|_apt|nobody"
)
(ENTRYPOINT,) = map(json.loads, re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.M))


def options(arguments: list[str]) -> Any:
    return _parser().parse_args(arguments)


class Contained(Proxied):
    """What the image runs, over what it copies."""

    def __init__(self, program: Path, *arguments: str) -> None:
        self.port, self.host = free_port(), "127.0.0.1"
        python, *words = ENTRYPOINT
        assert python == "python"
        self.process = subprocess.Popen(
            [sys.executable, "-S", *words, "--port", str(self.port), *arguments],
            env=alone(program, SAGERANK_PROXY_KEY=KEY),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )


def test_the_image_holds_what_the_proxy_needs(server: Server, tmp_path: Path) -> None:
    for source, target in re.findall(r"^COPY (\S+) /opt/program/(\S+)/$", DOCKERFILE, re.M):
        ignored = shutil.ignore_patterns("__pycache__", "evaluation/sample")
        shutil.copytree(ROOT / source, tmp_path / target, ignore=ignored)
    proxy = Contained(tmp_path, "--url", f"http://127.0.0.1:{server.port}")
    try:
        proxy.wait_until_ready()
        assert proxy.ask("/v1/rerank", json.dumps({"query": "q", "documents": ["a", "b"]}))[0] == 200
        (probe,) = map(json.loads, re.findall(r"^    CMD (\[.+\])$", DOCKERFILE, re.M))
        words = [word.replace("8080", str(proxy.port)) for word in probe[1:]]
        assert subprocess.run([sys.executable, *words], check=False, timeout=30).returncode == 0
        proxy.stop()
        assert (
            subprocess.run(
                [sys.executable, *words], check=False, timeout=30, stderr=subprocess.DEVNULL
            ).returncode
            == 1
        )
    finally:
        proxy.process.kill()


def test_its_pins_are_of_all_that_it_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["proxy"]
    pins = (ROOT / "requirements/proxy.txt").read_text(encoding="utf-8")
    cpu = (ROOT / "inference/sagerank_inference/image/requirements-cpu.txt").read_text(encoding="utf-8")
    for requirement in needed:
        name = re.split(r"[<>=]", requirement)[0]
        (pin,) = re.findall(rf"^{re.escape(name)}==(\S+)", pins, re.M)
        assert re.findall(rf"^{re.escape(name)}==(\S+)", cpu, re.M) in ([], [pin])


def test_the_compose_file_starts_that_image_with_the_key_as_a_secret() -> None:
    proxy = COMPOSE["services"]["proxy"]
    assert (FOLDER / proxy["build"]["context"]).resolve() == ROOT
    assert (ROOT / proxy["build"]["dockerfile"]).samefile(FOLDER / "Dockerfile")
    given = options([*ENTRYPOINT[4:], *proxy["command"]])
    assert (given.host, given.port) == ("*", 8080)
    assert str(given.key_file) == "/run/secrets/keys"
    assert proxy["secrets"] == list(COMPOSE["secrets"]) == ["keys"]
    assert proxy["ports"] == ["127.0.0.1:8080:8080"]


def test_the_image_has_a_user_of_its_own_in_whose_home_the_profile_is_found() -> None:
    (name,) = re.findall(r"useradd --uid 1000 --create-home (\S+)$", DOCKERFILE, re.M)
    assert not DEBIANS.fullmatch(name)
    (home,) = re.findall(r"^ENV HOME=(\S+)", DOCKERFILE, re.M)
    assert home == f"/home/{name}"
    assert re.findall(r"-v ~/\.aws:(\S+):ro", DOCKERFILE) == [f"{home}/.aws"]
    assert COMPOSE["services"]["proxy"]["volumes"] == [f"${{HOME}}/.aws:{home}/.aws:ro"]


def test_the_unit_is_one_and_runs_what_there_is(tmp_path: Path) -> None:
    unit = (FOLDER / "sagerank-proxy.service").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=(\S+) (.+)$", unit, re.M)
    variables = {"${ENDPOINT}": "sagerank", "${CREDENTIALS_DIRECTORY}": "/run/credentials/it"}
    line = re.sub(r"\$\{\w+\}", lambda found: variables[found[0]], command[1])
    given = options(shlex.split(line))
    assert (given.endpoint, given.host) == ("sagerank", "127.0.0.1")
    assert given.key_file.name == "keys"
    assert "LoadCredential=keys:" in unit
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed here")
    file = tmp_path / "sagerank-proxy.service"
    file.write_text(unit.replace(command[0], sys.executable), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    assert (done.returncode, done.stderr) == (0, "")
