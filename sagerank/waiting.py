"""A line on the terminal for what takes long and cannot say how far it is."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def waiting(what: str, seconds: float) -> Iterator[None]:
    """Show from the first second on how long it took so far, beside an estimate. Silent where nobody looks at a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    ended = threading.Event()

    def show() -> None:
        began = time.monotonic()
        while not ended.wait(1):
            passed = time.monotonic() - began
            print(f"\r{what}: {passed:.0f} s of about {seconds:.0f} ", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        print("\r\033[K", end="", file=sys.stderr, flush=True)
