"""The local AWS of a notebook: one line starts it, and whatever the kernel runs afterwards takes it for AWS.

aws = start()
...
aws.stop()
"""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .launch import running


@dataclass(frozen=True, slots=True)
class LocalAws:
    """A local AWS that runs, and this process's environment pointing at it."""

    url: str
    _stack: ExitStack

    def stop(self) -> None:
        """End it with all that was deployed there, and give the environment back. Once more does nothing."""
        self._stack.close()


def start() -> LocalAws:
    """Start a local AWS for this process and its children, until `stop` or the end of the kernel.

    Raises RuntimeError, with the end of its log, where it does not start.
    """
    with ExitStack() as stack:
        log = Path(stack.enter_context(TemporaryDirectory(prefix="local-aws-"))) / "log"
        environment = stack.enter_context(running(log))
        # A profile, a session's token or another endpoint would lead to the real one.
        before = {
            name: text for name, text in os.environ.items() if name.startswith("AWS_") or name in environment
        }
        stack.callback(_exchange, {*before, *environment}, before)
        _exchange(set(before), environment)
        aws = LocalAws(environment["AWS_ENDPOINT_URL"], stack.pop_all())
    atexit.register(aws.stop)
    return aws


def _exchange(gone: set[str], new: dict[str, str]) -> None:
    for name in gone:
        os.environ.pop(name, None)
    os.environ.update(new)
