"""What a report is: tables, charts and sentences, in no form yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from .catalogue import STALE_DAYS, Catalogue


@dataclass(frozen=True, slots=True)
class Table:
    """key names the table in JSON and CSV. Cells are text, numbers or None (not known)."""

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """A line or a cloud of points; a bar is a series of one y and no x."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """kind: bars, lines or points. log: the axes that are logarithmic."""

    title: str
    kind: str
    x: str
    y: str
    series: tuple[Series, ...]
    log: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """monthly: dollars that a budget is compared with; None where the report has no total."""

    title: str
    tables: tuple[Table, ...]
    conclusion: tuple[str, ...]
    notes: tuple[str, ...]
    charts: tuple[Chart, ...] = field(default=())
    explained: tuple[str, ...] = field(default=())
    monthly: Decimal | None = None


def data_notes(catalogue: Catalogue) -> tuple[str, ...]:
    age = catalogue.age_days()
    line = f"Hosting prices of {catalogue.date().isoformat()} ({age} days old), US dollars, without tax and discounts; a month has 730 hours."
    stale = f"WARNING: these prices are older than {STALE_DAYS} days: run `sagerank cost refresh`."
    return (line, stale) if age > STALE_DAYS else (line,)
