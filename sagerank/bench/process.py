"""Processes of their own for what is measured: their memory and threads are those of no other subject, nor of the command that asks.

None takes a file of the current directory for a module: `-P` keeps that folder off the import path.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from ..evaluation import EvaluationError

PYTHON = (sys.executable, "-P")


class Remote:
    """One object in a fresh process: made there by `make(*arguments)`, which must be importable, and called by method name.

    Exceptions of the object are raised here as they were; EvaluationError where the process died.
    """

    def __init__(
        self, make: Callable[..., object], *arguments: object, environment: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [*PYTHON, "-m", __name__],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self._ask(make, arguments)
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: object) -> Any:
        """What the object's method returns."""
        return self._ask(method, arguments)

    def _ask(self, function: Callable[..., object] | str, arguments: tuple[object, ...]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(pickle.dumps((function, arguments)))
            self._process.stdin.flush()
            result, error = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            raise EvaluationError(
                "The measured process ended before it answered: out of memory? Give fewer or shorter documents."
            ) from None
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def printed(module: str, *arguments: object) -> Any:
    """The JSON that a module prints when it runs alone. Raises EvaluationError with the last line of its standard error."""
    done = completed([*PYTHON, "-m", module, *map(str, arguments)])
    if done.returncode:
        reason = last_words(done.stderr, f"it ended with {done.returncode}: out of memory?")
        raise EvaluationError(f"The measured process failed: {reason}")
    return json.loads(done.stdout)


def completed(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """A command that has ended, well or not, and what it wrote: UTF-8 whatever the locale."""
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False, **options
    )


def last_words(stderr: Path | str, otherwise: str) -> str:
    """The last line of a failed process's stderr that says something, at most 300 characters of it."""
    text = stderr.read_text(encoding="utf-8", errors="replace") if isinstance(stderr, Path) else stderr
    lines = [line.strip() for line in text.splitlines() if any(letter.isalnum() for letter in line)]
    return lines[-1][:300] if lines else otherwise


def main() -> None:
    """The child of a Remote: make the object that the first message asks for, then call it until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then closes this process
    # Libraries print. The answers keep stdout to themselves, and what is printed goes to stderr.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    subject: object = None
    with suppress(EOFError):
        while True:
            function, arguments = pickle.load(sys.stdin.buffer)
            result = error = None
            try:
                if isinstance(function, str):
                    result = getattr(subject, function)(*arguments)
                else:
                    subject = function(*arguments)
            except Exception as raised:
                error = raised
            answers.write(pickle.dumps((result, error)))
            answers.flush()


if __name__ == "__main__":
    main()
