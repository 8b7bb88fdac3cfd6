"""The parts of a report: tables, charts and sentences, before they are written in a format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from .catalogue import STALE_DAYS, Catalogue
from .lines import AtLeast
from .measured import note

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table, which `key` names in JSON and CSV. Cells are text, numbers or None (not known).

    Text leaves a table with `detail` to --explain, and the columns `minor` where a terminal has no room for them.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    notes: tuple[str, ...] = ()
    minor: tuple[str, ...] = ()
    detail: bool = False

    def is_number(self, column: int) -> bool:
        """Whether a column is of numbers and percentages, which are aligned to the right."""
        cells = [row[column] for row in self.rows]
        return all(
            cell is None or isinstance(cell, int | float | Decimal) or str(cell).endswith("%")
            for cell in cells
        )


def shown(value: object) -> str:
    """A cell as a reader sees it."""
    if value is None:
        return "-"
    if isinstance(value, AtLeast):
        return f"≥ {shown(Decimal(value))}"
    if isinstance(value, Decimal):
        return f"{value:,f}" if abs(value) >= 1 else f"{value:f}"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)


def tabulate(
    key: str, title: str, columns: Mapping[str, Callable[[Item], object]], items: Iterable[Item], *notes: str
) -> Table:
    """A table with a row for every item: a column's cell is what its function gives for the item."""
    rows = tuple(tuple(cell(item) for cell in columns.values()) for item in items)
    return Table(key=key, title=title, columns=tuple(columns), rows=rows, notes=notes)


@dataclass(frozen=True, slots=True)
class Series:
    """A line or a cloud of points; a bar is a series of one y and no x."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart of bars, lines or points. `x` and `y` label the axes; `log` and `money` name those that are logarithmic, and in dollars."""

    title: str
    kind: str
    series: tuple[Series, ...]
    x: str = ""
    y: str = ""
    log: str = ""
    money: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report. `monthly` is the US dollars that a budget is compared with; None where it has no total."""

    title: str
    tables: tuple[Table, ...]
    conclusion: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    explained: tuple[str, ...] = ()
    monthly: Decimal | None = None


def data_notes(catalogue: Catalogue) -> tuple[str, ...]:
    """How old the prices are, a warning where that is too old, and where speeds of the user's own are."""
    age = catalogue.age_days()
    line = f"Hosting prices of {catalogue.date().isoformat()} ({age} days old), US dollars, without tax and discounts; a month has 730 hours."
    stale = f"WARNING: these prices are older than {STALE_DAYS} days: run `sagerank cost refresh`."
    return tuple(filter(None, (line, stale if age > STALE_DAYS else None, note(catalogue.folder))))
