"""The parser of every command: a name that is not known gets the nearest one, and help shows examples as they are written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from sagerank_cost import near, nearest

# What a command is for, in the order of a first week; `sagerank --help` lists them so.
GROUPS = ("try", "measure", "decide", "deploy", "make", "set up")


@dataclass(frozen=True, slots=True)
class _NotGiven:
    """Stands for an optional word's default while words are parsed: a word that equals it is not taken for none. Help shows it as it is."""

    default: Any

    def __str__(self) -> str:
        return str(self.default)


class Parser(argparse.ArgumentParser):
    """argparse's parser with whole names of options only, and errors of one sentence. Subparsers are of this class too."""

    def __init__(self, **named: Any) -> None:
        named.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**named, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse, or end with what this parser, and not the one above it, knows about a word that is wrong."""
        words = sys.argv[1:] if args is None else list(args)
        self._check_options(words)
        optional = [each for each in self._actions if not each.option_strings and each.nargs == "?"]
        for action in optional:
            action.default = _NotGiven(action.default)
        try:
            options, rest = super().parse_known_args(words, namespace)
        finally:
            for action in optional:
                action.default = action.default.default
        for action in optional:
            if isinstance(getattr(options, action.dest), _NotGiven):
                # Before Python 3.13, an optional word is not found behind an option: FILE in `QUERY --top-n 3 FILE`.
                late = rest and (rest[0] == "-" or not rest[0].startswith("-"))
                value = self._get_values(action, [rest.pop(0)]) if late else action.default
                setattr(options, action.dest, value)
        for action in self._actions:
            # As `--url "$URL"` gives it where the variable is not set.
            if action.option_strings and getattr(options, action.dest, None) == "" != action.default:
                self.error(f"{action.option_strings[-1]} is empty: give it a value, or leave it out")
        if rest:
            self.error(f"nothing takes {rest[0]!r}: put quotes round words that belong together")
        return options, []

    def _check_options(self, words: Sequence[str]) -> None:
        """Look for misspelt options first, for each leads to other errors: of its value, or of what is then missing."""
        commands = {
            name: sub
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)
            for name, sub in action.choices.items()
        }
        for word in words:
            if word == "--" or word in commands:
                return
            name = word.partition("=")[0]
            if name.startswith("--") and " " not in name and name not in self._option_string_actions:
                meant = near(name, self._option_string_actions)
                hint = f": did you mean {', '.join(meant)}?" if meant else ""
                if any(name in sub._option_string_actions for sub in commands.values()):
                    hint = " here: give it after the command"
                self.error(f"there is no option {name}{hint}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            option = action.option_strings[-1:]
            what = f"{option[0]} is {value!r}" if option else f"there is no {value!r}"
            raise argparse.ArgumentError(None, f"{what}: {nearest(str(value), action.choices)}")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see `{self.prog} --help`)\n")


def overview(commands: Any) -> str:
    """The commands of a subparsers action, by what they are for."""
    return "\n".join(
        f"\n{group}:\n"
        + "\n".join(
            f"  {name:<12}{sub.description}"
            for name, sub in commands.choices.items()
            if sub.get_default("group") == group
        )
        for group in GROUPS
    )
