"""A server in processes of its own on this machine: started, waited for until its /ping is 200, and ended whole."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 120.0


class ServerError(RuntimeError):
    """The server did not start; the message ends with the last that it said."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready."""

    port: int
    pid: int  # leads a session, in which are all its processes
    start_seconds: float  # from the process's start until it was ready

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(model_dir: Path, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Our own for an artefact, as the container starts it, on a free loopback port.

    environment: further settings, SAGERANK_*. Raises ServerError.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "SAGERANK_MODEL_DIR": str(model_dir),
        "SAGERANK_HOST": "127.0.0.1",
        "SAGERANK_PORT": str(port),
    }
    command = [sys.executable, "-m", "sagerank_inference.server"]
    with running(
        "sagerank's server", command, {**os.environ, **(environment or {}), **settings}, port
    ) as server:
        yield server


@contextmanager
def running(
    name: str, command: list[str], environment: Mapping[str, str], port: int, folder: Path | None = None
) -> Iterator[Server]:
    """Whatever server `command` starts on a loopback port, in `folder`. Raises ServerError."""
    with tempfile.TemporaryFile("w+") as log:
        began = time.monotonic()
        # A session of its own: SIGTERM to the one that was started does not reach all in every server.
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while not _ready(port):
                if process.poll() is not None or time.monotonic() - began > START_SECONDS:
                    log.seek(0)
                    last = (log.read().strip().splitlines() or ["it said nothing"])[-1]
                    raise ServerError(f"{name} did not start: {last[:300]}")
                time.sleep(0.02)
            yield Server(port, process.pid, time.monotonic() - began)
        finally:
            _end(process)


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """The server as it would like to end, and then whatever is left of its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
