"""The cheapest deployment that meets a latency limit, and what it competes with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal

from . import CostError
from .catalogue import Catalogue, Service
from .deploy import CENT, Bill, Deployment, bill
from .memory import SERVERLESS_SIZES
from .models import Choice
from .throughput import executes
from .traffic import Traffic


@dataclass(frozen=True, slots=True)
class Question:
    """Limits, and what to choose among. hypothetical: price arithmetic that the engine does not have yet, too."""

    traffic: Traffic
    choices: tuple[Choice, ...]
    precisions: tuple[str, ...]
    modes: tuple[str, ...]
    regions: tuple[str, ...]
    instances: tuple[str, ...] = ()  # types, and serverless memory in MB; none: all that have a price
    p95_seconds: float | None = None  # None: any latency
    min_ndcg: float | None = None
    min_instances: int = 1
    max_instances: int = 20
    tokens_at_once: int = 8192
    hypothetical: bool = False

    def __post_init__(self) -> None:
        if not (self.choices and self.regions and self.modes and self.precisions):
            raise CostError("Give at least one model, precision, mode and region.")
        if self.p95_seconds is not None and not self.p95_seconds > 0:
            raise CostError(f"The latency limit is {self.p95_seconds:g} s: give more than 0.")


@dataclass(frozen=True, slots=True)
class Decision:
    """bills: every feasible deployment, cheapest first. refused: how many were not, by reason; examples: one sentence each."""

    question: Question
    bills: tuple[Bill, ...]
    refused: dict[str, int]
    examples: dict[str, str]

    @property
    def best(self) -> Bill | None:
        return self.bills[0] if self.bills else None

    def pareto(self) -> list[Bill]:
        """Those that no other beats in quality, latency and cost at once, cheapest first; unknown quality is not compared."""
        front: list[Bill] = []
        for item in self.bills:  # cheapest first, so only an earlier one can be as cheap
            if item.deployment.choice.ndcg is not None and not any(_beats(other, item) for other in front):
                front.append(item)
        return front


def _beats(a: Bill, b: Bill) -> bool:
    return (
        a.usd <= b.usd
        and a.p95 <= b.p95
        and (a.deployment.choice.ndcg or 0) >= (b.deployment.choice.ndcg or 0)
    )


def candidates(question: Question, catalogue: Catalogue) -> Iterator[Deployment]:
    sizes = [name for name in question.instances if name.isdecimal()] or [
        str(size) for size in SERVERLESS_SIZES
    ]
    types = [catalogue.instance(name).name for name in question.instances if not name.isdecimal()]
    for region in question.regions:
        offered = (
            catalogue.offered(region)
            if not question.instances
            else [name for name in types if catalogue.hosting(region, name)]
        )
        # What nothing of ours runs on is no candidate at all.
        offered = [name for name in offered if not catalogue.instance(name).accelerator]
        for choice, precision, mode in itertools.product(
            question.choices, question.precisions, question.modes
        ):
            least = 0 if mode == "async" else question.min_instances
            for place in sizes if mode == "serverless" else offered:
                gpu = mode != "serverless" and bool(catalogue.instance(place).gpu)
                if executes(precision, gpu) or question.hypothetical:
                    yield Deployment(choice, precision, mode, region, place, least, question.max_instances)


def decide(question: Question, catalogue: Catalogue) -> Decision:
    """Price every candidate. What cannot be run, is too slow or too weak is counted by its reason."""
    bills: list[Bill] = []
    refused: dict[str, int] = {}
    examples: dict[str, str] = {}

    def refuse(reason: str, example: str) -> None:
        refused[reason] = refused.get(reason, 0) + 1
        examples.setdefault(reason, example)

    for deployment in candidates(question, catalogue):
        quality = deployment.choice.ndcg
        if question.min_ndcg is not None and (quality is None or quality < question.min_ndcg):
            shown = "unknown" if quality is None else f"{quality:g}"
            refuse(
                "rank too badly",
                f"{deployment.choice.name} has an NDCG@10 of {shown}, below {question.min_ndcg:g}.",
            )
            continue
        try:
            item = bill(deployment, question.traffic, catalogue, tokens_at_once=question.tokens_at_once)
        except CostError as error:
            refuse("do not run, fit or carry it", str(error))
            continue
        if question.p95_seconds is not None and item.p95 > question.p95_seconds:
            refuse(
                "are too slow",
                f"{deployment.name} has a p95 of {item.p95:.3f} s, above {question.p95_seconds:g}.",
            )
            continue
        bills.append(item)
    bills.sort(key=lambda item: (item.usd, item.p95, item.deployment.name))
    return Decision(question, tuple(bills), refused, examples)


def service_usd(service: Service, traffic: Traffic) -> Decimal:
    """A month of the same traffic at a service that bills by use."""
    requests = Decimal(repr(traffic.requests))
    if service.per == "token":
        units = requests * traffic.documents * traffic.tokens
    else:
        limit = service.documents or traffic.documents
        units = requests * -(-traffic.documents // limit)
    return (units * service.price.usd).quantize(CENT, ROUND_HALF_UP)


@dataclass(frozen=True, slots=True)
class Curve:
    """What a deployment or service costs at traffic of one shape: requests a month, ascending, and US dollars. A fleet may be
    as large as it needs to be; None where it cannot carry the traffic at all.
    """

    name: str
    requests: tuple[float, ...]
    usd: tuple[Decimal | None, ...]


def monthly_usd(
    what: Service | Deployment, traffic: Traffic, catalogue: Catalogue, tokens_at_once: int = 8192
) -> Decimal | None:
    if isinstance(what, Service):
        return service_usd(what, traffic)
    try:
        return bill(
            replace(what, max_instances=10_000), traffic, catalogue, tokens_at_once=tokens_at_once
        ).usd
    except CostError:
        return None


def curve(
    what: Service | Deployment, traffic: Traffic, catalogue: Catalogue, tokens_at_once: int = 8192
) -> Curve:
    """From 1,000 requests a month to 10^9, a quarter of a decade each."""
    requests = tuple(10 ** (3 + step / 4) for step in range(25))
    usd = (
        monthly_usd(what, traffic.scaled(count / traffic.requests), catalogue, tokens_at_once)
        for count in requests
    )
    return Curve(what.title if isinstance(what, Service) else what.name, requests, tuple(usd))


def break_even(
    ours: Deployment,
    other: Service | Deployment,
    traffic: Traffic,
    catalogue: Catalogue,
    tokens_at_once: int = 8192,
    known: Curve | None = None,
) -> float | None:
    """Requests a month, to 1 %, above which `ours` is cheaper than `other` and stays so; None where it is not up to 10^9, and 0
    where it already is at 1,000. known: the curve of `ours`.

    A fleet grows in steps, so the lines may cross more than once: this is the last crossing.
    """

    def dearer(count: float, mine: Decimal | None) -> bool:
        theirs = monthly_usd(other, traffic.scaled(count / traffic.requests), catalogue, tokens_at_once)
        return mine is None or (theirs is not None and mine > theirs)

    known = known or curve(ours, traffic, catalogue, tokens_at_once)
    points = [
        (count, mine) for count, mine in zip(known.requests, known.usd, strict=True) if mine is not None
    ]
    if not points or dearer(*points[-1]):
        return None
    last = next((place for place in reversed(range(len(points))) if dearer(*points[place])), None)
    if last is None:
        return 0.0
    low, high = points[last][0], points[last + 1][0]
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        mine = monthly_usd(ours, traffic.scaled(middle / traffic.requests), catalogue, tokens_at_once)
        low, high = (middle, high) if dearer(middle, mine) else (low, middle)
    return high
