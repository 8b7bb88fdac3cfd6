"""Arguments of `sagerank cost`, and the cells of a scenarios file: shown and read by the table of options. None goes unheard."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import CostError, values
from .options import GROUPS, OPTIONS, Option

# The commands: what each says, and lines to try.
WHAT = {
    "report": "models compared on CPU, GPU and serverless, and a decision (the default)",
    "fit": "which instances and serverless sizes hold a model",
    "compare": "all feasible deployments, and why others are not",
    "simulate": "a month of the cheapest deployment, or of the one you name, request by request",
    "breakeven": "from how many requests a month it is cheaper than serverless and services billed by use",
    "diff": "the monthly change between two synthesised templates, folders or configurations",
    "refresh": "prices again from the AWS Price List API",
    "measure": "keep a measured speed in place of the estimate: an endpoint's, a benchmark's, or by hand",
}


EXAMPLES = {
    "report": (
        "sagerank cost --rate 0.2 --p95 2 --min-ndcg 49",
        "sagerank cost --model tiny --format html --output cost.html",
    ),
    "fit": (
        "sagerank cost fit --model base --max-tokens 8192",
        "sagerank cost fit --model tiny --precision int8",
    ),
    "compare": (
        "sagerank cost compare --rate 5 --model turbo",
        "sagerank cost compare --mode serverless --p95 inf",
    ),
    "simulate": (
        "sagerank cost simulate --rate 5 --model tiny --instance ml.c7g.large",
        "sagerank cost simulate --mode serverless --rate 0.05 --p95 inf",
    ),
    "breakeven": (
        "sagerank cost breakeven --model tiny",
        "sagerank cost breakeven --service cohere-rerank --format json",
    ),
    "diff": (
        "sagerank cost diff before.yaml after.yaml --max-monthly 500",
        "sagerank cost diff old/cdk.out cdk.out",
    ),
    "refresh": ("sagerank cost refresh --region eu-west-1", "sagerank cost refresh --data prices --yes"),
    "measure": (
        "sagerank cost measure --endpoint mine --instance ml.c7i.large --model tiny",
        "sagerank cost measure --seconds 0.8 --instance ml.c7g.large --model tiny",
        "sagerank cost measure --from bench.json --instance ml.c7i.xlarge",
    ),
}

# Names of options, and the text that was given for each: "" for a flag.
Given = Sequence[tuple[str, str]]
# Options of which the first makes the others meaningless.
_REPLACED = {
    "log": ("rate", "swing", "documents", "tokens", "variation"),
    "scenarios": ("service",),
    "from": ("documents", "tokens", "precision", "seconds", "endpoint", "endpoint-url", "profile", "region"),
    "seconds": ("endpoint", "endpoint-url", "profile", "region"),
}


class _Keep(argparse.Action):
    """Keep what is given, in order and as text: so a value differs from a default that equals it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002, argparse gives it
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        kept = (self.option_strings[-1].removeprefix("--"), "" if self.nargs == 0 else values)
        setattr(namespace, self.dest, [*getattr(namespace, self.dest, ()), kept])


def add_options(parser: argparse.ArgumentParser, command: str = "") -> None:
    """Add all options, and show those that the command uses: `read` has an answer for the others."""
    # A path stays text, so that an empty one is seen; that its type is Path has a shell complete files.
    parser.register("type", Path, str)
    for title, group in GROUPS.items():
        section = parser.add_argument_group(title)
        for option in group:
            kind: dict[str, Any] = {"nargs": 0}
            if option.read is not None:
                kind = {"metavar": option.dest.upper(), "type": Path if option.read is values.path else str}
            used = not command or command in option.commands
            section.add_argument(
                f"--{option.name}",
                action=_Keep,
                # A sub-command's own, as argparse has it replace what stood before it.
                dest="after" if command else "before",
                default=argparse.SUPPRESS,
                help=option.description if used else argparse.SUPPRESS,
                **kind,
            )


def given(parsed: argparse.Namespace) -> Given:
    """What was given before the sub-command, and after it."""
    return (*getattr(parsed, "before", ()), *getattr(parsed, "after", ()))


def read(command: str, texts: Given) -> argparse.Namespace:
    """The command's options by name, and `command`, `texts` and `given`: the names of the options that were.

    Raises CostError for what the command does not use, for a value that it cannot take, and for options of which one makes
    another meaningless.
    """
    names = {name for name, _ in texts}
    _check(command, names)
    found = {
        option.dest: _value(option, [text for name, text in texts if name == option.name])
        for option in OPTIONS.values()
    }
    return argparse.Namespace(command=command, texts=tuple(texts), given=frozenset(names), **found)


def check_modes(options: argparse.Namespace, modes: Sequence[str]) -> None:
    """Raise CostError for an option that none of the modes uses."""
    for name in sorted(options.given):
        users = OPTIONS[name].modes
        if users and not set(users) & set(modes):
            raise CostError(
                f"--{name} has no effect with mode {either(modes)}: leave it out, or add --mode {either(users)}."
            )


def either(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def _check(command: str, names: set[str]) -> None:
    for name in sorted(names):
        users = OPTIONS[name].commands
        if command not in users:
            raise CostError(f"--{name} has no effect on {command}: leave it out; {either(users)} takes it.")
    for name, others in _REPLACED.items():
        unheard = [f"--{other}" for other in others if other in names]
        if name in names and unheard:
            raise CostError(f"--{name} stands in place of {', '.join(unheard)}: give one or the other.")


def _value(option: Option, texts: Sequence[str]) -> Any:
    if not texts:
        return option.default
    if option.read is None:
        return True
    if len(texts) > 1 and not option.many:
        raise CostError(f"--{option.name} is given {len(texts)} times: give it once.")
    found = tuple(dict.fromkeys(_each(option.name, option.read, texts)))
    return found if option.many else found[0]


def _each(name: str, reader: Callable[[str], Any], texts: Sequence[str]) -> Iterator[Any]:
    for text in texts:
        if not text.strip():
            raise CostError(f"--{name} is empty: give it a value, or leave it out.")
        try:
            yield reader(text)
        except CostError:
            raise
        except ValueError as error:
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            raise CostError(f"--{name} is {shown!r}: {error}.") from None
