"""The log while nobody reads it, while it is closed or full, and under a storm: it costs lines, and never a caller's time."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagerank_inference.log import JsonLines, relay

from ..conftest import run_python
from ..servers import running, wait_for

LINUX = sys.platform == "linux"


class Pipe:
    """A pipe that is full at once, on Linux, and read when we like."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        if LINUX:
            fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, 4096)
        self.text = b""

    def fill(self) -> None:
        os.set_blocking(self.writing, False)
        while True:
            try:
                os.write(self.writing, b" " * 512)
            except BlockingIOError:
                break
        os.set_blocking(self.writing, True)

    def entries(self) -> list[dict[str, Any]]:
        """What whole lines were written until now."""
        os.set_blocking(self.reading, False)
        while True:
            try:
                self.text += os.read(self.reading, 1 << 16)
            except BlockingIOError:
                return [json.loads(line) for line in self.text.split(b"\n")[:-1]]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for descriptor in (made.reading, made.writing):
        try:
            os.close(descriptor)
        except OSError:
            continue


def logger(pipe: Pipe, name: str = "sagerank") -> logging.Logger:
    made = logging.Logger(name, logging.INFO)
    made.addHandler(JsonLines(pipe.writing))
    return made


def request_line(number: int) -> str:
    return json.dumps({"event": "request", "number": number, "padding": "x" * 400})


def test_who_logs_never_waits_and_what_was_dropped_is_counted(pipe: Pipe) -> None:
    log, calls = logger(pipe), 30_000
    began = time.monotonic()
    for number in range(calls):
        log.info(request_line(number))
    assert time.monotonic() - began < 10  # it would be for ever

    def written() -> list[int]:
        return [entry["number"] for entry in pipe.entries() if entry["event"] == "request"]

    def dropped() -> int:
        return sum(entry["lines"] for entry in pipe.entries() if entry["event"] == "log_dropped")

    wait_for(lambda: len(written()) + dropped() == calls)
    assert written() == list(range(len(written())))  # those that came while there was room, in their order
    assert 1000 < len(written()) < calls
    log.info(request_line(calls))
    wait_for(lambda: pipe.entries()[-1].get("number") == calls)


def test_it_goes_on_where_it_was_when_writing_works_again(pipe: Pipe, tmp_path: Path) -> None:
    """The disk is full in the middle of a line: the second half follows, and nothing is written twice."""
    log = logger(pipe)
    pipe.fill()
    for number in range(3):
        log.info(request_line(number))
    time.sleep(0.2)  # the thread is in its write
    full = os.open("/dev/full", os.O_WRONLY) if LINUX else os.open(tmp_path, os.O_RDONLY)
    kept = os.dup(pipe.writing)
    os.dup2(full, pipe.writing)
    pipe.text = b""
    wait_for(lambda: len(pipe.entries()) >= 0 and b"x" in pipe.text)
    log.info(request_line(3))
    time.sleep(0.5)
    os.dup2(kept, pipe.writing)
    pipe.text = pipe.text.lstrip(b" ")
    wait_for(lambda: len(pipe.entries()) == 4)
    assert [entry["number"] for entry in pipe.entries()] == [0, 1, 2, 3]
    os.close(full)
    os.close(kept)


def test_a_storm_is_one_line_a_second_with_a_count(pipe: Pipe) -> None:
    log = logger(pipe, "asyncio")
    error = OSError(24, "zebracrossing")
    began = time.monotonic()
    for _ in range(20_000):
        log.error("socket.accept() out of system resource\nsocket: zebracrossing", exc_info=error)
    seconds = time.monotonic() - began
    log.error("Exception in callback score('zebracrossing', 1)\nhandle: <zebracrossing>")
    wait_for(lambda: sum(entry.get("left_out", 0) + 1 for entry in pipe.entries()) == 20_001)
    entries = pipe.entries()
    assert len(entries) <= 3 + seconds + 1
    assert entries[0]["message"] == "socket.accept() out of system resource"
    assert entries[0]["exception"] == "OSError"
    assert "Exception in callback score" in [entry["message"] for entry in entries]
    assert b"zebra" not in pipe.text


def test_a_storm_of_many_kinds_is_a_few_lines_and_requests_are_all_written(pipe: Pipe) -> None:
    handler = JsonLines(pipe.writing)
    others, own = logging.Logger("others"), logging.Logger("sagerank")
    others.addHandler(handler)
    own.addHandler(handler)
    for number in range(5000):
        others.error("failure %d", number)
    for number in range(200):
        own.info(request_line(number))
    wait_for(lambda: sum(entry.get("left_out", 0) + 1 for entry in pipe.entries()) == 5200)
    events = [entry["event"] for entry in pipe.entries()]
    assert events.count("request") == 200
    assert events.count("others") < 150


@pytest.mark.parametrize("full", ["unread", "closed", "no such descriptor"])
def test_a_process_ends_though_its_log_takes_nothing(full: str, pipe: Pipe) -> None:
    if full == "unread":
        pipe.fill()
    elif full == "closed":
        os.close(pipe.reading)
    code = (
        "import logging, os, sys; from sagerank_inference.log import start; start(int(sys.argv[1]))\n"
        "logging.getLogger('sagerank').info('{\"event\": \"last\"}'); raise ValueError('zebracrossing')"
    )
    descriptor = 1000 if full == "no such descriptor" else pipe.writing
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(descriptor)],
        pass_fds=[pipe.writing],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    assert time.monotonic() - began < 20


def test_what_python_and_libraries_would_print_is_a_line_without_their_texts() -> None:
    code = """
import asyncio, logging, threading, warnings
from sagerank_inference.log import start
start()
start()
class Broken:
    def __del__(self):
        raise ValueError("zebracrossing")
broken = Broken()
del broken
def fail(text):
    raise KeyError(text)
thread = threading.Thread(target=fail, args=["zebracrossing"])
thread.start()
thread.join()
warnings.warn("old")
async def serve():
    asyncio.get_running_loop().call_soon(fail, "zebracrossing")
    task = asyncio.ensure_future(asyncio.sleep(0))
    await asyncio.sleep(0.01)
    async def lost():
        fail("zebracrossing")
    asyncio.ensure_future(lost())
    await asyncio.sleep(0.01)
asyncio.run(serve())
logging.getLogger("sagerank").info("not JSON\\nat all")
raise RuntimeError("zebracrossing")
"""
    done = run_python(code)
    assert (done.returncode, done.stderr) == (1, "")
    assert "zebra" not in done.stdout
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(entry["event"], entry.get("exception", "").partition(" at ")[0]) for entry in entries] == [
        ("exception", "ValueError"),
        ("exception", "KeyError"),
        ("py.warnings", ""),
        ("asyncio", "KeyError"),
        ("asyncio", "KeyError"),
        ("sagerank", ""),
        ("failed", "RuntimeError"),
    ]


def test_a_child_never_waits_for_who_reads_our_log(pipe: Pipe) -> None:
    pipe.fill()
    name = "child of the log's test"
    log = logging.getLogger(name)
    log.propagate = False
    log.addHandler(JsonLines(pipe.writing))
    code = (
        "import os\nfor _ in range(200): os.write(1, b'warning\\n' * 8192)\nos.write(2, b'\\xff last words')"
    )
    with relay(name) as output:
        child = subprocess.Popen([sys.executable, "-c", code], stdout=output, stderr=output)
    assert child.wait(60) == 0
    wait_for(lambda: not any(thread.name == name for thread in threading.enumerate()))
    pipe.entries()
    pipe.text = pipe.text.lstrip(b" ")
    wait_for(lambda: any(entry["message"] == "\ufffd last words" for entry in pipe.entries()))
    messages = {entry["message"] for entry in pipe.entries()}
    assert "warning" in messages
    assert any("lines left out" in message for message in messages)


@pytest.mark.parametrize("full", ["unread", "closed", "descriptors closed", "non-blocking"])
def test_the_server_serves_and_ends_whatever_becomes_of_its_output(full: str, pipe: Pipe) -> None:
    process: dict[str, Any] = {"stdout": pipe.writing, "stderr": pipe.writing, "encoding": None}
    if full == "descriptors closed":
        process["preexec_fn"] = lambda: os.closerange(0, 3)
    elif full == "closed":
        os.close(pipe.reading)
    else:
        pipe.fill()
        os.set_blocking(pipe.writing, full != "non-blocking")
    with running(process=process) as server:
        server.wait_until_ready()
        for _ in range(30):
            assert server.post()[0] == 200
        assert server.ping() == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
