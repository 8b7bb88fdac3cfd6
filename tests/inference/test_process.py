"""Real processes that are orphaned, hang or become zombies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from ..conftest import run_python
from ..servers import wait_for

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's kernel")


def ends(pid: int) -> None:
    """Wait until there is no such process; one that has ended counts as none."""

    def gone() -> bool:
        done = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()[:1] in ("", "Z")

    wait_for(gone, 20)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_child_ends_with_its_parent_with_and_without_the_kernels_help(platform: str) -> None:
    child = (
        "import os, sys, time; from sagerank_inference.process import end_with\n"
        f"sys.platform = {platform!r}; end_with(os.getppid()); print(os.getpid(), flush=True); time.sleep(600)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        process.kill()
        ends(pid)


def test_a_child_whose_parent_has_ended_before_ends_at_once() -> None:
    done = run_python(
        "import time; from sagerank_inference.process import end_with; end_with(2**30); time.sleep(600)"
    )
    assert done.returncode == -signal.SIGKILL


def test_a_process_that_a_thread_holds_up_ends_in_time() -> None:
    code = """
import logging, threading
from sagerank_inference.log import start
from sagerank_inference.process import end_within
start()
threading.Thread(target=threading.Event().wait).start()
end_within(0.2, 7)
logging.getLogger("sagerank").info('{"event": "last"}')
"""
    done = run_python(code)
    assert (done.returncode, json.loads(done.stdout)["event"]) == (7, "last")


@linux
def test_orphans_are_reaped_and_our_own_children_are_not() -> None:
    code = """
import ctypes, os, subprocess, sys, threading, time
from pathlib import Path
from sagerank_inference.process import reap
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER: orphans come to us, as to process 1
def zombies():
    stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
    return sum(stat[:2] == ["Z", str(os.getpid())] for stat in stats)
def wait(condition):
    while not condition():
        time.sleep(0.01)
own = subprocess.Popen(["/bin/sh", "-c", "exit 7"])
running = subprocess.Popen(["/bin/sh", "-c", "read x"], stdin=subprocess.PIPE)
for _ in range(3):
    subprocess.run(["/bin/sh", "-c", "(sleep 0.1) & exit 0"])
threads = [threading.Thread(target=subprocess.run, args=(["/bin/sh", "-c", "(sleep 0.1) & exit 0"],)) for _ in range(2)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
wait(lambda: zombies() == 6)
reap([own.pid, running.pid])
assert zombies() == 1, zombies()
assert own.wait() == 7
assert running.poll() is None
running.communicate()
reap([])
"""
    done = run_python(code)
    assert (done.returncode, done.stderr) == (0, "")
