"""The cheapest deployment that meets a latency limit, and what it competes with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from . import CostError
from .catalogue import Catalogue, Service
from .deploy import CENT, Bill, Deployment, bill
from .memory import serverless_mb
from .models import Choice
from .traffic import Traffic


@dataclass(frozen=True, slots=True)
class Question:
    traffic: Traffic
    choices: tuple[Choice, ...]
    precisions: tuple[str, ...]
    modes: tuple[str, ...]
    regions: tuple[str, ...]
    p95_seconds: float | None = None  # None: any latency
    min_ndcg: float | None = None
    min_instances: int = 1
    max_instances: int = 20
    tokens_at_once: int = 8192


@dataclass(frozen=True, slots=True)
class Decision:
    """bills: every feasible deployment, cheapest first. refused: how many were not, by reason."""

    question: Question
    bills: tuple[Bill, ...]
    refused: dict[str, int]

    @property
    def best(self) -> Bill | None:
        return self.bills[0] if self.bills else None

    def best_of(self, choice: Choice) -> Bill | None:
        return next((item for item in self.bills if item.deployment.choice == choice), None)

    def pareto(self) -> list[Bill]:
        """Those that no other beats in quality, latency and cost at once; unknown quality is not compared."""
        known = [item for item in self.bills if item.deployment.choice.ndcg is not None]
        front: list[Bill] = []
        for item in known:  # cheapest first, so only an earlier one can be as cheap
            if not any(_beats(other, item) for other in front):
                front.append(item)
        return front


def _beats(a: Bill, b: Bill) -> bool:
    assert a.deployment.choice.ndcg is not None
    assert b.deployment.choice.ndcg is not None
    return a.usd <= b.usd and a.p95 <= b.p95 and a.deployment.choice.ndcg >= b.deployment.choice.ndcg


def candidates(question: Question, catalogue: Catalogue) -> Iterator[Deployment]:
    for region in question.regions:
        offered = catalogue.offered(region)
        for choice in question.choices:
            for precision in question.precisions:
                for mode in question.modes:
                    if mode == "serverless":
                        sizes = range(1024, 6145, 1024)
                        smallest = serverless_mb(choice, precision, question.tokens_at_once)
                        places: Sequence[str] = [str(size) for size in sizes if smallest and size >= smallest]
                    else:
                        places = offered
                    for place in places:
                        least = 0 if mode == "async" else question.min_instances
                        yield Deployment(
                            choice, precision, mode, region, place, least, question.max_instances
                        )


def decide(question: Question, catalogue: Catalogue) -> Decision:
    """Price every candidate. What cannot be run, is too slow or too weak is counted by its reason."""
    if not question.choices or not question.regions:
        raise CostError("Give at least one model and one region.")
    bills, refused = [], dict.fromkeys(("does not run or fit", "too slow", "ranks too badly"), 0)
    for deployment in candidates(question, catalogue):
        quality = deployment.choice.ndcg
        if question.min_ndcg is not None and (quality is None or quality < question.min_ndcg):
            refused["ranks too badly"] += 1
            continue
        try:
            item = bill(deployment, question.traffic, catalogue, tokens_at_once=question.tokens_at_once)
        except CostError:
            refused["does not run or fit"] += 1
            continue
        if question.p95_seconds is not None and item.p95 > question.p95_seconds:
            refused["too slow"] += 1
            continue
        bills.append(item)
    bills.sort(key=lambda item: (item.usd, item.p95, item.deployment.name))
    return Decision(question, tuple(bills), refused)


def service_usd(service: Service, traffic: Traffic) -> Decimal:
    """A month of the same traffic at a service that bills by use."""
    requests = Decimal(str(round(traffic.requests)))
    if service.per == "token":
        units = requests * traffic.documents * traffic.tokens
    else:
        limit = service.documents or traffic.documents
        units = requests * -(-traffic.documents // limit)
    return (units * service.price.usd).quantize(CENT, ROUND_HALF_UP)


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Requests a month above which `bill` is cheaper than `service`; None where it never is, within a factor of 10^6."""

    service: str
    requests: float | None


def break_even(
    deployment: Deployment, traffic: Traffic, price_of: Service | Deployment, catalogue: Catalogue
) -> BreakEven:
    """By bisection on the rate, the shape of the traffic kept."""

    def gain(factor: float) -> Decimal | None:
        scaled = traffic.scaled(factor)
        try:
            ours = bill(deployment, scaled, catalogue).usd
        except CostError:
            return None
        if isinstance(price_of, Service):
            return service_usd(price_of, scaled) - ours
        try:
            return bill(price_of, scaled, catalogue).usd - ours
        except CostError:
            return Decimal(1)  # the other cannot carry it any more

    name = price_of.title if isinstance(price_of, Service) else price_of.name
    low, high = 1e-6, 1e-6
    while (value := gain(high)) is None or value < 0:
        low, high = high, high * 2
        if high > 1e6 or (value is None and high > 1):
            return BreakEven(name, None)
    for _ in range(40):
        middle = (low * high) ** 0.5
        value = gain(middle)
        if value is not None and value >= 0:
            high = middle
        else:
            low = middle
    return BreakEven(name, high * traffic.requests)
