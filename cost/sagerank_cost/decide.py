"""The cheapest deployment that meets a latency limit, and what it competes with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property

from . import CostError
from .bill import (
    ERRORS,
    MAY_BE_ZERO,
    SELLERS_CHARGE,
    Bill,
    Deployment,
    Scenario,
    as_served,
    bill,
    request_alone,
)
from .catalogue import Service
from .lines import CENT, total
from .memory import SERVERLESS_SIZES
from .models import Choice
from .standing import Standing, of
from .traffic import Traffic

# Costs within this share of the cheapest are a tie: a cent does not buy a worse ranking or a longer wait.
TIE = Decimal("0.02")
# What needs no gate: bfloat16 on GPUs alone.
USUAL = ("fp32", "bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The limits, and what to choose among.

    `precisions`: none for those that need no gate, which are float32, and bfloat16 on GPUs. Raises CostError where there is nothing to choose among, or the latency limit is not above 0.
    """

    scenario: Scenario
    choices: tuple[Choice, ...]
    precisions: tuple[str, ...] = ()
    modes: tuple[str, ...]
    regions: tuple[str, ...]
    instances: tuple[str, ...] = ()  # types, and serverless memory in MB; none: all that have a price
    p95_seconds: float = math.inf  # infinite: any latency
    min_ndcg: float | None = None
    # None: the preset's, or 1; in modes whose fleets may be empty it is always 0.
    min_instances: int | None = None
    max_instances: int = 20
    preset: str = "none"  # of `sagerank deploy`, with what that puts beside an endpoint

    def __post_init__(self) -> None:
        if not (self.choices and self.regions and self.modes):
            raise CostError("Give at least one model, mode and region.")
        if not self.p95_seconds > 0:
            raise CostError(f"The latency limit is {self.p95_seconds:g} s: give more than 0.")

    def at(self, confidence: float) -> Question:
        """The same question, with speeds at another confidence."""
        return replace(self, scenario=replace(self.scenario, confidence=confidence))


class Refused(CostError):
    """A deployment that does not meet the question. `reason` is the kind of reason, to be read after `they`."""

    def __init__(self, reason: str, example: str) -> None:
        super().__init__(example)
        self.reason = reason


@dataclass(frozen=True)
class Decision:
    """Every feasible deployment's bill, cheapest first; how many deployments were refused, by reason; a sentence on one of each.

    Costs are compared without the lines `unknown`, whose prices are not known in every region that was asked about.
    """

    question: Question
    bills: tuple[Bill, ...]
    refused: dict[str, int]
    examples: dict[str, str]
    unknown: frozenset[str]

    @property
    def cheapest(self) -> Bill | None:
        return self.bills[0] if self.bills else None

    @cached_property
    def best(self) -> Bill | None:
        """Of those that cost as little as the cheapest, within TIE: the one that ranks best, or else answers soonest."""
        if not self.bills:
            return None
        limit = compared(self.bills[0], self.unknown) * (1 + TIE)
        tied = [bill for bill in self.bills if compared(bill, self.unknown) <= limit and not open_ended(bill)]
        return min(
            tied or self.bills[:1],
            key=lambda bill: (
                -(bill.deployment.choice.ndcg or 0),
                bill.p95,
                compared(bill, self.unknown),
                len(bill.statement.unknown),
                bill.deployment.name,
            ),
        )

    def pareto(self) -> list[Bill]:
        """Those that no other beats in quality, latency and cost at once, cheapest first; unknown quality is not compared."""
        front: list[Bill] = []
        for item in self.bills:  # cheapest first, so only an earlier one can be as cheap
            if item.deployment.choice.ndcg is not None and not any(_beats(other, item) for other in front):
                front.append(item)
        return front


def compared(bill: Bill, unknown: frozenset[str]) -> Decimal:
    """The bill's total, without the lines of these names and what is taken off them."""
    listed = [
        line for name, line in bill.statement.lines.items() if name not in unknown and line.quantity >= 0
    ]
    return total([*listed, *bill.scenario.discounts.off(listed, bill.deployment.mode).values()])


def open_ended(bill: Bill) -> bool:
    """Whether a line without a known price may be of any size: a total with it wins against none without."""
    return SELLERS_CHARGE in bill.statement.unknown


def _beats(a: Bill, b: Bill) -> bool:
    return (
        a.usd <= b.usd
        and a.p95 <= b.p95
        and (a.deployment.choice.ndcg or 0) >= (b.deployment.choice.ndcg or 0)
    )


def candidates(question: Question) -> Iterator[Deployment]:
    """Every deployment that the question allows, whether or not it can carry the traffic."""
    catalogue = question.scenario.catalogue
    sizes = [name for name in question.instances if name.isdecimal()] or list(map(str, SERVERLESS_SIZES))
    types = [catalogue.instance(name).name for name in question.instances if not name.isdecimal()]
    for region in question.regions:
        if question.instances:
            offered = [name for name in types if catalogue.hosting(region, name)]
        else:
            offered = catalogue.offered(region)
        # What nothing of ours runs on is no candidate at all.
        offered = [name for name in offered if not catalogue.instance(name).accelerator]
        for choice, precision, mode in itertools.product(
            question.choices, question.precisions or USUAL, question.modes
        ):
            for instance in sizes if mode == "serverless" else offered:
                gpu = mode != "serverless" and bool(catalogue.instance(instance).gpu)
                if question.precisions or gpu or precision == "fp32":
                    least, beside = _around(question, mode, gpu)
                    yield Deployment(
                        choice=choice,
                        precision=precision,
                        mode=mode,
                        region=region,
                        instance=instance,
                        min_instances=least,
                        # What scaling may go up to costs nothing by itself, so that is not the preset's to limit.
                        max_instances=question.max_instances,
                        standing=beside,
                    )


def _around(question: Question, mode: str, gpu: bool) -> tuple[int, Standing]:
    """The least number of instances, and what stands beside them."""
    least = int(mode not in MAY_BE_ZERO)
    beside: Standing = ()
    if question.preset != "none":
        preset = of(question.preset, mode, gpu=gpu)
        least, beside = preset.min_instances, preset.standing
    if question.min_instances is not None and mode not in MAY_BE_ZERO:
        least = question.min_instances
    return least, beside


def unnamed_baseline(question: Question, deployment: Deployment) -> float | None:
    """The baseline of a burstable type that the question does not name: such a one is not admitted. None for all others."""
    if question.instances or deployment.mode == "serverless":
        return None
    return question.scenario.catalogue.instance(deployment.instance).baseline


def alone(question: Question, deployment: Deployment) -> float:
    """The 95th percentile of the seconds of requests there that wait for no other. Raises CostError as `request_alone` does."""
    scenario = question.scenario
    traffic, seconds = as_served(deployment, scenario, request_alone(deployment, scenario))
    return seconds * traffic.usual_size


def admit(question: Question, deployment: Deployment) -> Bill:
    """The bill of a deployment that meets the question. Raises Refused for one that does not."""
    quality, limit = deployment.choice.ndcg, question.p95_seconds
    burstable = unnamed_baseline(question, deployment)
    if burstable is not None:
        raise Refused(
            "are burstable",
            f"{deployment.instance} may be in use for {burstable:.0%} of its time: name it with --instance to price it.",
        )
    if question.min_ndcg is not None and (quality is None or quality < question.min_ndcg):
        shown = "unknown" if quality is None else f"{quality:g}"
        raise Refused(
            "rank too badly",
            f"{deployment.choice.name} has an NDCG@10 of {shown}, below {question.min_ndcg:g}.",
        )
    try:
        # What is too slow without any wait needs no bill.
        soonest = alone(question, deployment)
        if soonest > limit:
            raise Refused(
                "are too slow", f"{deployment.name} has a p95 of {soonest:.3f} s or more, above {limit:g}."
            )
        item = bill(deployment, question.scenario)
    except Refused:
        raise
    except CostError as error:
        raise Refused("do not run, fit or carry it", str(error)) from None
    if math.isinf(limit):
        return item
    if item.late(limit) > 0.05:
        raise Refused("are too slow", f"{deployment.name} has a p95 of {item.p95:.3f} s, above {limit:g}.")
    if item.running.failing > ERRORS:
        failing = f"{item.running.failing:.1%} of the requests to {deployment.name} meet no instance."
        raise Refused("fail too often", failing)
    return item


def decide(question: Question) -> Decision:
    """Price every candidate. What cannot be run, is too slow, fails or ranks too badly is counted by its reason."""
    bills: list[Bill] = []
    refused: dict[str, int] = {}
    examples: dict[str, str] = {}
    for deployment in candidates(question):
        try:
            bills.append(admit(question, deployment))
        except Refused as error:
            refused[error.reason] = refused.get(error.reason, 0) + 1
            examples.setdefault(error.reason, str(error))
    unknown = frozenset(name for bill in bills for name in bill.statement.unknown)
    # Of those that cost the same, the one that ranks best.
    bills.sort(
        key=lambda item: (
            open_ended(item),
            compared(item, unknown),
            -(item.deployment.choice.ndcg or 0),
            item.speed.seconds,
            item.deployment.name,
        )
    )
    return Decision(question, tuple(bills), refused, examples, unknown)


def service_usd(service: Service, traffic: Traffic) -> Decimal:
    """A month of the same traffic at a service that bills by use."""
    requests = Decimal(repr(traffic.requests))
    if service.per == "token":
        units = requests * traffic.documents * traffic.tokens
    else:
        limit = service.documents or traffic.documents
        units = requests * -(-traffic.documents // limit)
    return (units * service.price.usd).quantize(CENT, ROUND_HALF_UP)
