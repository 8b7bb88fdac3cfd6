"""One way to run a reranker, its monthly bill as line items, and the latency that queueing theory gives it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property

from . import CostError, standing, unknown
from .catalogue import Catalogue, Instance
from .discount import Discounts
from .formulas import Floats
from .lines import CENT, HOURS_PER_MONTH, Line, Statement
from .memory import SERVERLESS_SIZES, cache_mb, serverless_mb, usual_fit
from .models import Choice, check_precision
from .running import Running, running_instances, running_jobs, running_queued, running_workers
from .standing import Standing
from .throughput import Speed, serverless_speed, speed
from .traffic import Traffic

# What SageMaker takes of a request in each mode, in bytes, and gives it before it is an error. Real-time bodies may have
# 25 MB by AWS's documentation and 6 MB by its API's model: the lower one is sure.
MAX_BYTES = {
    "realtime": 6 << 20,
    "serverless": 4 << 20,
    "async": 1 << 30,
    "scale-to-zero": 6 << 20,
    "batch": 100 << 20,
    "marketplace": 6 << 20,
}
MODES = tuple(MAX_BYTES)
REQUEST_SECONDS = 60.0
IN_TIME = frozenset({"realtime", "serverless", "scale-to-zero", "marketplace"})  # modes with that limit
MAY_BE_ZERO = frozenset({"async", "scale-to-zero", "batch"})
# A deployment of which more requests than this fail is none.
ERRORS = 0.001
VOLUME_GB = 30
# English text as JSON, and an index with its score: our estimates.
BYTES_PER_TOKEN, BYTES_PER_RESULT = 5, 45
SELLERS_CHARGE = "the seller's charge for the model package"


@dataclass(frozen=True, slots=True)
class Scenario:
    """What deployments are priced for: the traffic, the prices, and the longest pair (in tokens) that must fit into memory.

    Speeds are taken as slow as they are with the probability `confidence`: 0.95 is the slow bound, 0.5 the estimate, 0.05 the
    fast bound. A serverless worker starts in `cold_start` seconds. `discounts` are off the prices. `hit_rate` is the share of requests
    whose scores are known where the server keeps them (memory.cache_mb): they are read, tokenised and answered, and not computed.
    Raises CostError where these make no sense.
    """

    traffic: Traffic
    catalogue: Catalogue
    tokens_at_once: int = 8192
    confidence: float = 0.95
    cold_start: float = 6.0
    discounts: Discounts = Discounts()
    hit_rate: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise CostError(
                f"The confidence is {self.confidence:g}: give more than 0 and less than 1, such as 0.95."
            )
        if not (math.isfinite(self.cold_start) and self.cold_start >= 0):
            raise CostError(f"A cold start takes {self.cold_start:g} s: give 0 or more.")
        if not 0 <= self.hit_rate < 1:
            raise CostError(f"The hit rate is {self.hit_rate:g}: give 0 to less than 1, such as 0.3.")

    def with_requests(self, count: float) -> Scenario:
        """The same shape of traffic, with so many requests a month."""
        return replace(self, traffic=self.traffic.scaled(count / self.traffic.requests))


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One way to run a model, with what stands beside it: `standing`, items of rates.csv and how many of each.

    `instance` is a hosting type, or the serverless memory in MB as text. Instances are a fleet behind one queue: SageMaker sends a request to the instance with the fewest under way
    (LEAST_OUTSTANDING_REQUESTS). Raises CostError for what SageMaker does not offer.
    """

    choice: Choice
    precision: str
    mode: str
    region: str
    instance: str
    min_instances: int = 1
    max_instances: int = 20
    target: float = 0.6  # utilisation that autoscaling holds
    standing: Standing = ()

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.mode not in MODES:
            raise unknown("mode", self.mode, MODES)
        least = 0 if self.mode in MAY_BE_ZERO else 1
        if self.min_instances < least or self.max_instances < max(1, self.min_instances):
            raise CostError(
                f"{self.min_instances} to {self.max_instances} instances: give at least {least} as the lower bound, and an upper bound not below it."
            )
        if not 0 < self.target < 1:
            raise CostError(f"The target utilisation is {self.target:g}: give more than 0 and less than 1.")
        if self.mode == "serverless" and self.instance not in map(str, SERVERLESS_SIZES):
            sizes = ", ".join(map(str, SERVERLESS_SIZES))
            raise CostError(f"Serverless memory is one of {sizes} MB, not {self.instance}.")

    @property
    def hardware(self) -> str:
        return f"serverless {int(self.instance) // 1024} GB" if self.mode == "serverless" else self.instance

    @property
    def name(self) -> str:
        how = "" if self.mode == "serverless" else f"{self.mode} "
        return f"{self.choice.name} {self.precision}, {how}{self.hardware}, {self.region}"


class TooLate(CostError):
    """More requests than ERRORS take longer than SageMaker gives them. `bill` is what the deployment costs all the same."""

    def __init__(self, sentence: str, bill: Bill) -> None:
        super().__init__(sentence)
        self.bill = bill


@dataclass(frozen=True)
class Bill:
    """A month of a deployment: its statement, the speed of a request alone that is computed, and what runs for how long and who waits.

    `traffic` are the requests as they keep instances busy, `seconds` of each in the mean: less than `speed` where some are known.
    """

    deployment: Deployment
    scenario: Scenario
    statement: Statement
    speed: Speed
    running: Running
    traffic: Traffic
    seconds: float

    @property
    def hit_rate(self) -> float:
        """The share of requests that are known there."""
        return hit_rate(self.deployment, self.scenario)

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(self.statement.lines.values())

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self.statement.notes)

    @property
    def usd(self) -> Decimal:
        return self.statement.usd

    @property
    def usd_per_million_documents(self) -> Decimal:
        documents = self.scenario.traffic.requests * self.scenario.traffic.documents
        return (self.usd * 1_000_000 / Decimal(repr(documents))).quantize(CENT, ROUND_HALF_UP)

    @cached_property
    def p50(self) -> float:
        return self._latency(0.5)

    @cached_property
    def p95(self) -> float:
        return self._latency(0.05)

    @cached_property
    def p99(self) -> float:
        return self._latency(0.01)

    @cached_property
    def _sizes(self) -> Floats:
        return self.seconds * self.traffic.typical_sizes

    def late(self, seconds: float) -> float:
        """The share of requests that take longer."""
        rest = seconds - self._sizes
        return float(sum(wait.share * float(wait.late(rest).mean()) for wait in self.running.waits))

    def _latency(self, tail: float) -> float:
        """Bisection on `late(seconds) = tail`."""
        low, high = 0.0, float(self._sizes[-1]) + 1e-9
        high += max(wait.longest(tail) for wait in self.running.waits)
        for _ in range(24):
            middle = (low + high) / 2
            low, high = (middle, high) if self.late(middle) > tail else (low, middle)
        return high


def bill(deployment: Deployment, scenario: Scenario, pace: Speed | None = None) -> Bill:
    """The month's bill, at the speed that is estimated, or at `pace` where it is known.

    Raises CostError, with the reason, where the deployment cannot carry the traffic or a price is unknown.
    """
    pace = pace or request_alone(deployment, scenario)
    traffic, seconds = as_served(deployment, scenario, pace)
    least, most = deployment.min_instances, deployment.max_instances
    try:
        if deployment.mode == "serverless":
            running = running_workers(traffic, seconds, scenario.cold_start)
        elif deployment.mode == "async":
            running = running_queued(traffic, seconds, least=least, most=most)
        elif deployment.mode == "batch":
            running = running_jobs(traffic, seconds, most=most)
        else:
            target = deployment.target
            running = running_instances(traffic, seconds, target=target, least=least, most=most)
    except CostError as error:
        raise CostError(f"{deployment.name} {error}") from None
    if deployment.mode != "serverless":
        _check_credits(deployment, scenario.catalogue.instance(deployment.instance), running)
    statement = month(deployment, scenario, running.mean)
    statement.notes += running.notes
    found = Bill(deployment, scenario, statement, pace, running, traffic, seconds)
    late = found.late(REQUEST_SECONDS) if deployment.mode in IN_TIME else 0.0
    if late > ERRORS:
        raise TooLate(
            f"{late:.1%} of the requests to {deployment.name} take longer than the 60 s that SageMaker gives them: send fewer documents, or take a faster type.",
            found,
        )
    return found


def hit_rate(deployment: Deployment, scenario: Scenario) -> float:
    """The share of requests that are known there: the scenario's where the server keeps scores, else 0."""
    if not scenario.hit_rate or deployment.mode == "serverless":
        return 0.0
    kept = cache_mb(deployment.mode, scenario.catalogue.instance(deployment.instance))
    return scenario.hit_rate if kept else 0.0


def as_served(deployment: Deployment, scenario: Scenario, pace: Speed) -> tuple[Traffic, float]:
    """The traffic by the work that its requests are there, and their mean seconds, where one that is computed takes `pace`."""
    rate = hit_rate(deployment, scenario)
    if not rate:
        return scenario.traffic, pace.seconds
    traffic, share = scenario.traffic.known(rate, pace.beside)
    return traffic, pace.seconds * share


def _check_credits(deployment: Deployment, instance: Instance, running: Running) -> None:
    """Raise CostError for a burstable type that would be in use for more than its baseline: its credits run out within a day."""
    if instance.baseline is not None and running.utilisation > instance.baseline:
        raise CostError(
            f"{deployment.name} is in use for {running.utilisation:.0%} of its time, and {instance.name} may be for {instance.baseline:.0%}, its baseline: take another type."
        )


def request_alone(deployment: Deployment, scenario: Scenario) -> Speed:
    """The seconds that one request takes there, with nothing before it.

    Raises CostError where the model does not fit or run there, and where one request in a thousand is larger than SageMaker takes.
    """
    traffic, tokens = scenario.traffic, scenario.tokens_at_once
    largest = largest_bytes(traffic)
    if largest > MAX_BYTES[deployment.mode]:
        raise CostError(
            f"One request in a thousand has {largest / 1e6:,.1f} MB or more, and SageMaker takes {MAX_BYTES[deployment.mode] / 1e6:,.1f} MB ({deployment.mode}): send fewer documents."
        )
    shape = {"documents": traffic.documents, "tokens": traffic.tokens}
    folder = scenario.catalogue.folder
    if deployment.mode == "serverless":
        smallest, size = (
            serverless_mb(deployment.choice, deployment.precision, tokens),
            int(deployment.instance),
        )
        if smallest is None or size < smallest:
            need = f"more than {SERVERLESS_SIZES[-1]}" if smallest is None else f"at least {smallest}"
            raise CostError(
                f"{deployment.choice.name} {deployment.precision} needs {need} MB for {tokens} tokens, not {size}."
            )
        pace = serverless_speed(deployment.choice, deployment.precision, size, **shape, folder=folder)
    else:
        instance = scenario.catalogue.instance(deployment.instance)
        room = usual_fit(deployment.choice, deployment.precision, tokens, instance, mode=deployment.mode)
        if not room.copies:
            raise CostError(
                f"{deployment.choice.name} {deployment.precision} needs {room.needed_mb:.0f} MB for {tokens} tokens, and {instance.name} "
                f"has {room.available_mb:.0f} MB of {room.where}: take a larger type or a lower limit of tokens."
            )
        pace = speed(deployment.choice, deployment.precision, instance, **shape, folder=folder)
    return pace.at(scenario.confidence)


def largest_bytes(traffic: Traffic) -> float:
    """The size that 999 in 1,000 requests stay below."""
    return traffic.documents * traffic.tokens * BYTES_PER_TOKEN * traffic.largest_size


def data_gb(traffic: Traffic) -> tuple[Decimal, Decimal]:
    """GB of requests, and of answers, in a month."""
    documents = Decimal(repr(traffic.requests)) * traffic.documents
    return documents * traffic.tokens * BYTES_PER_TOKEN / 10**9, documents * BYTES_PER_RESULT / 10**9


def month(deployment: Deployment, scenario: Scenario, mean: float) -> Statement:
    """What `itemise` gives for a month in which so many instances stand on average (serverless: so many workers are busy)."""
    hours = mean * HOURS_PER_MONTH * (3600 if deployment.mode == "serverless" else 1)
    return itemise(deployment, scenario, Decimal(repr(round(hours, 6))))


def itemise(deployment: Deployment, scenario: Scenario, amount: Decimal) -> Statement:
    """The lines of `amount` instance hours (serverless: seconds of processing), of the data processed and of volumes.

    Raises CostError where the price of the hours or seconds is not known.
    """
    traffic, catalogue = scenario.traffic, scenario.catalogue
    statement = Statement(catalogue, deployment.region)
    if deployment.mode == "serverless":
        name = f"serverless processing, {deployment.instance} MB"
        price = catalogue.rate(deployment.region, "serverless", int(deployment.instance))
        statement.lines[name] = Line(name, amount, "second", price)
    else:
        statement.add_hours(deployment.instance, amount, f"{deployment.instance} hours")
    data_in, data_out = data_gb(traffic)
    statement.add("data_in", data_in, "data in")
    statement.add("data_out", data_out, "data out")
    if deployment.mode != "serverless" and not catalogue.instance(deployment.instance).local_disk:
        statement.add("volume", amount / HOURS_PER_MONTH * VOLUME_GB, f"volumes, {VOLUME_GB} GB each")
    standing.add(
        statement,
        deployment.standing,
        requests=traffic.requests,
        instance=deployment.instance,
        instances=amount / HOURS_PER_MONTH,
        components=deployment.mode == "scale-to-zero",
    )
    if deployment.mode == "marketplace":
        statement.leave_out(SELLERS_CHARGE, "it is the seller's to say")
    statement.lines |= scenario.discounts.off(statement.lines.values(), deployment.mode)
    return statement
