"""A container of an image under an instance's limits, with no network but its own loopback.

What it serves is reached all the same: `Running.port` is a port of this machine's loopback whose connections are made inside the
container's network namespace.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from containers import standin
from containers.build import build
from containers.engine import Engine, EngineError, options, podman, unified

from ..servers import Door, children, wait_for
from .namespace import reached

MODEL = "/opt/ml/model"  # where SageMaker unpacks an artefact


def reason(*tools: str) -> str:
    """Why no container can be run here, with such commands beside podman; empty where one can."""
    if os.geteuid() != 0:
        return "limits and namespaces of containers need root"
    needed = ("podman", *(() if unified() else ("runc",)), *tools)
    if missing := [tool for tool in needed if not shutil.which(tool)]:
        return f"there is no {missing[0]}: `.ci/containers` installs what is needed"
    engine = podman()
    try:
        engine.run("info", seconds=60)
    except (OSError, subprocess.SubprocessError) as error:
        return f"podman does not run here: {error}"
    return "" if engine.has(standin.name("amd64")) else standin.reason()


def built_image(kind: str = "cpu", arch: str = "amd64", **more: Any) -> str:
    """Build an image on the stand-in for its base, where containers of tests are run."""
    return build(kind, arch, stand_in=True, engine=podman(), **more)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an instance or a serverless endpoint gives a container. None: no limit."""

    cpus: float | None = None
    memory_mb: int | None = None  # MiB
    files: int = 65_536  # open at once


@dataclass(slots=True)
class Running(Door):
    engine: Engine
    id: str
    pid: int  # of its first process, in this machine's numbers
    port: int  # on 127.0.0.1 of this machine
    host: str = "127.0.0.1"
    started: float = field(default_factory=time.monotonic)
    timeout = 600  # seconds of an answer: the largest model's longest pair, on a slow machine

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def worker(self) -> int:
        """The model's process; 0 while there is none."""
        return next(iter(children(self.pid)), 0)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.engine.run("inspect", self.id).stdout)[0]["State"]
        return found

    def logs(self) -> str:
        done = self.engine.run("logs", self.id)
        return (done.stdout + done.stderr).decode(errors="replace")

    def events(self) -> list[dict[str, Any]]:
        """The server's log."""
        return [json.loads(line) for line in self.logs().splitlines()]

    def execute(self, *command: str, user: str = "0") -> str:
        """Run a command inside; its output."""
        return self.engine.run("exec", "--user", user, self.id, *command).stdout.decode(errors="replace")

    def writes(self, folder: str) -> bool:
        """Whether the server's user can make a file in a folder inside."""
        code = f"import os; print(os.access({folder!r}, os.W_OK))"
        return "True" in self.engine.run("exec", self.id, "python", "-c", code).stdout.decode()

    def ready(self, seconds: float = 60) -> float:
        """Wait for /ping's 200; the seconds since the start. Raises RuntimeError, with the log, where there is none."""
        with contextlib.suppress(AssertionError):
            wait_for(lambda: self.ping() == 200 or not Path(f"/proc/{self.pid}").exists(), seconds)
        taken = time.monotonic() - self.started
        if self.ping() != 200:
            raise RuntimeError(f"The container is not ready: {self.state()}\n{self.logs()[-4000:]}")
        return taken

    def stop(self, seconds: int = 30) -> int:
        """SIGTERM, and SIGKILL after so many seconds, as SageMaker stops one; its exit status."""
        self.engine.run("stop", "--time", str(seconds), self.id)
        return int(self.state()["ExitCode"])


def fenced(limits: Limits, *, read_only: bool = True) -> list[str]:
    """Options of `podman run` that leave a container its limits, and nothing to write to where it is read-only."""
    given = ["--no-healthcheck"]  # podman has systemd run it, and SageMaker does not run it
    if read_only:
        given += ["--read-only", "--read-only-tmpfs=false"]
    if limits.cpus:
        given += ["--cpus", f"{limits.cpus:g}"]
    if limits.memory_mb:  # without room to swap, as on SageMaker
        given += ["--memory", f"{limits.memory_mb}m", "--memory-swap", f"{limits.memory_mb}m"]
    # Within this machine's own limits: podman's defaults are beyond what some allow, even to root.
    for name, kind, wanted in (
        ("nofile", resource.RLIMIT_NOFILE, limits.files),
        ("nproc", resource.RLIMIT_NPROC, 8192),
    ):
        most = resource.getrlimit(kind)[1]
        count = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        given += ["--ulimit", f"{name}={count}:{count}"]
    return given


@contextmanager
def running(
    image: str,
    *,
    limits: Limits = Limits(),
    environ: Mapping[str, str] | None = None,
    mounts: Mapping[Path, str] | None = None,
    read_only: bool = True,
    user: str = "",
    network: str = "none",
    port: int = 8080,
    command: Sequence[str] = ("serve",),
    more: Sequence[str] = (),
) -> Iterator[Running]:
    """Start a container; it may not be ready yet. Afterwards it is gone.

    mounts: folders of this machine and where they are seen, read-only. user: as in `podman run`, else the image's. port: that the
    server listens on inside. more: further options of `podman run`.
    """
    engine = podman()
    given = [
        *("--network", network),
        *fenced(limits, read_only=read_only),
        *(["--user", user] if user else []),
        *options("--env", environ or {}),
        *options("--volume", [f"{folder}:{where}:ro" for folder, where in (mounts or {}).items()]),
        *more,
    ]
    name = f"sagerank-{secrets.token_hex(6)}"
    # podman's monitor leaves a file in its folder where memory runs out.
    with tempfile.TemporaryDirectory(prefix="sagerank-container-") as scratch:
        started = time.monotonic()
        try:
            engine.run("run", "--detach", "--name", name, *given, image, *command, folder=Path(scratch))
            pid = int(json.loads(engine.run("inspect", name).stdout)[0]["State"]["Pid"])
            with reached(pid, port) as outside:
                yield Running(engine, name, pid, outside, started=started)
        except EngineError as error:
            raise RuntimeError(str(error)) from error
        finally:
            _remove(engine, name)


def _remove(engine: Engine, number: str) -> None:
    remove = ("rm", "--force", "--ignore", "--time", "0", number)
    try:
        engine.run(*remove)
    except EngineError:  # podman's monitor was killed, which is found out now
        engine.run(*remove)
