"""A container of an image under an instance's limits, with no network but its own loopback.

What it serves is reached all the same: `Running.port` is a port of this machine's loopback whose connections are made inside the
container's network namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import shutil
import socket
import socketserver
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from containers.engine import Engine, NoEngine, options, podman

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def reason() -> str:
    """Why no container can be run here; empty where one can."""
    if os.geteuid() != 0:
        return "limits and namespaces of containers need root"
    missing = [tool for tool in ("podman", "buildah", "runc") if not shutil.which(tool)]
    if missing:
        return f"there is no {missing[0]}: `.ci/containers` installs what is needed"
    try:
        podman().run("info", seconds=60)
    except (NoEngine, OSError, subprocess.SubprocessError) as error:
        return f"podman does not run here: {error}"
    return ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an instance or a serverless endpoint gives a container. None: no limit."""

    cpus: float | None = None
    memory_mb: int | None = None


@dataclass(slots=True)
class Running:
    engine: Engine
    id: str
    pid: int  # of its first process, in this machine's numbers
    port: int  # on 127.0.0.1 of this machine
    started: float = field(default_factory=time.monotonic)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.engine.run("inspect", self.id).stdout)[0]["State"]
        return found

    def logs(self) -> str:
        done = self.engine.run("logs", self.id)
        return (done.stdout + done.stderr).decode(errors="replace")

    def execute(self, *command: str, user: str = "0") -> str:
        """Run a command inside; its output."""
        return self.engine.run("exec", "--user", user, self.id, *command).stdout.decode(errors="replace")

    def ready(self, seconds: float = 60) -> float:
        """Wait for /ping's 200; the seconds since the start. Raises RuntimeError, with the log, where there is none."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self.url}/ping", timeout=5) as answer,
            ):
                if answer.status == 200:
                    return time.monotonic() - self.started
            if not self.state()["Running"]:
                break
            time.sleep(0.05)
        raise RuntimeError(f"The container is not ready: {self.state()}\n{self.logs()[-4000:]}")

    def stop(self, seconds: int = 30) -> int:
        """SIGTERM, and SIGKILL after so many seconds, as SageMaker stops one; its exit status."""
        self.engine.run("stop", "--time", str(seconds), self.id)
        return int(self.state()["ExitCode"])


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
        *(["--read-only"] if read_only else []),
        *(["--cpus", f"{limits.cpus:g}"] if limits.cpus else []),
        # Without room to swap, as on SageMaker.
        *(
            ["--memory", f"{limits.memory_mb}m", "--memory-swap", f"{limits.memory_mb}m"]
            if limits.memory_mb
            else []
        ),
        *(["--user", user] if user else []),
        *options("--env", environ or {}),
        *options("--volume", [f"{folder}:{where}:ro" for folder, where in (mounts or {}).items()]),
        *options("--ulimit", _allowed()),
        *more,
    ]
    started = time.monotonic()
    try:
        done = engine.run("run", "--detach", *given, image, *command)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"podman run: {error.stderr.decode(errors='replace')}") from None
    number = done.stdout.decode().strip()
    try:
        pid = int(json.loads(engine.run("inspect", number).stdout)[0]["State"]["Pid"])
        inside = _inside(pid, port) if network == "none" else _beside(port)
        with _forwarded(inside) as outside:
            yield Running(engine, number, pid, outside, started)
    finally:
        engine.run("rm", "--force", "--time", "0", number)


def _allowed() -> list[str]:
    """Within this machine's own limits: podman's defaults are beyond what some allow, even to root."""
    limits = []
    for name, kind, wanted in (
        ("nofile", resource.RLIMIT_NOFILE, 65_536),
        ("nproc", resource.RLIMIT_NPROC, 8192),
    ):
        most = resource.getrlimit(kind)[1]
        count = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        limits.append(f"{name}={count}:{count}")
    return limits


def _beside(port: int) -> Callable[[], socket.socket]:
    return lambda: socket.create_connection(("127.0.0.1", port), 5)


def _inside(pid: int, port: int) -> Callable[[], socket.socket]:
    """Connect to a port of the loopback in a process's network namespace, wherever this process is."""
    try:
        theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    except OSError:  # it has ended: nobody listens
        return lambda: socket.create_connection(("127.0.0.1", 1), 5)

    def connect() -> socket.socket:
        # A thread's namespace is its own, and a socket stays in the one that it was made in.
        ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(theirs)
            try:
                return socket.create_connection(("127.0.0.1", port), 5)
            finally:
                _enter(ours)
        finally:
            os.close(ours)

    return connect


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def _forwarded(connect: Callable[[], socket.socket]) -> Iterator[int]:
    """A port of this machine's loopback for what `connect` reaches; both directions close on their own."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                there = connect()
            except OSError:
                return  # the caller sees a closed connection, as from a server that is not up
            with there:
                there.settimeout(None)
                back = threading.Thread(target=_copy, args=(there, self.request), daemon=True)
                back.start()
                _copy(self.request, there)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        allow_reuse_address = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
