"""A process of its own for what is measured: its memory and its threads are not those of the command that asks, nor of
the other subjects.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Self

from ..evaluation import EvaluationError


class Remote:
    """One object in a fresh process: made there by `make(*arguments)`, which must be importable, and called by method name.

    Exceptions of the object are raised here as they were; EvaluationError where the process died.
    """

    def __init__(
        self, make: Callable[..., object], *arguments: object, environment: dict[str, str] | None = None
    ) -> None:
        # spawn: a fork would carry this process's libraries, and their locks, along.
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _begin, (environment or {},))
        try:
            self._run(_make, make, arguments)
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: object) -> Any:
        return self._run(_call, method, arguments)

    def _run(self, function: Callable[..., object], *arguments: object) -> object:
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise EvaluationError(
                "The measured process ended before it answered: out of memory? Give fewer or shorter documents."
            ) from None

    def close(self) -> None:
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


# In the child: the object.
_held: list[object] = []


def _begin(environment: dict[str, str]) -> None:
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then closes the pool


def _make(make: Callable[..., object], arguments: tuple[object, ...]) -> None:
    _held.append(make(*arguments))


def _call(method: str, arguments: tuple[object, ...]) -> object:
    return getattr(_held[0], method)(*arguments)
