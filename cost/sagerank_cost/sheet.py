"""The parts of a report: tables, charts and sentences, before they are written in a format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from .catalogue import STALE_DAYS, Catalogue
from .discount import Discounts
from .lines import HOURS_PER_MONTH, AtLeast
from .measured import note
from .memory import CACHED

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table, which `key` names in JSON and CSV. Cells are text, numbers or None (not known).

    Text leaves a table with `detail` to --explain, and the columns `minor` where a terminal has no room for them. `shown_as` is what
    people read in place of records that are for machines: one without rows says that they need not see them, and one that is `turned`
    has the records as its columns.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    notes: tuple[str, ...] = ()
    minor: tuple[str, ...] = ()
    detail: bool = False
    turned: bool = False
    shown_as: Table | None = None

    def for_people(self) -> Table:
        """What text, Markdown and HTML show: without columns in which nothing is said."""
        table = self.shown_as or self
        said = [index for index, _ in enumerate(table.columns) if any(row[index] != "" for row in table.rows)]
        return replace(
            table,
            columns=tuple(table.columns[index] for index in said),
            rows=tuple(tuple(row[index] for index in said) for row in table.rows),
        )

    def is_number(self, column: int) -> bool:
        """Whether a column is of numbers and percentages, which are aligned to the right."""
        if self.turned:
            return column > 0
        cells = [row[column] for row in self.rows]
        return all(
            cell is None or isinstance(cell, int | float | Decimal) or str(cell).endswith("%")
            for cell in cells
        )


def markdown(text: str) -> str:
    """Text that stands in a cell of Markdown as it is: neither HTML, nor another cell or line."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


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
    """A line or a cloud of points; a bar is a series of one y and no x. With `labels`, one for each, they are points also among lines."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    labels: tuple[str, ...] = ()


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
    """A report. `monthly` is the US dollars that a budget is compared with; None where it has no total.

    The conclusion comes first, and `command`, which it may end with, stands on a line of its own.
    """

    title: str
    tables: tuple[Table, ...]
    conclusion: tuple[str, ...] = ()
    command: str = ""
    notes: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    explained: tuple[str, ...] = ()
    monthly: Decimal | None = None


def data_notes(
    catalogue: Catalogue, discounts: Discounts | None = None, hit_rate: float = 0.0
) -> tuple[str, ...]:
    """How old the prices are and what is off them, a warning where they are too old, where speeds of the user's own are, and what a hit rate means."""
    age = catalogue.age_days()
    beside = "tax and discounts"
    if discounts not in (None, Discounts()):
        beside = "tax; your discounts are lines of a bill, and off no service's price"
    line = f"Hosting prices of {catalogue.date().isoformat()} ({age} days old), US dollars, without {beside}; a month has {HOURS_PER_MONTH} hours."
    stale = f"WARNING: these prices are older than {STALE_DAYS} days: run `sagerank cost refresh`."
    known = (
        f"{hit_rate:.0%} of the requests are taken to be known where the server keeps scores, on CPUs in modes {' and '.join(sorted(CACHED))}: they are read, tokenised and answered, and not computed. "
        "Look yours up in /metrics; every instance has scores of its own."
    )
    lines = (line, stale if age > STALE_DAYS else None, note(catalogue.folder), known if hit_rate else None)
    return tuple(filter(None, lines))
