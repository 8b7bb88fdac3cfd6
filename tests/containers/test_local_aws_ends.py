"""However a local AWS ends, nothing of it stays; and what is the machine's own does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from containers import standin
from containers.build import build
from containers.engine import podman
from sagerank.models.build import archive

from ..local_aws import launch, registry, sweep
from ..servers import children, wait_for
from .deployed import HOST, REPOSITORY, Aws

pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(bool(registry.reason()), reason=registry.reason() or "it can"),
]


@dataclass(frozen=True)
class Started(Aws):
    """By hand: no process but its own holds its folder."""

    process: subprocess.Popen[str]


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[Started]:
    """With a model, whose image no instance has pulled yet."""
    archive("micro", tmp_path / "model.tar.gz")
    port = launch.free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.local_aws", "--containers", "--attached", "--port", str(port)],
            cwd=launch.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout
    assert process.stdout.readline().startswith("# An endpoint is a container")
    told = (
        process.stdout.readline() for _ in range(len(launch.environment(port)) + 3)
    )  # those of the registry
    environment = dict(line.removeprefix("export ").strip().split("=", 1) for line in told)
    aws = Started(environment, tmp_path, process)
    wait_for(lambda: launch.answers(port))
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="artefacts")
    s3.upload_file(str(tmp_path / "model.tar.gz"), "artefacts", "model.tar.gz")
    aws.client("ecr").create_repository(repositoryName=REPOSITORY)
    aws.push(build("cpu", base=standin.ensure()), "cpu")
    aws.create_model("model", f"{HOST}/{REPOSITORY}:cpu")
    yield aws
    process.terminate()
    process.communicate(timeout=60)


@pytest.fixture
def owners() -> Iterator[str]:
    """A container of the machine's owner, in podman's own store."""
    image = standin.ensure()
    name = f"owners-{os.getpid()}"
    fenced = ("--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
    podman().run("run", "--detach", "--rm", "--name", name, *fenced, image, "sleep", "600")
    yield name
    podman().run("rm", "--force", "--time", "0", name)


@pytest.mark.parametrize("moment", ["pull", "run", "later"])
def test_nothing_outlives_a_local_aws_that_is_killed(moment: str, aws: Started, owners: str) -> None:
    """moment: what podman is in the midst of."""
    folder, (behind,) = aws.registry.folder, _registry(aws)
    _create_endpoint(aws)
    if moment == "later":
        wait_for(lambda: bool(aws.containers()))
    else:
        wait_for(lambda: bool(_podmans(folder, moment)))
    aws.process.kill()
    aws.process.wait()
    wait_for(lambda: not folder.exists())
    time.sleep(2)  # in which what was left over would go on
    # The registry's process, whose files take a while.
    assert not [_read(each, "cmdline") for each in _left(folder) if each != behind]
    assert not folder.exists()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{aws.registry.address}/v2/", timeout=5)
    assert json.loads(podman().run("inspect", owners).stdout)[0]["State"]["Running"]


def test_the_next_start_removes_what_a_killed_registry_left(
    aws: Started, owners: str, tmp_path: Path
) -> None:
    folder = aws.registry.folder
    _create_endpoint(aws)
    wait_for(lambda: bool(_podmans(folder, "run")))
    (behind,) = _registry(aws)
    sweep.leftovers()
    assert folder.exists(), "somebody else's was swept"
    for process in (behind, aws.process.pid):
        os.kill(process, signal.SIGKILL)
    aws.process.wait()
    wait_for(lambda: bool(_left(folder)))
    sweep.leftovers()
    assert not folder.exists()
    assert not _left(folder)
    assert json.loads(podman().run("inspect", owners).stdout)[0]["State"]["Running"]


def test_a_start_that_fails_says_why_at_once_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "moto").mkdir()
    (tmp_path / "moto/__init__.py").write_text("raise SystemExit('moto is broken')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    begun = time.monotonic()
    with (
        pytest.raises(RuntimeError, match="moto is broken"),
        launch.running(tmp_path / "log", containers=True),
    ):
        pass
    assert time.monotonic() - begun < 30
    assert not list(tmp_path.glob("local-aws-*"))


def _registry(aws: Started) -> list[int]:
    """Its process."""
    return [
        each for each in children(aws.process.pid) if b"tests.local_aws.registry" in _read(each, "cmdline")
    ]


def _create_endpoint(aws: Aws) -> None:
    """Begin to."""
    sagemaker = aws.client("sagemaker")
    variant = {
        "VariantName": "All",
        "ModelName": "model",
        "InstanceType": "ml.c7i.large",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName="endpoint", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="endpoint", EndpointConfigName="endpoint")


def _podmans(folder: Path, command: str) -> list[int]:
    """Processes of podman that run a command in the folder."""
    return [each for each in _left(folder) if f"\0{command}\0".encode() in _read(each, "cmdline")]


def _left(folder: Path) -> list[int]:
    """Processes that anything of says the folder's name: their words, their environment, what they have mounted at their root."""
    named = str(folder).encode()
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        number = int(each.name)
        roots = [line for line in _read(number, "mountinfo").splitlines() if line.split()[4] == b"/"]
        words = _read(number, "cmdline") + _read(number, "environ") + b"".join(roots)
        if named in words and number != os.getpid():
            found.append(number)
    return found


def _read(process: int, name: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{process}/{name}").read_bytes()
    return b""
