"""The same question at other rates of requests: what would be run there, and where that changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, partial

from .. import CostError
from ..bill import Bill, Deployment, hit_rate, itemise, request_alone
from ..decide import Decision, Question, candidates, decide
from ..lines import HOURS_PER_MONTH
from .groups import Group, best_of

DAYS_PER_MONTH = HOURS_PER_MONTH / 24
# Requests a day that are looked at: from 100 to ten million, four for each power of ten.
PER_DAY = tuple(10 ** (2 + step / 4) for step in range(21))
_EXACT = 1.05  # a change is found to this factor: speeds are not better known


@dataclass(frozen=True)
class Sweep:
    """A question's decisions at the rates PER_DAY."""

    question: Question

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        return tuple(map(self.at, PER_DAY))

    def at(self, per_day: float) -> Decision:
        """The decision for so many requests a day."""
        asked = self._finalists
        scenario = asked.scenario.with_requests(per_day * DAYS_PER_MONTH)
        return decide(replace(asked, scenario=scenario))

    @cached_property
    def _finalists(self) -> Question:
        """The question among those types that win somewhere: of a model, mode and region, none is slower and dearer than another as often known."""
        groups: dict[object, list[tuple[Decimal, float, str]]] = {}
        scenario = self.question.scenario
        for one in candidates(self.question):
            try:
                seconds = request_alone(one, scenario).seconds
                amount = seconds * 1e6 if one.mode == "serverless" else HOURS_PER_MONTH
                usd = itemise(one, scenario, Decimal(repr(float(amount)))).usd
            except CostError:
                continue
            group = one.choice, one.precision, one.mode, one.region, hit_rate(one, scenario)
            groups.setdefault(group, []).append((usd, seconds, one.instance))
        kept: dict[str, None] = {}
        for found in groups.values():
            fastest = float("inf")
            for _, seconds, instance in sorted(found):
                if seconds < fastest:
                    fastest, kept[instance] = seconds, None
        return replace(self.question, instances=tuple(kept)) if kept else self.question

    def changes(self, key: Callable[[Deployment], Group]) -> list[tuple[float, Bill | None]]:
        """From how many requests a day on (the first: from PER_DAY's first) another group wins, and its bill there; None: none can."""

        def winner(decision: Decision) -> Group | None:
            return None if decision.best is None else key(decision.best.deployment)

        winners = [*map(winner, self.decisions)]
        found = [(PER_DAY[0], self.decisions[0].best)]
        for index in range(1, len(PER_DAY)):
            if winners[index] != winners[index - 1]:
                per_day = self.first(index, partial(_equals, winner, winners[index]))
                found.append((per_day, self.at(per_day).best))
        return found

    def first(self, index: int, true: Callable[[Decision], bool]) -> float:
        """The requests a day, to _EXACT, from which a condition is true that is so at PER_DAY[index], and not at the one before."""
        low, high = PER_DAY[index - 1], PER_DAY[index]
        while high / low > _EXACT:
            middle = (low * high) ** 0.5
            low, high = (low, middle) if true(self.at(middle)) else (middle, high)
        return high

    def usd(self, key: Callable[[Deployment], Group]) -> dict[Group, list[tuple[float, Bill]]]:
        """The best of each group at every rate at which it can carry the traffic."""
        lines: dict[Group, list[tuple[float, Bill]]] = {}
        for per_day, decision in zip(PER_DAY, self.decisions, strict=True):
            for group, bill in best_of(decision, key).items():
                lines.setdefault(group, []).append((per_day, bill))
        return lines


def _equals(winner: Callable[[Decision], Group | None], group: Group | None, decision: Decision) -> bool:
    return winner(decision) == group
