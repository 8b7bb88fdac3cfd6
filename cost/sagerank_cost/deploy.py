"""One way to run a reranker, its monthly bill as line items, and the latency that queueing theory gives it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property

import numpy as np

from . import CostError, unknown
from .catalogue import Catalogue, Instance, Price
from .formulas import SCALE_IN_MINUTES, START_MINUTES, busiest, provisioned, wait
from .memory import SERVERLESS_SIZES, fit, serverless_mb
from .models import Choice, precision
from .throughput import Speed, serverless_speed, speed
from .traffic import MINUTES_PER_MONTH, Traffic

MODES = ("realtime", "serverless", "async")
CENT = Decimal("0.01")
HOURS_PER_MONTH = 730
# What SageMaker gives a request before it is an error.
REQUEST_SECONDS = 60.0
VOLUME_GB = 30
# English text as JSON, and an index with its score: our estimates.
BYTES_PER_TOKEN, BYTES_PER_RESULT = 5, 45
SERVERLESS_CONCURRENCY = 200


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


def total(lines: tuple[Line, ...]) -> Decimal:
    return sum((line.usd for line in lines), Decimal("0.00"))


@dataclass(frozen=True, slots=True)
class Deployment:
    """instance: a hosting type, or the serverless memory in MB as text. Instances are a fleet behind one queue: SageMaker
    sends a request to the instance with the fewest under way (LEAST_OUTSTANDING_REQUESTS).
    """

    choice: Choice
    precision: str
    mode: str
    region: str
    instance: str
    min_instances: int = 1
    max_instances: int = 20
    target: float = 0.6  # utilisation that autoscaling holds

    def __post_init__(self) -> None:
        precision(self.precision)
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
    def place(self) -> str:
        return f"serverless {int(self.instance) // 1024} GB" if self.mode == "serverless" else self.instance

    @property
    def name(self) -> str:
        how = "" if self.mode == "serverless" else f"{self.mode} "
        return f"{self.choice.name} {self.precision}, {how}{self.place}, {self.region}"


@dataclass(frozen=True)
class Bill:
    """A month of a deployment. notes say what is not counted; seconds are those of the busiest minute, in which a request
    waits with the probability `waits`, and then exponentially with the mean `mean_wait`.
    """

    deployment: Deployment
    traffic: Traffic
    lines: tuple[Line, ...]
    speed: Speed
    waits: float
    mean_wait: float
    utilisation: float
    instances_mean: float
    instances_peak: int
    notes: tuple[str, ...] = field(default=())

    @property
    def usd(self) -> Decimal:
        return total(self.lines)

    @property
    def documents(self) -> float:
        return self.traffic.requests * self.traffic.documents

    @property
    def usd_per_million_documents(self) -> Decimal:
        return (self.usd * 1_000_000 / Decimal(repr(self.documents))).quantize(CENT, ROUND_HALF_UP)

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
        sizes = self.speed.seconds * self.traffic.typical_sizes
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


def bill(
    deployment: Deployment, traffic: Traffic, catalogue: Catalogue, *, tokens_at_once: int = 8192
) -> Bill:
    """Raises CostError, with the reason, where the deployment cannot carry the traffic or a price is unknown.

    tokens_at_once: the longest pair that must fit into memory.
    """
    shown = {"serverless": _serverless, "async": _asynchronous, "realtime": _realtime}[deployment.mode]
    return shown(deployment, traffic, catalogue, tokens_at_once)


def _realtime(deployment: Deployment, traffic: Traffic, catalogue: Catalogue, tokens_at_once: int) -> Bill:
    pace = _pace(deployment, traffic, catalogue, tokens_at_once)
    wanted = np.ceil(traffic.rates * pace.seconds / deployment.target - 1e-9)
    running = provisioned(np.maximum(wanted, deployment.min_instances))
    _check_most(deployment, int(running.max()))
    load = traffic.rates * pace.seconds / running
    hours = Decimal(int(running.sum())) / 60 * MINUTES_PER_MONTH / len(running)
    lines, notes = itemise(deployment, traffic, catalogue, hours)
    return Bill(
        deployment,
        traffic,
        lines,
        pace,
        *busiest(running, load, pace.seconds, traffic.variation),
        utilisation=float(load.mean()),
        instances_mean=float(running.mean()),
        instances_peak=int(running.max()),
        notes=notes,
    )


def _serverless(deployment: Deployment, traffic: Traffic, catalogue: Catalogue, tokens_at_once: int) -> Bill:
    smallest = serverless_mb(deployment.choice, deployment.precision, tokens_at_once)
    size = int(deployment.instance)
    if smallest is None or size < smallest:
        need = f"more than {SERVERLESS_SIZES[-1]}" if smallest is None else f"at least {smallest}"
        raise CostError(
            f"{deployment.choice.name} {deployment.precision} needs {need} MB for {tokens_at_once} tokens, not {size}."
        )
    pace = serverless_speed(
        deployment.choice, deployment.precision, size, documents=traffic.documents, tokens=traffic.tokens
    )
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
    lines, notes = itemise(deployment, traffic, catalogue, Decimal(repr(traffic.requests * pace.seconds)))
    return Bill(
        deployment,
        traffic,
        lines,
        pace,
        0.0,
        0.0,
        utilisation=1.0,
        instances_mean=traffic.mean * pace.seconds,
        instances_peak=math.ceil(busy),
        notes=(*notes, "cold starts are not in this latency: `sagerank cost simulate` has them"),
    )


def _asynchronous(
    deployment: Deployment, traffic: Traffic, catalogue: Catalogue, tokens_at_once: int
) -> Bill:
    """A queue evens the load out over an hour, so instances follow the hourly mean; those that may go to zero are there while
    somebody asked in the last 20 minutes.
    """
    pace = _pace(deployment, traffic, catalogue, tokens_at_once)
    hours = np.arange(0, len(traffic.rates), 60)
    rates = np.add.reduceat(traffic.rates, hours) / np.diff(np.append(hours, len(traffic.rates)))
    running = np.maximum(np.ceil(rates * pace.seconds / 0.9 - 1e-9), deployment.min_instances)
    _check_most(deployment, int(running.max()))
    if not deployment.min_instances:
        running *= -np.expm1(-rates * 60 * (SCALE_IN_MINUTES + START_MINUTES))
    mean = float(running.mean())
    lines, notes = itemise(deployment, traffic, catalogue, Decimal(repr(mean * HOURS_PER_MONTH)))
    steady = deployment.min_instances >= math.ceil(float(rates.max()) * pace.seconds / 0.9)
    # At 90 % of its time in use; where instances come and go, half of what one takes to come, for the rest.
    behind, delay = wait(1, 0.9, pace.seconds, traffic.variation)
    delay += 0.0 if steady else 60.0 * (1 + START_MINUTES) / 2
    return Bill(
        deployment,
        traffic,
        lines,
        pace,
        behind,
        delay,
        utilisation=float(rates.mean()) * pace.seconds / max(mean, 1e-9),
        instances_mean=mean,
        instances_peak=math.ceil(float(running.max())),
        notes=(
            *notes,
            "asynchronous hours are taken at the hosting price: one bill of 2023 shows them equal",
        ),
    )


def _pace(deployment: Deployment, traffic: Traffic, catalogue: Catalogue, tokens_at_once: int) -> Speed:
    instance = catalogue.instance(deployment.instance)
    check_fit(deployment, instance, tokens_at_once)
    return speed(
        deployment.choice,
        deployment.precision,
        instance,
        documents=traffic.documents,
        tokens=traffic.tokens,
        folder=catalogue.folder,
    )


def check_fit(deployment: Deployment, instance: Instance, tokens_at_once: int) -> None:
    room = fit(deployment.choice, deployment.precision, tokens_at_once, instance)
    if not room.copies:
        raise CostError(
            f"{deployment.choice.name} {deployment.precision} needs {room.needed_mb:.0f} MB for {tokens_at_once} tokens, and {instance.name} "
            f"has {room.available_mb:.0f} MB of {room.where}: take a larger type or a lower limit of tokens."
        )


def _check_most(deployment: Deployment, needed: int) -> None:
    if needed > deployment.max_instances:
        raise CostError(
            f"{deployment.name} needs {needed} instances at the peak, more than {deployment.max_instances}: "
            "take a larger type or a smaller model, or allow more."
        )


def itemise(
    deployment: Deployment, traffic: Traffic, catalogue: Catalogue, amount: Decimal
) -> tuple[tuple[Line, ...], tuple[str, ...]]:
    """The bill of `amount` instance hours (serverless: seconds of processing): with data processed and volumes. Where a rate
    is unknown the line is missing, and a note says so.
    """
    if deployment.mode == "serverless":
        price = catalogue.rate(deployment.region, "serverless", int(deployment.instance))
        lines, volumes = (
            [Line(f"serverless processing, {deployment.instance} MB", amount, "second", price)],
            False,
        )
    else:
        price = catalogue.hosting(deployment.region, deployment.instance)
        lines, volumes = [Line(f"{deployment.instance} hours", amount, "hour", price)], True
        volumes = not catalogue.instance(deployment.instance).local_disk
    documents = Decimal(repr(traffic.requests)) * traffic.documents
    wanted = [
        ("data in", "data_in", documents * traffic.tokens * BYTES_PER_TOKEN / 10**9, "GB"),
        ("data out", "data_out", documents * BYTES_PER_RESULT / 10**9, "GB"),
    ]
    if volumes:
        wanted.append(
            (f"volumes, {VOLUME_GB} GB each", "volume", amount / HOURS_PER_MONTH * VOLUME_GB, "GB-month")
        )
    notes = []
    for name, item, quantity, unit in wanted:
        try:
            lines.append(Line(name, quantity, unit, catalogue.rate(deployment.region, item)))
        except CostError as error:
            notes.append(f"not counted: {name} ({error})")
    return tuple(lines), tuple(notes)
