"""One way to run a reranker, its monthly bill as line items, and the latency queueing theory gives it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
from numpy.typing import NDArray

from . import CostError, unknown
from .catalogue import Catalogue, Price
from .memory import fit, serverless_mb
from .models import Choice
from .throughput import Speed, serverless_speed, speed
from .traffic import MINUTES_PER_MONTH, Traffic

MODES = ("realtime", "serverless", "async")
CENT = Decimal("0.01")
HOURS_PER_MONTH = 730
# Autoscaling as SageMaker does it: alarms of 3 and 15 minutes, and an instance that takes about 5 to serve.
SCALE_OUT_MINUTES, SCALE_IN_MINUTES, START_MINUTES = 3, 15, 5
VOLUME_GB = 30
BYTES_PER_TOKEN = 5
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


@dataclass(frozen=True, slots=True)
class Deployment:
    """instance: a hosting type, or the serverless memory in MB as text."""

    choice: Choice
    precision: str
    mode: str
    region: str
    instance: str
    min_instances: int = 1
    max_instances: int = 20
    target: float = 0.6  # utilisation that autoscaling holds

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown("mode", self.mode, MODES)
        if self.min_instances < (0 if self.mode == "async" else 1) or self.max_instances < max(
            1, self.min_instances
        ):
            raise CostError(
                f"{self.min_instances} to {self.max_instances} instances: give at least {0 if self.mode == 'async' else 1}, and no fewer at most than at least."
            )
        if not 0 < self.target < 1:
            raise CostError(f"The target utilisation is {self.target:g}: give more than 0 and less than 1.")

    @property
    def name(self) -> str:
        where = f"{int(self.instance) // 1024} GB" if self.mode == "serverless" else self.instance
        return f"{self.choice.name} {self.precision}, {self.mode} {where}, {self.region}"


@dataclass(frozen=True, slots=True)
class Bill:
    """A month of a deployment. notes say what is not counted; seconds are at the busiest minute."""

    deployment: Deployment
    lines: tuple[Line, ...]
    speed: Speed
    p50: float
    p95: float
    p99: float
    utilisation: float
    instances_mean: float
    instances_peak: int
    requests: float
    documents: float
    notes: tuple[str, ...] = field(default=())

    @property
    def usd(self) -> Decimal:
        return sum((line.usd for line in self.lines), Decimal("0.00"))

    @property
    def usd_per_million_documents(self) -> Decimal:
        return (self.usd * 1_000_000 / Decimal(str(round(self.documents)))).quantize(CENT, ROUND_HALF_UP)


def bill(
    deployment: Deployment, traffic: Traffic, catalogue: Catalogue, *, tokens_at_once: int = 8192
) -> Bill:
    """Raises CostError, with the reason, where the deployment cannot carry the traffic or a price is unknown.

    tokens_at_once: the longest pair that must fit into memory.
    """
    if deployment.mode == "serverless":
        return _serverless(deployment, traffic, catalogue, tokens_at_once)
    instance = catalogue.instance(deployment.instance)
    price = catalogue.hosting(deployment.region, deployment.instance)
    room = fit(deployment.choice, deployment.precision, tokens_at_once, instance)
    if not room.copies:
        raise CostError(
            f"{deployment.choice.name} {deployment.precision} needs {room.needed_mb:.0f} MB for {tokens_at_once} tokens, and {instance.name} "
            f"has {room.available_mb:.0f} MB of {room.where}: take a larger type or a lower limit of tokens."
        )
    pace = speed(
        deployment.choice, deployment.precision, instance, documents=traffic.documents, tokens=traffic.tokens
    )
    # Each GPU serves on its own; a CPU's cores work on one request together.
    servers = max(1, instance.gpus)
    wanted = np.ceil(traffic.rates * pace.seconds / servers / deployment.target - 1e-9)
    if deployment.mode == "async":
        return _async(deployment, traffic, catalogue, price, pace, servers)
    running = scaled(np.maximum(wanted, deployment.min_instances))
    if running.max() > deployment.max_instances:
        raise CostError(
            f"{deployment.name} needs {int(running.max())} instances at the peak, more than {deployment.max_instances}: "
            "take a larger type, a smaller model, or allow more."
        )
    load = traffic.rates * pace.seconds / servers / running
    worst = float(load.max())
    p50, p95, p99 = (pace.seconds + _wait(worst, pace.seconds, share) for share in (0.5, 0.05, 0.01))
    hours = Decimal(int(running.sum())) / 60 * MINUTES_PER_MONTH / len(running)
    lines, notes = _common(deployment, traffic, catalogue, instance.local_disk, hours)
    return Bill(
        deployment,
        (Line(f"{instance.name} hours", hours, "hour", price), *lines),
        pace,
        p50,
        p95,
        p99,
        utilisation=float(load.mean()),
        instances_mean=float(running.mean()),
        instances_peak=int(running.max()),
        requests=traffic.requests,
        documents=traffic.requests * traffic.documents,
        notes=notes,
    )


def scaled(wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Instances that run when so many are wanted, over a period that repeats: there in time, as scheduled actions or
    a low target make them, and kept until the alarm to scale in has seen 15 quiet minutes.
    """
    if (wanted == wanted[0]).all():
        return wanted
    shifts = range(-(SCALE_OUT_MINUTES + START_MINUTES), SCALE_IN_MINUTES + 1)
    result: NDArray[np.float64] = np.maximum.reduce([np.roll(wanted, shift) for shift in shifts])
    return result


def _wait(load: float, seconds: float, tail: float) -> float:
    """The wait that a share `tail` of requests exceeds: M/D/1 at each instance, as random routing makes it, with the
    exponential tail of heavy traffic theory (Kingman).
    """
    if load <= tail:
        return 0.0
    return math.log(load / tail) * seconds / (2 * (1 - load))


def _serverless(deployment: Deployment, traffic: Traffic, catalogue: Catalogue, tokens_at_once: int) -> Bill:
    smallest = serverless_mb(deployment.choice, deployment.precision, tokens_at_once)
    size = int(deployment.instance)
    if size not in range(1024, 6145, 1024):
        raise CostError(f"Serverless memory is 1024, 2048, 3072, 4096, 5120 or 6144 MB, not {size}.")
    if smallest is None or size < smallest:
        need = "more than 6144" if smallest is None else f"at least {smallest}"
        raise CostError(
            f"{deployment.choice.name} {deployment.precision} needs {need} MB for {tokens_at_once} tokens, not {size}."
        )
    price = catalogue.rate(deployment.region, "serverless", size)
    pace = serverless_speed(
        deployment.choice, deployment.precision, size, documents=traffic.documents, tokens=traffic.tokens
    )
    if pace.seconds > 60:
        raise CostError(
            f"A request takes {pace.seconds:.0f} s on {deployment.name}, and serverless stops at 60: send fewer documents."
        )
    busy = traffic.peak * pace.seconds
    if busy + 3 * math.sqrt(busy) > SERVERLESS_CONCURRENCY:
        raise CostError(
            f"{deployment.name} needs about {busy:.0f} requests at once at the peak; an endpoint has {SERVERLESS_CONCURRENCY} at most."
        )
    requests = traffic.requests
    seconds = Decimal(str(round(requests * pace.seconds, 3)))
    lines, notes = _common(deployment, traffic, catalogue, True, Decimal(0))
    return Bill(
        deployment,
        (Line(f"serverless processing, {size} MB", seconds, "second", price), *lines),
        pace,
        *(pace.seconds,) * 3,
        utilisation=1.0,
        instances_mean=traffic.mean * pace.seconds,
        instances_peak=math.ceil(busy),
        requests=requests,
        documents=requests * traffic.documents,
        notes=(*notes, "cold starts are not in the latency: `sagerank cost simulate` has them"),
    )


def _async(
    deployment: Deployment, traffic: Traffic, catalogue: Catalogue, price: Price, pace: Speed, servers: int
) -> Bill:
    """A queue evens the load out over an hour, so instances follow the hourly mean and may stop at night."""
    per_hour = np.add.reduceat(traffic.rates, range(0, len(traffic.rates), 60)) / np.minimum(
        60, len(traffic.rates) - np.arange(0, len(traffic.rates), 60)
    )
    load = per_hour * pace.seconds / servers
    running = np.maximum(np.ceil(load / 0.9 - 1e-9), deployment.min_instances)
    if running.max() > deployment.max_instances:
        raise CostError(
            f"{deployment.name} needs {int(running.max())} instances, more than {deployment.max_instances}."
        )
    hours = Decimal(int(running.sum())) * MINUTES_PER_MONTH / 60 / len(running)
    lines, notes = _common(
        deployment, traffic, catalogue, catalogue.instance(deployment.instance).local_disk, hours
    )
    late = 60.0 * (SCALE_OUT_MINUTES + START_MINUTES)
    return Bill(
        deployment,
        (Line(f"{deployment.instance} hours", hours, "hour", price), *lines),
        pace,
        pace.seconds + late / 2,
        pace.seconds + late,
        pace.seconds + late,
        utilisation=float((load / np.maximum(running, 1)).mean()),
        instances_mean=float(running.mean()),
        instances_peak=int(running.max()),
        requests=traffic.requests,
        documents=traffic.requests * traffic.documents,
        notes=(
            *notes,
            "asynchronous hours are taken at the hosting price: one bill of 2023 shows them equal",
        ),
    )


def _common(
    deployment: Deployment, traffic: Traffic, catalogue: Catalogue, local_disk: bool, hours: Decimal
) -> tuple[tuple[Line, ...], tuple[str, ...]]:
    """Data processed and volumes. Where a rate is unknown the line is missing, and a note says so."""
    lines, notes = [], []
    gigabytes = Decimal(
        str(round(traffic.requests * traffic.documents * traffic.tokens * BYTES_PER_TOKEN / 1e9, 6))
    )
    answers = Decimal(str(round(traffic.requests * traffic.documents * 45 / 1e9, 6)))
    wanted = [("data in", "data_in", gigabytes, "GB"), ("data out", "data_out", answers, "GB")]
    if not local_disk and hours:
        wanted.append(("volumes, 30 GB each", "volume", hours / HOURS_PER_MONTH * VOLUME_GB, "GB-month"))
    for name, item, quantity, unit in wanted:
        try:
            lines.append(Line(name, quantity, unit, catalogue.rate(deployment.region, item)))
        except CostError as error:
            notes.append(f"not counted: {name} ({error})")
    return tuple(lines), tuple(notes)
