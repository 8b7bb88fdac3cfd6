"""Reference pages that the program writes: its commands, the options of a deployment, and the server's settings."""

from __future__ import annotations

import argparse
import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from sagerank.cli import _parser
from sagerank_inference.settings import Settings
from sagerank_infra.config import PRESETS, json_schema
from sagerank_infra.modes import MODES


def cli() -> str:
    """Every command: what it does, how it is called, each option, and its examples."""
    parts = ["# Commands", "Every option of every command, as `sagerank COMMAND --help` prints them."]
    for depth, parser in [(2, _parser()), *_commands(_parser())]:
        parts.append(f"{'#' * depth} `{parser.prog}`")
        about = (parser.description or "").strip()
        # One that is laid out has lines of its own.
        parts.append(_text(about) if "\n" in about else _prose(about))
        parts.append(_text(parser.format_usage().removeprefix("usage: ")))
        if rows := list(_rows(parser)):
            parts.append("\n".join(["| argument | what |", "| --- | --- |", *rows]))
        if parser.epilog:
            parts.append(_text(parser.epilog.replace("%(prog)s", parser.prog)))
    return "\n\n".join(parts) + "\n"


def settings() -> str:
    """The server's environment variables, with the comment that stands beside each in its class."""
    source = inspect.getsource(Settings)
    rows = []
    for field in fields(Settings):
        line = re.search(rf"^    {field.name}: [\w.]+ = (.+?)  # ?(?:noqa: \S+ - )?(.+)$", source, re.M)
        assert line, field.name
        default = re.sub(r"^Path\((.+)\)$", r"\1", line[1]).replace("_", "").strip('"')
        rows.append(f"| `SAGERANK_{field.name.upper()}` | {default} | {line[2]} |")
    table = "\n".join(["| variable | default | what |", "| --- | --- | --- |", *rows])
    return f"# Settings of the server\n\nHow they act together: [the server](../server.md#settings).\n\n{table}\n"


def options() -> str:
    """Every option of a deployment with its default, as the JSON Schema has them."""
    rows = list(_options(json_schema()["properties"], _flat(PRESETS["prod"](MODES["realtime"]))))
    head = "| option | default | `prod` | what | what is allowed |"
    table = "\n".join([head, "| --- | --- | --- | --- | --- |", *rows])
    return f"""# Options of a deployment

`-c option=value` of `sagerank deploy`, dotted as here, or a file with `--config`: [how they are given](../deploy.md#configuration). An empty
default means what its text says. `[]` follows what a list holds one or more of. The column `prod` is what that preset says instead, in mode
`realtime`: the modes that scale to zero (`async`, `scale-to-zero`, `batch`) start from `autoscaling.min` 0 with both presets, and all but `realtime` are updated all at once.

{table}
"""


PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli,
    "reference/options.md": options,
    "reference/settings.md": settings,
}


def _flat(preset: dict[str, Any], above: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    found: dict[str, Any] = {}
    for name, value in preset.items():
        found |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return found


def _shown(value: Any) -> str:
    return "" if value in ("", None, []) else f"`{json.dumps(value).strip(chr(34))}`"


def _options(properties: dict[str, Any], prod: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, facts in properties.items():
        inner, name = facts.get("items", facts), above + name
        if "properties" in inner:
            yield f"| **`{name}`** | | | {_prose(_cell(facts['description']))} | |"
            yield from _options(inner["properties"], prod, f"{name}{'[]' if inner is not facts else ''}.")
            continue
        low, high = inner.get("minimum"), inner.get("maximum")
        if "enum" in inner:
            allowed = ", ".join(filter(None, map(str, inner["enum"])))
        elif high is not None:
            allowed = f"{low:g} to {high:g}"
        else:
            allowed = "" if low is None else f"at least {low:g}"
        shown, instead = _shown(facts.get("default")), _shown(prod.get(name))
        yield f"| `{name}` | {shown} | {instead if name != 'preset' else ''} | {_prose(_cell(facts['description']))} | {_prose(_cell(allowed))} |"


def _commands(
    parser: argparse.ArgumentParser, depth: int = 2
) -> Iterator[tuple[int, argparse.ArgumentParser]]:
    seen = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                if sub.prog not in seen:  # an alias is the same parser again
                    seen.add(sub.prog)
                    yield depth, sub
                    yield from _commands(sub, depth + 1)


def _text(laid_out: str) -> str:
    return f"```text\n{laid_out.strip()}\n```"


def _rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    formatter = parser._get_formatter()
    for action in parser._actions:
        if (
            isinstance(action, argparse._SubParsersAction | argparse._HelpAction)
            or action.help == argparse.SUPPRESS
        ):
            continue
        name = formatter._format_action_invocation(action)
        text = formatter._expand_help(action) if action.help else ""
        yield f"| `{_cell(name)}` | {_prose(_cell(text))} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _prose(text: str) -> str:
    """Help as Markdown: its signs are text."""
    return re.sub(r"([*_<>`\[\]])", r"\\\1", text)
