"""Line items of a month, each to the cent, and by what each rate is billed: the hour, the second, the gigabyte or the month.

What has no known price is named: a total without it is a lower bound, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

from . import CostError
from .catalogue import Catalogue, Price

CENT = Decimal("0.01")
HOURS_PER_MONTH = 730
# The unit of an item of rates.csv, and how many of it one piece of the item is billed for in a month.
_BILLED = {
    "alarm": ("alarm-month", 1),
    "dashboard": ("dashboard-month", 1),
    "data_in": ("GB", 1),
    "data_out": ("GB", 1),
    "kms_key": ("key-month", 1),
    "logs_ingest": ("GB", 1),
    "metric": ("metric-month", 1),  # of one's own, such as one that a filter reads from a log
    "nat_gateway": ("hour", HOURS_PER_MONTH),
    "provisioned": ("second", HOURS_PER_MONTH * 3600),  # a warm worker
    "public_ipv4": ("hour", HOURS_PER_MONTH),
    "volume": ("GB-month", 1),
    "vpc_endpoint_gb": ("GB", 1),
    "vpc_endpoint": ("hour", HOURS_PER_MONTH),  # an interface endpoint in one zone
}


@dataclass(frozen=True, slots=True)
class Line:
    """One item of a bill: quantity x price, to the cent."""

    name: str
    quantity: Decimal
    unit: str
    price: Price

    @property
    def usd(self) -> Decimal:
        return (self.quantity * self.price.usd).quantize(CENT, ROUND_HALF_UP)


class AtLeast(Decimal):
    """US dollars that are a lower bound, as lines of the total have no known price: those in `lacks`, where they are told."""

    lacks: tuple[str, ...]

    def __new__(cls, value: Decimal, lacks: Iterable[str] = ()) -> AtLeast:
        bound = super().__new__(cls, value)
        bound.lacks = tuple(lacks)
        return bound


def total(lines: Iterable[Line]) -> Decimal:
    """The sum in US dollars."""
    return sum((line.usd for line in lines), Decimal("0.00"))


@dataclass(slots=True)
class Statement:
    """Line items of a month in one region, by a name of their own; `unknown`, those without a price, by name and why; and notes.

    `by_use` are, by name and why, those that are nothing unless they are used, where nobody said how much. Everything that stands beside a model is priced here, whether a template or a configuration asks for it.
    """

    catalogue: Catalogue
    region: str
    lines: dict[str, Line] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    by_use: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def usd(self) -> Decimal:
        """The sum, an AtLeast where a line has no known price."""
        known = total(self.lines.values())
        return AtLeast(known, self.unknown) if self.unknown else known

    def leave_out(self, name: str, why: str) -> None:
        """Name a line whose price is not known."""
        self.unknown[name] = why
        self.notes.append(_left_out(name, why))

    @property
    def said(self) -> list[str]:
        """The notes that are not of unknown lines."""
        left_out = {_left_out(name, why) for name, why in self.unknown.items()}
        return [note for note in self.notes if note not in left_out]

    def add_hours(self, instance: str, hours: Decimal, name: str, *, key: str = "") -> None:
        """Hours of an instance type. Raises CostError where its price is not known, as a total means nothing then."""
        price = self.catalogue.hosting(self.region, instance)
        self.lines[key or name] = Line(name, hours, "hour", price)

    def add(
        self,
        item: str,
        count: Decimal | int,
        name: str,
        *,
        memory_mb: int | None = None,
        key: str = "",
        label: str = "",
    ) -> None:
        """A month of `count` pieces of an item of rates.csv; where its price is not known, `label` is left out."""
        unit, quantity = _BILLED[item]
        try:
            price = self.catalogue.rate(self.region, item, memory_mb)
        except CostError as error:
            self.leave_out(label or name, str(error))
        else:
            self.lines[key or name] = Line(name, count * Decimal(quantity), unit, price)


def _left_out(name: str, why: str) -> str:
    return f"not counted: {name} ({why})"
