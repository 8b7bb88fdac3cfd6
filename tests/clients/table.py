"""The table of clients in docs/api.md, between its two marks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..conftest import ROOT

PAGE = ROOT / "docs/api.md"
_BEGIN, _END = "<!-- clients, as `make clients` finds them -->\n", "<!-- clients end -->\n"
_COLUMNS = ("client", "version", "call", "route", "dialect", "scores")
_HEAD = "".join(f"| {' | '.join(cells)} |\n" for cells in (_COLUMNS, ["---"] * len(_COLUMNS)))

Lines = dict[tuple[str, str], str]  # by client and call


def line(*, client: str, version: str, asked: str, route: str, dialect: str, scores: str) -> str:
    """One client's line. scores: "equal", or what else there is to say about them."""
    cells = (client, version, f"`{asked}`", f"`{route}`" if route else "", dialect, scores)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def read(page: Path = PAGE) -> Lines:
    """The lines as they stand in the page."""
    table = page.read_text(encoding="utf-8").split(_BEGIN)[1].split(_END)[0].removeprefix("\n" + _HEAD)
    return {_key(each): each for each in table.splitlines(keepends=True) if each.strip()}


def write(lines: Iterable[str], page: Path = PAGE) -> None:
    """Put these lines in the place of those that stand in the page."""
    before, rest = page.read_text(encoding="utf-8").split(_BEGIN)
    after = rest.split(_END)[1]
    table = "".join(sorted(lines, key=lambda each: each.lower()))
    page.write_text(f"{before}{_BEGIN}\n{_HEAD}{table}\n{_END}{after}", encoding="utf-8")


def _key(text: str) -> tuple[str, str]:
    cells = [cell.strip() for cell in text.split(" | ")]
    return cells[0].removeprefix("| "), cells[2].strip("`")
