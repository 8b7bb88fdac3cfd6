"""Work that is done in steps, and may be left between any two of them. Standard library only."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar, cast

T = TypeVar("T")
# Yields wherever it may be left for something more urgent, or for good: the tokens that are there so far.
Steps: TypeAlias = Generator[int, None, T]


def finish(steps: Steps[T]) -> T:
    """Take all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast(T, end.value)
