"""Ends of processes: a model's with its server and before it, a server's in time, and those of orphans."""

from __future__ import annotations

import ctypes
import logging
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
    """Have this process killed when its parent ends, however that ends, or has ended before.

    A thread looks once a second; on Linux the kernel does it at once, and also when no more than the parent's thread ends
    that started us.
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


def end_within(seconds: float, code: int) -> None:
    """Have this process end with that code once so much time has passed, though a thread of it hangs."""

    def end() -> None:
        logging.shutdown()
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    with suppress(RuntimeError):  # no thread is left to start: then it ends as it would have
        timer.start()


def reap(ours: Collection[int]) -> None:
    """Take leave of orphans that have ended. As process 1 of a container we get them all, and each keeps a process id.

    ours: children whose exit status is waited for elsewhere. Without Linux's /proc nothing happens.
    """
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended since, or the child is another's meanwhile
            for child in map(int, children.read_text(encoding="ascii").split()):
                if child not in ours:
                    os.waitpid(child, os.WNOHANG)
