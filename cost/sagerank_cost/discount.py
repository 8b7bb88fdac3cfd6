"""What a contract takes off the list prices: lines of their own below zero, so that a bill still adds up to the cent."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from decimal import Decimal

from . import CostError, unknown
from .catalogue import Price
from .lines import Line, total

# Modes whose instance hours a SageMaker savings plan is taken to cover: AWS's list has real-time inference, and neither
# asynchronous nor serverless endpoints, of which others say both that they are covered and that they are not.
_COVERED = ("realtime", "marketplace")


@dataclass(frozen=True, slots=True)
class Discounts:
    """Percents off the list prices. Raises CostError outside 0 to 99.

    `edp` (of an enterprise discount program) is off every line, after `savings_plan` off the instance hours of real-time endpoints.
    """

    edp: Decimal = Decimal(0)
    savings_plan: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        for each in fields(self):
            percent: Decimal = getattr(self, each.name)
            if not (percent.is_finite() and 0 <= percent <= 99):
                raise CostError(f"The discount {each.name} is {percent} %: give 0 to 99.")

    def off(self, lines: Collection[Line], mode: str) -> dict[str, Line]:
        """What is taken off these lines of a deployment in that mode, as lines by their names."""
        taken: dict[str, Line] = {}
        if self.savings_plan and mode in _COVERED:
            # Hours at a hosting price are of instances; other hours, as of an interface endpoint, have a rate's unit.
            hours = [line for line in lines if line.price.unit == "hour"]
            taken |= _less("savings plan on instance hours", total(hours), self.savings_plan)
        if self.edp:
            taken |= _less("EDP on every line", total([*lines, *taken.values()]), self.edp)
        return taken


def discounts(given: Iterable[tuple[str, Decimal]]) -> Discounts:
    """The discounts of pairs of a name (`edp` or `savings-plan`) and a percent.

    Raises CostError for another name, for one that is given twice, and for percents that make no sense.
    """
    known = {each.name.replace("_", "-"): each.name for each in fields(Discounts)}
    percents: dict[str, Decimal] = {}
    for name, percent in given:
        if name not in known:
            raise unknown("discount", name, known)
        if known[name] in percents:
            raise CostError(f"The discount {name} is given twice: give it once.")
        percents[known[name]] = percent
    return Discounts(**percents)


def _less(name: str, usd: Decimal, percent: Decimal) -> dict[str, Line]:
    if not usd:
        return {}
    today = datetime.date.today().isoformat()
    price = Price(usd=percent / 100, unit="USD", source="given by you", date=today, confidence="yours")
    name = f"{name}, {percent:f} %"
    return {name: Line(name, -usd, "USD", price)}
