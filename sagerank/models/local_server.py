"""A server in processes of its own on this machine: started, waited for until its /ping is 200, and ended whole.

It ends with the process that started it, however that ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 120.0
# Becomes the server, after it left a shell behind that ends the server's whole group when our end of the pipe on its
# standard input closes: however this process ends, the kernel does that. The shell outlives the group's SIGTERM, to send
# SIGKILL, and is no child of the server's.
_GUARDED = """
exec 3<&0 </dev/null
( (trap '' HUP INT TERM; read -r _ <&3; kill -TERM -$$; sleep 2; kill -KILL -$$) >/dev/null 2>&1 & )
exec 3<&- "$@"
"""
# Proxies of the environment are for other machines.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerError(RuntimeError):
    """The server did not start; the message ends with the last that it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that is ready."""

    host: str
    port: int
    pid: int  # leads a session, in which are all its processes
    start_seconds: float  # from the process's start until it was ready

    @property
    def url(self) -> str:
        return _url(self.host, self.port)

    def read(self, path: str) -> str:
        """Return what GET answers on a path. Raises OSError."""
        with _DIRECT.open(f"{self.url}{path}", timeout=60) as answer:
            return bytes(answer.read()).decode()


@contextmanager
def serving(model_dir: Path, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Our own server for an artefact, as the container starts it, on a free loopback port.

    environment: further settings, SAGERANK_*. Raises ServerError.
    """
    host, port = _free_address()
    settings = {"SAGERANK_MODEL_DIR": str(model_dir), "SAGERANK_HOST": host, "SAGERANK_PORT": str(port)}
    # As with -P, for the model's process too: a json.py in the current directory is the user's, and no module of ours.
    variables = {**os.environ, **(environment or {}), **settings, "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "sagerank_inference.server"]
    with running("sagerank's server", command, variables, host=host, port=port) as server:
        yield server


@contextmanager
def running(
    name: str,
    command: list[str],
    environment: Mapping[str, str],
    *,
    host: str = "127.0.0.1",
    port: int,
    folder: Path | None = None,
) -> Iterator[Server]:
    """Whatever server `command` starts on that address, with `folder` as its current directory. Raises ServerError."""
    if os.name != "posix":
        raise ServerError(f"{name} runs on Linux and macOS: on Windows, use WSL or the container.")
    with tempfile.TemporaryFile() as log:
        began = time.monotonic()
        # A session of its own: SIGTERM to the one that was started does not reach all in every server.
        process = subprocess.Popen(
            ["/bin/sh", "-c", _GUARDED, "sh", *command],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while not _ready(_url(host, port)):
                if process.poll() is not None or time.monotonic() - began > START_SECONDS:
                    log.seek(0)
                    lines = log.read().decode("utf-8", "replace").strip().splitlines()
                    raise ServerError(f"{name} did not start: {(lines or ['it said nothing'])[-1][:300]}")
                time.sleep(0.02)
            yield Server(host=host, port=port, pid=process.pid, start_seconds=time.monotonic() - began)
        finally:
            _end(process)


def _free_address() -> tuple[str, int]:
    """A loopback address with a port that nobody listens on: IPv4's, or IPv6's on a machine without it."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with suppress(OSError), socket.socket(family) as probe:
            probe.bind((host, 0))
            return host, int(probe.getsockname()[1])
    raise ServerError("Neither 127.0.0.1 nor ::1 can be listened on: bring up the loopback interface.")


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _ready(url: str) -> bool:
    try:
        with _DIRECT.open(f"{url}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let the server end as it would like to, and then end whatever is left of its session."""
    # macOS answers PermissionError where a group holds only what has ended already.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        process.stdin.close()
