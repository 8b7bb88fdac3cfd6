"""What a command says to the person at the terminal, and asks."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal

from sagerank_cost.text import fit

from . import OperateError
from .invoke import STARTING


def print_json(value: object) -> None:
    print(
        json.dumps(
            value, indent=2, default=lambda each: float(each) if isinstance(each, Decimal) else str(each)
        )
    )


def show(lines: Iterable[str]) -> None:
    print(fit(*lines))


def say(text: str) -> None:
    print(fit(text, stream=sys.stderr), file=sys.stderr)


def say_as_it_is(text: str) -> None:
    """Say what others have laid out."""
    print(text, file=sys.stderr)


def agreed(options: argparse.Namespace, question: str) -> bool:
    if options.yes:
        return True
    if not sys.stdin.isatty():
        raise OperateError("Nobody can be asked here: give --yes.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


FIRST_INSTANCE = "the first instance usually takes AWS minutes"


@contextmanager
def watching_start(endpoint: str) -> Iterator[Callable[[float], None]]:
    """As `watching`, for the first instance of an endpoint that has none: what is yielded hears the seconds."""
    with watching(endpoint, FIRST_INSTANCE, "Stopped waiting.") as progress:
        yield lambda seconds: progress(STARTING, seconds)


@contextmanager
def watching(what: str, usual: str, interrupted: str) -> Iterator[Callable[[str, float], None]]:
    """Show progress on a line that is written over, and elsewhere a line for each new status; `interrupted` is said at Ctrl-C, unless it is empty.

    usual: how long it takes, said once.
    """
    last = ""

    def progress(status: str, seconds: float) -> None:
        nonlocal last
        if not last:
            say(f"Waiting for {what}: {usual}")
        if sys.stderr.isatty():
            print(f"\r{what}: {status}, {seconds:.0f} s", end="", file=sys.stderr, flush=True)
        elif status != last:
            say(f"{what}: {status}")
        last = status

    try:
        yield progress
    except KeyboardInterrupt:
        if interrupted:
            say(f"\n{interrupted}")
        raise
    finally:
        if last and sys.stderr.isatty():
            say("")
