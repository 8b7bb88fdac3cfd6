"""One way to run a reranker, its monthly bill as line items, and the latency that queueing theory gives it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property

import numpy as np

from . import CostError, unknown
from .catalogue import Catalogue
from .formulas import SCALE_IN_MINUTES, START_MINUTES, busiest, provisioned, wait
from .lines import CENT, HOURS_PER_MONTH, Line, Statement
from .memory import SERVERLESS_SIZES, fit, serverless_mb
from .models import Choice, check_precision
from .throughput import Speed, serverless_speed, speed
from .traffic import MINUTES_PER_MONTH, Traffic

MODES = ("realtime", "serverless", "async")
# What SageMaker gives a request before it is an error.
REQUEST_SECONDS = 60.0
VOLUME_GB = 30
# English text as JSON, and an index with its score: our estimates.
BYTES_PER_TOKEN, BYTES_PER_RESULT = 5, 45
SERVERLESS_CONCURRENCY = 200


@dataclass(frozen=True, slots=True)
class Scenario:
    """What deployments are priced for: the traffic, the prices, and the longest pair (in tokens) that must fit into memory.

    Speeds are taken as slow as they are with the probability `confidence`: 0.95 is the slow bound, 0.5 the estimate, 0.05 the
    fast bound. A serverless worker starts in `cold_start` seconds. Raises CostError where these make no sense.
    """

    traffic: Traffic
    catalogue: Catalogue
    tokens_at_once: int = 8192
    confidence: float = 0.95
    cold_start: float = 6.0

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise CostError(
                f"The confidence is {self.confidence:g}: give more than 0 and less than 1, such as 0.95."
            )
        if not (math.isfinite(self.cold_start) and self.cold_start >= 0):
            raise CostError(f"A cold start takes {self.cold_start:g} s: give 0 or more.")

    def with_requests(self, count: float) -> Scenario:
        """The same shape of traffic, with so many requests a month."""
        return replace(self, traffic=self.traffic.scaled(count / self.traffic.requests))


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One way to run a model. `instance` is a hosting type, or the serverless memory in MB as text; `standing`, what
    stands beside it whoever asks it anything: items of rates.csv, and how many.

    Instances are a fleet behind one queue: SageMaker sends a request to the instance with the fewest under way
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
    standing: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.mode not in MODES:
            raise unknown("mode", self.mode, MODES)
        least = 0 if self.mode == "async" else 1
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


@dataclass(frozen=True, kw_only=True)
class Bill:
    """A month of a deployment: its statement, its speed and its instances.

    Seconds are those of the busiest minute, in which a request waits with the probability `waits`, and then exponentially
    with the mean `mean_wait`.
    """

    deployment: Deployment
    scenario: Scenario
    statement: Statement
    speed: Speed
    waits: float
    mean_wait: float
    utilisation: float
    instances_mean: float
    instances_peak: int

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

    def _latency(self, tail: float) -> float:
        """Bisection on P(size + wait > t) = tail."""
        sizes = self.speed.seconds * self.scenario.traffic.typical_sizes
        if self.waits < tail / 100:
            return float(np.quantile(sizes, 1 - tail))
        low, high = 0.0, float(sizes[-1]) + self.mean_wait * math.log(max(1.0, self.waits / tail)) + 1e-9
        for _ in range(20):
            middle = (low + high) / 2
            rest = middle - sizes
            late = np.where(
                rest < 0, 1.0, self.waits * np.exp(-np.maximum(rest, 0) / max(self.mean_wait, 1e-12))
            )
            low, high = (middle, high) if float(late.sum()) > tail * len(sizes) else (low, middle)
        return high


def bill(deployment: Deployment, scenario: Scenario) -> Bill:
    """The month's bill. Raises CostError, with the reason, where the deployment cannot carry the traffic or a price is unknown."""
    modes = {"serverless": _serverless, "async": _asynchronous, "realtime": _realtime}
    return modes[deployment.mode](deployment, scenario)


def _realtime(deployment: Deployment, scenario: Scenario) -> Bill:
    traffic, pace = scenario.traffic, _pace(deployment, scenario)
    wanted = np.ceil(traffic.rates * pace.seconds / deployment.target - 1e-9)
    running = provisioned(np.maximum(wanted, deployment.min_instances))
    _check_most(deployment, int(running.max()))
    load = traffic.rates * pace.seconds / running
    waits, mean_wait = busiest(running, load, pace.seconds, traffic.variation)
    statement = itemise(
        deployment, scenario, Decimal(int(running.sum())) / 60 * MINUTES_PER_MONTH / len(running)
    )
    return Bill(
        deployment=deployment,
        scenario=scenario,
        statement=statement,
        speed=pace,
        waits=waits,
        mean_wait=mean_wait,
        utilisation=float(load.mean()),
        instances_mean=float(running.mean()),
        instances_peak=int(running.max()),
    )


def _serverless(deployment: Deployment, scenario: Scenario) -> Bill:
    traffic, tokens = scenario.traffic, scenario.tokens_at_once
    smallest = serverless_mb(deployment.choice, deployment.precision, tokens)
    size = int(deployment.instance)
    if smallest is None or size < smallest:
        need = f"more than {SERVERLESS_SIZES[-1]}" if smallest is None else f"at least {smallest}"
        raise CostError(
            f"{deployment.choice.name} {deployment.precision} needs {need} MB for {tokens} tokens, not {size}."
        )
    pace = serverless_speed(
        deployment.choice, deployment.precision, size, documents=traffic.documents, tokens=traffic.tokens
    ).at(scenario.confidence)
    longest = pace.seconds * float(np.quantile(traffic.sizes, 0.99))
    if longest > REQUEST_SECONDS:
        raise CostError(
            f"One request in a hundred takes {longest:.0f} s on {deployment.name}, and SageMaker stops at 60: send fewer documents."
        )
    busy = traffic.peak * pace.seconds
    if busy + 3 * math.sqrt(busy) > SERVERLESS_CONCURRENCY:
        raise CostError(
            f"{deployment.name} needs about {busy:.0f} requests at once at the peak; an endpoint has {SERVERLESS_CONCURRENCY} at most."
        )
    statement = itemise(deployment, scenario, Decimal(repr(traffic.requests * pace.seconds)))
    statement.notes.append("cold starts are not in this latency: `sagerank cost simulate` has them")
    return Bill(
        deployment=deployment,
        scenario=scenario,
        statement=statement,
        speed=pace,
        waits=0.0,
        mean_wait=0.0,
        utilisation=1.0,
        instances_mean=traffic.mean * pace.seconds,
        instances_peak=math.ceil(busy),
    )


def _asynchronous(deployment: Deployment, scenario: Scenario) -> Bill:
    """The bill of an asynchronous endpoint: its queue evens out an hour, so instances follow hourly means.

    Those that may go to zero are there while somebody asked in the last 20 minutes.
    """
    traffic, pace = scenario.traffic, _pace(deployment, scenario)
    hours = np.arange(0, len(traffic.rates), 60)
    rates = np.add.reduceat(traffic.rates, hours) / np.diff(np.append(hours, len(traffic.rates)))
    running = np.maximum(np.ceil(rates * pace.seconds / 0.9 - 1e-9), deployment.min_instances)
    _check_most(deployment, int(running.max()))
    if not deployment.min_instances:
        running *= -np.expm1(-rates * 60 * (SCALE_IN_MINUTES + START_MINUTES))
    mean = float(running.mean())
    statement = itemise(deployment, scenario, Decimal(repr(mean * HOURS_PER_MONTH)))
    steady = deployment.min_instances >= math.ceil(float(rates.max()) * pace.seconds / 0.9)
    # At 90 % of its time in use; where instances come and go, half of what one takes to come, for the rest.
    waits, mean_wait = wait(1, 0.9, pace.seconds, traffic.variation)
    mean_wait += 0.0 if steady else 60.0 * (1 + START_MINUTES) / 2
    statement.notes.append(
        "asynchronous hours are taken at the hosting price: one bill of 2023 shows them equal"
    )
    return Bill(
        deployment=deployment,
        scenario=scenario,
        statement=statement,
        speed=pace,
        waits=waits,
        mean_wait=mean_wait,
        utilisation=float(rates.mean()) * pace.seconds / max(mean, 1e-9),
        instances_mean=mean,
        instances_peak=math.ceil(float(running.max())),
    )


def _pace(deployment: Deployment, scenario: Scenario) -> Speed:
    """How fast a request is there. Raises CostError where memory does not hold the model and the longest pair."""
    instance = scenario.catalogue.instance(deployment.instance)
    tokens = scenario.tokens_at_once
    room = fit(deployment.choice, deployment.precision, tokens, instance)
    if not room.copies:
        raise CostError(
            f"{deployment.choice.name} {deployment.precision} needs {room.needed_mb:.0f} MB for {tokens} tokens, and {instance.name} "
            f"has {room.available_mb:.0f} MB of {room.where}: take a larger type or a lower limit of tokens."
        )
    return speed(
        deployment.choice,
        deployment.precision,
        instance,
        documents=scenario.traffic.documents,
        tokens=scenario.traffic.tokens,
        folder=scenario.catalogue.folder,
    ).at(scenario.confidence)


def _check_most(deployment: Deployment, needed: int) -> None:
    if needed > deployment.max_instances:
        raise CostError(
            f"{deployment.name} needs {needed} instances at the peak, more than {deployment.max_instances}: "
            "take a larger type or a smaller model, or allow more."
        )


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
    documents = Decimal(repr(traffic.requests)) * traffic.documents
    statement.add("data_in", documents * traffic.tokens * BYTES_PER_TOKEN / 10**9, "data in")
    statement.add("data_out", documents * BYTES_PER_RESULT / 10**9, "data out")
    if deployment.mode != "serverless" and not catalogue.instance(deployment.instance).local_disk:
        statement.add("volume", amount / HOURS_PER_MONTH * VOLUME_GB, f"volumes, {VOLUME_GB} GB each")
    return statement
