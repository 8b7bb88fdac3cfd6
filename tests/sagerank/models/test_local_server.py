"""The server that demo and bench start: among a user's files and proxies, on either loopback, where it cannot run, and when
who started it is killed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagerank.models.build import MICRO
from sagerank.models.local_server import ServerError, running, serving

from ...conftest import free_port, run_python
from ...servers import wait_for

PROXIES = dict.fromkeys(
    ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
    "http://127.0.0.1:9",  # the port where everything is discarded
)


@pytest.fixture
def users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory with modules of the user's that leave a file where one of them is run."""
    for name in ("json", "inference", "numpy", "signal", "pickle", "sagerank_inference", "venv"):
        (tmp_path / f"{name}.py").write_text("open('executed', 'w').write(__name__)\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "executed").exists()


def test_it_runs_no_file_of_the_users_and_asks_no_proxy(
    users_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, proxy in PROXIES.items():
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(MICRO, {"SAGERANK_THREADS": "1"}) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"


def test_without_ipv4_it_is_on_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")

    class OnlyIPv6(socket.socket):
        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET:
                raise OSError("no such address")
            super().bind(address)

    monkeypatch.setattr(socket, "socket", OnlyIPv6)
    with serving(MICRO, {"SAGERANK_THREADS": "1"}) as server:
        assert server.url == f"http://[::1]:{server.port}"


def test_a_log_of_other_bytes_is_read_all_the_same() -> None:
    code = "import os; os.write(2, 'no caf\u00e9 '.encode() + b'\\xff\\n')"
    with (
        pytest.raises(ServerError, match="^it did not start: no café \ufffd$"),
        running("it", [sys.executable, "-c", code], os.environ, port=free_port()),
    ):
        pass


def test_windows_imports_it_and_is_told_why_it_does_not_run() -> None:
    """Windows has no sessions, no killpg and no SIGKILL, and none of what the model's process inherits."""
    code = """
import json, os, pathlib, signal, sys
import asyncio, pathlib, subprocess  # the standard library has made up its mind before the name changes
for name in ("killpg", "getloadavg", "sched_getaffinity", "sysconf", "fork"):
    if hasattr(os, name):
        delattr(os, name)
del signal.SIGKILL
sys.modules |= dict.fromkeys(("fcntl", "resource", "grp", "pwd"))
import sagerank.demo, sagerank.doctor, sagerank.bench.commands
from sagerank.models.local_server import ServerError, serving
os.name = "nt"
try:
    with serving("model"):
        pass
except ServerError as error:
    print(json.dumps(str(error)))
"""
    done = run_python(code)
    assert done.stderr == ""
    assert "runs on Linux and macOS: on Windows, use WSL" in json.loads(done.stdout)


def _with(marker: str) -> list[int]:
    """Processes that inherited a mark in their environment, but for zombies."""
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/environ")
        if marker.encode() in _read(path) and _read(path.with_name("cmdline"))
    ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


STARTED = [sys.executable, "-P", "-c"]
# A server that is never ready, of a family of which one does not listen to SIGTERM.
FOREIGN = """
import os, sys, time
from sagerank.models.local_server import running
stubborn = "trap '' TERM; while :; do sleep 1; done"
with running("it", ["/bin/sh", "-c", f"({stubborn}) & exec sleep 600"], os.environ, port=int(sys.argv[1])):
    pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("command", "processes", "number"),
    [
        ([sys.executable, "-m", "sagerank", "demo"], 2, signal.SIGTERM),  # as soon as there is a server
        ([sys.executable, "-m", "sagerank", "demo"], 4, signal.SIGKILL),  # and when it has started a model
        ([*STARTED, FOREIGN, "PORT"], 5, signal.SIGHUP),
    ],
)
def test_it_ends_when_who_started_it_is_killed(command: list[str], processes: int, number: int) -> None:
    mark = f"MARK=killed-{os.getpid()}-{number}"
    command = [str(free_port()) if word == "PORT" else word for word in command]
    environment = {**os.environ, "MARK": mark.partition("=")[2], "SAGERANK_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        wait_for(lambda: len(_with(mark)) >= processes)
        process.send_signal(number)
    wait_for(lambda: not _with(mark), 30)
    assert process.returncode == -number


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_nothing_is_left_of_a_server_that_ended() -> None:
    mark = f"MARK=ended-{os.getpid()}"
    with serving(MICRO, {"SAGERANK_THREADS": "1", "MARK": mark.partition("=")[2]}):
        assert _with(mark)
    wait_for(lambda: not _with(mark), 1)
