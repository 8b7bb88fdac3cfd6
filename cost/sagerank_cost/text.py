"""Tables and sentences as text: no line is longer than the terminal, and none is broken where there is no terminal."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TextIO

Cells = Sequence[Sequence[str]]  # the head first; all rows equally long

_GAP = "  "
_NUMBER = re.compile(r"(≥ )?[-+]?[\d.,]+(e[-+]?\d+)?( ?%)?( <)?")


def width(stream: TextIO | None = None) -> int | None:
    """COLUMNS, or the columns of the terminal behind the stream (default: standard output); None for a pipe or a file."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or 80
    except (
        AttributeError,
        OSError,
        ValueError,
    ):  # no standard output, no terminal, or one that was replaced or closed
        return None


def fit(*parts: str | Cells, stream: TextIO | None = None) -> str:
    """Sentences and tables, one below the other, as wide as the stream's terminal."""
    columns = width(stream)
    return "\n".join(
        prose(part, columns) if isinstance(part, str) else table(part, columns) for part in parts
    )


def examples(*lines: str) -> str:
    """The end of a command's help: lines to try."""
    return "\n  ".join(("examples:", *lines))


def prose(text: str, columns: int | None) -> str:
    """Each line over as many lines as it needs, all as far to the right as it begins. Words stay whole."""
    lines = [(line[: len(line) - len(line.lstrip())], line.strip()) for line in text.splitlines()]
    return "\n".join(hang(lead, line, columns) for lead, line in lines)


def hang(lead: str, text: str, columns: int | None) -> str:
    """A text behind its lead, with room for it on the lines after the first; below it where the lead is long."""
    if columns is None:
        return f"{lead}{text}".rstrip()
    margin = min(len(lead), 2 * columns // 3)
    first, *rest = _wrap(text, columns, " " * margin) or [""]
    if not lead.strip():
        return "\n".join([first, *rest])
    if len(lead) > margin or len(first) > columns:
        return "\n".join([prose(lead.rstrip(), columns), first, *rest])
    return "\n".join([f"{lead}{first[margin:]}".rstrip(), *rest])


def command(line: str, columns: int | None) -> str:
    """A command that can be copied whole: where it is continued on the next line, a backslash says so. Options keep their values."""
    if columns is None:
        return line
    together = re.sub(r"(--\S+) (?!-)", "\\1\0", line)
    return " \\\n".join(_wrap(together, columns - 2, "    ")).replace("    ", "", 1).replace("\0", " ")


def flat(text: str) -> str:
    """Somebody's text on one line, without the control characters that would move the terminal's cursor."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


def _wrap(text: str, columns: int, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        columns,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(cells: Cells, columns: int | None) -> str:
    """Aligned columns under a rule; the rows become records where the columns do not fit."""
    cells = [[" ".join(cell.split()) for cell in row] for row in cells]
    for lines in range(1, _tallest(cells) + 1):
        widths = _widths(cells, lines)
        if columns is None or _total(widths) <= columns:
            return _aligned(cells, widths)
    head, *rows = cells
    return "\n\n".join(record(row[0], zip(head[1:], row[1:], strict=True), columns) for row in rows)


def fits(cells: Cells, columns: int | None) -> bool:
    """Whether `table` can keep the columns beside one another."""
    return columns is None or _total(_widths(cells, _tallest(cells))) <= columns


def record(heading: str, fields: Iterable[tuple[str, str]], columns: int | None) -> str:
    """A heading, and below it a line for each name and value; what has no value is left out."""
    filled = [(name, value) for name, value in fields if value]
    room = max((len(name) for name, _ in filled), default=0)
    lines = [hang(f"  {name:<{room}}{_GAP}", value, columns) for name, value in filled]
    return "\n".join([prose(heading or "-", columns), *lines])


def _tallest(cells: Cells) -> int:
    return max(1, *(len(name.split()) for name in cells[0]))


def _widths(cells: Cells, lines: int) -> list[int]:
    """What each column needs, with its head on at most so many lines."""
    head, *rows = cells
    names = [
        next((size for size in range(1, len(name)) if _holds(name, size, lines)), len(name)) for name in head
    ]
    return [max(widths) for widths in zip(names, *([len(cell) for cell in row] for row in rows), strict=True)]


def _holds(name: str, size: int, lines: int) -> bool:
    wrapped = _wrap(name, size)
    return len(wrapped) <= lines and max(map(len, wrapped)) <= size


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _aligned(cells: Cells, widths: Sequence[int]) -> str:
    head, *rows = cells
    # A column with numbers is one of numbers: a word in it says why one is missing.
    right = [any(_NUMBER.fullmatch(row[column]) for row in rows) for column in range(len(head))]
    names = [_wrap(name, max(size, 1)) or [""] for name, size in zip(head, widths, strict=True)]
    tall = max(map(len, names))
    over = list(zip(*([""] * (tall - len(name)) + name for name in names), strict=True))

    def line(row: Sequence[str]) -> str:
        padded = (
            f"{cell:>{size}}" if number else f"{cell:<{size}}"
            for cell, size, number in zip(row, widths, right, strict=True)
        )
        return _GAP.join(padded).rstrip()

    return "\n".join([*map(line, over), "─" * _total(widths), *map(line, rows)])
