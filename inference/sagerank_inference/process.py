"""What the operating system is told of our processes: a model ends with its server and dies before it, zombies are reaped."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def end_with(parent: int) -> None:
    """Have this process killed when its parent ends, however that ends: the kernel on Linux, a thread elsewhere.

    Where the parent has ended before, this process does so now. The kernel's parent is the *thread* that started us.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def die_first() -> None:
    """Have the kernel end this process before any other when memory runs out. Linux only; elsewhere nothing happens."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def reap(ours: Collection[int]) -> None:
    """Take leave of orphans that have ended. As process 1 of a container we get them all, and each keeps a process id.

    ours: children whose exit status is waited for elsewhere. Without Linux's /proc nothing happens.
    """
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended since, or the child is another's meanwhile
            for child in map(int, children.read_text(encoding="ascii").split()):
                if child not in ours:
                    os.waitpid(child, os.WNOHANG)
