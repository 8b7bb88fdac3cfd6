"""Progress bars: one for each step of a long command, on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Step, done, total. What follows ", " in the step's name stands beside its bar.
Progress = Callable[[str, int, int], None]


@contextmanager
def bars() -> Iterator[Progress]:
    from tqdm import tqdm

    shown: dict[str, tqdm[None]] = {}

    def close() -> None:
        for bar in shown.values():
            bar.close()

    def progress(step: str, done: int, total: int) -> None:
        name, _, detail = step.partition(", ")
        if name not in shown:
            close()
            # What an earlier run did is not this one's speed.
            shown[name] = tqdm(total=total, initial=done, desc=name[:60], disable=None)
        shown[name].set_postfix_str(detail)
        shown[name].update(done - shown[name].n)

    try:
        yield progress
    finally:
        close()
