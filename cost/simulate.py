"""A month, request by request, under SageMaker's autoscaling rules: what queueing formulas leave out.

Exact and seeded: every request arrives (Poisson within its minute), waits for the least busy instance, is served and
leaves. numba compiles the inner loop, because a month at 50 requests/s is 131 million of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

import numba
import numpy as np
from numpy.typing import NDArray

from . import CostError
from .catalogue import Catalogue
from .deploy import (
    MINUTES_PER_MONTH,
    SCALE_IN_MINUTES,
    SCALE_OUT_MINUTES,
    SERVERLESS_CONCURRENCY,
    START_MINUTES,
    Bill,
    Deployment,
    Line,
    bill,
)
from .traffic import Traffic

# Latencies are counted in bins whose edges grow by 1 %: from 0.1 ms to beyond a day.
_BINS, _FIRST, _GROWTH = 2100, 1e-4, 1.01
# What target tracking waits between two changes in one direction, by default.
COOLDOWN_MINUTES = 5
# How long SageMaker keeps an idle serverless worker is not published; minutes are reported by users.
KEEP_WARM_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Service:
    """Seconds of a request alone on an instance: mean, and coefficient of variation (0: always the same)."""

    mean: float
    variation: float = 0.0

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        if self.variation == 0:
            return np.full(count, self.mean)
        if self.variation == 1:
            return generator.exponential(self.mean, count)
        shape = 1 / self.variation**2
        return generator.gamma(shape, self.mean / shape, count)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a simulated period. instances: running at each minute; latencies in seconds."""

    arrived: int
    served: int
    refused: int
    instances: NDArray[np.int64]
    busy_seconds: float
    mean_wait: float
    cold_starts: int
    counts: NDArray[np.int64]

    def quantile(self, share: float) -> float:
        """To 1 %. 0 where nothing was served."""
        total = int(self.counts.sum())
        if not total:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self.counts), share * total))
        return _FIRST * _GROWTH ** min(place, _BINS - 1)

    @property
    def utilisation(self) -> float:
        available = float(self.instances.sum()) * 60
        return self.busy_seconds / available if available else 0.0


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _serve(
    arrivals: NDArray[np.float64], service: NDArray[np.float64], free: NDArray[np.float64], running: int, counts: NDArray[np.int64]
) -> float:
    """Give each arrival to the first of `running` instances to be free; return the sum of waits."""
    waits = 0.0
    scale = 1.0 / math.log(1.01)
    for i in range(len(arrivals)):
        place = 0
        for j in range(1, running):
            if free[j] < free[place]:
                place = j
        start = max(arrivals[i], free[place])
        free[place] = start + service[i]
        waits += start - arrivals[i]
        latency = free[place] - arrivals[i]
        index = int(math.log(latency / 1e-4) * scale) + 1 if latency > 1e-4 else 0
        counts[min(index, len(counts) - 1)] += 1
    return waits


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _serve_workers(
    arrivals: NDArray[np.float64],
    service: NDArray[np.float64],
    free: NDArray[np.float64],
    limit: int,
    keep_warm: float,
    cold_start: float,
    counts: NDArray[np.int64],
) -> tuple[int, int]:
    """Serverless: the worker that was busy last takes a request; a new one starts cold; beyond the limit it is
    refused. free[j] is when worker j was or will be free, -inf where there is none. Returns (cold starts, refused).
    """
    cold = refused = 0
    scale = 1.0 / math.log(1.01)
    for i in range(len(arrivals)):
        now = arrivals[i]
        place, empty = -1, -1
        for j in range(limit):
            if free[j] <= now:
                if free[j] >= now - keep_warm:
                    if place < 0 or free[j] > free[place]:
                        place = j
                elif empty < 0:
                    empty = j
        start = now
        if place < 0:
            if empty < 0:
                refused += 1
                continue
            place = empty
            start = now + cold_start
            cold += 1
        free[place] = start + service[i]
        latency = free[place] - now
        index = int(math.log(latency / 1e-4) * scale) + 1 if latency > 1e-4 else 0
        counts[min(index, len(counts) - 1)] += 1
    return cold, refused


def _arrivals(rate: float, minute: int, generator: np.random.Generator) -> NDArray[np.float64]:
    times = generator.random(generator.poisson(rate * 60))
    times.sort()
    return (minute + times) * 60


def simulate_instances(
    rates: NDArray[np.float64],
    service: Service,
    *,
    least: int,
    most: int,
    target: float,
    seed: int = 0,
) -> Outcome:
    """Target tracking on invocations per instance: out after 3 minutes above the target, in after 15 below 90 % of
    it, 5 minutes between two changes, and 5 until a new instance serves. least == most: no scaling.
    """
    if least < 1 or most < least:
        raise CostError(f"{least} to {most} instances cannot be simulated: give 1 or more, and no fewer at most than at least.")
    generator = np.random.default_rng(seed)
    free = np.full(most, -np.inf)
    counts = np.zeros(_BINS, np.int64)
    instances = np.zeros(len(rates), np.int64)
    running, starting = least, []  # type: int, list[tuple[int, int]]
    per_minute = 60 * target / service.mean  # invocations an instance is to take
    high = low = cooldown = arrived = 0
    waits = busy = 0.0
    for minute, rate in enumerate(rates):
        for ready, count in [item for item in starting if item[0] <= minute]:
            free[running : running + count] = minute * 60.0
            running += count
            starting.remove((ready, count))
        instances[minute] = running + sum(count for _, count in starting)
        times = _arrivals(float(rate), minute, generator)
        work = service.draw(generator, len(times))
        waits += _serve(times, work, free, running, counts)
        busy += float(work.sum())
        arrived += len(times)
        each = len(times) / running
        high = high + 1 if each > per_minute else 0
        low = low + 1 if each < 0.9 * per_minute else 0
        cooldown -= 1
        if starting or cooldown > 0:
            continue
        if high >= SCALE_OUT_MINUTES and running < most:
            wanted = min(most, math.ceil(running * each / per_minute))
            if wanted > running:
                starting.append((minute + 1 + START_MINUTES, wanted - running))
                cooldown, high = COOLDOWN_MINUTES, 0
        elif low >= SCALE_IN_MINUTES and running > least:
            wanted = max(least, math.ceil(running * each / per_minute), running - max(1, running // 2))
            if wanted < running:
                # Those that are free soonest stay: an instance finishes what it has before it goes.
                free[:running] = np.sort(free[:running])
                running = wanted
                cooldown, low = COOLDOWN_MINUTES, 0
    return Outcome(arrived, arrived, 0, instances, busy, waits / max(1, arrived), 0, counts)


def simulate_serverless(
    rates: NDArray[np.float64],
    service: Service,
    *,
    concurrency: int = SERVERLESS_CONCURRENCY,
    cold_start: float = 6.0,
    seed: int = 0,
) -> Outcome:
    if not 1 <= concurrency <= SERVERLESS_CONCURRENCY:
        raise CostError(f"Serverless concurrency is 1 to {SERVERLESS_CONCURRENCY}, not {concurrency}.")
    generator = np.random.default_rng(seed)
    free = np.full(concurrency, -np.inf)
    counts = np.zeros(_BINS, np.int64)
    instances = np.zeros(len(rates), np.int64)
    arrived = cold = refused = 0
    busy = 0.0
    for minute, rate in enumerate(rates):
        times = _arrivals(float(rate), minute, generator)
        work = service.draw(generator, len(times))
        started, dropped = _serve_workers(times, work, free, concurrency, KEEP_WARM_SECONDS, cold_start, counts)
        instances[minute] = int((free > minute * 60.0 - KEEP_WARM_SECONDS).sum())
        arrived, cold, refused = arrived + len(times), cold + started, refused + dropped
        busy += float(work.sum()) * (1 - dropped / max(1, len(times)))
    return Outcome(arrived, arrived - refused, refused, instances, busy, 0.0, cold, counts)


def simulate_async(
    rates: NDArray[np.float64], service: Service, *, least: int, most: int, backlog_target: float = 5.0, seed: int = 0
) -> Outcome:
    """A queue in S3: out of zero as soon as there is a backlog, then by backlog per instance; in when it is empty."""
    if least < 0 or most < max(1, least):
        raise CostError(f"{least} to {most} instances cannot be simulated: give 0 or more, and at least 1 at most.")
    generator = np.random.default_rng(seed)
    counts = np.zeros(_BINS, np.int64)
    instances = np.zeros(len(rates), np.int64)
    free = np.full(most, -np.inf)
    pending: NDArray[np.float64] = np.empty(0)
    running, ready_at, joining = least, -1, 0
    quiet = arrived = served = 0
    waits = busy = 0.0
    for minute, rate in enumerate(rates):
        if joining and minute >= ready_at:
            free[running : running + joining] = minute * 60.0
            running, joining = running + joining, 0
        instances[minute] = running + joining
        times = _arrivals(float(rate), minute, generator)
        arrived += len(times)
        pending = np.concatenate([pending, times])
        end = (minute + 1) * 60.0
        # What the instances can begin within this minute.
        capacity = int(running * 60 / service.mean) + running if running else 0
        batch, pending = pending[:capacity], pending[capacity:]
        if len(batch):
            work = service.draw(generator, len(batch))
            free[:running] = np.maximum(free[:running], minute * 60.0)
            waits += _serve(batch, work, free, running, counts)
            busy += float(work.sum())
            served += len(batch)
        backlog = len(pending) + sum(max(0.0, (when - end) / service.mean) for when in free[:running])
        quiet = quiet + 1 if backlog == 0 and not len(times) else 0
        if not joining and backlog > 0 and running < most:
            wanted = min(most, max(1, math.ceil(backlog / backlog_target)))
            if wanted > running:
                joining, ready_at = wanted - running, minute + 1 + START_MINUTES
        elif running > least and quiet >= SCALE_IN_MINUTES:
            running, quiet = least, 0
    if len(pending):
        # The period is over: what waits still is served by one instance at its end.
        work = service.draw(generator, len(pending))
        late = np.full(1, len(rates) * 60.0)
        waits += _serve(pending, work, late, 1, counts)
        busy += float(work.sum())
        served += len(pending)
    return Outcome(arrived, served, arrived - served, instances, busy, waits / max(1, served), 0, counts)


@dataclass(frozen=True, slots=True)
class Simulated:
    """The bill as the simulated instances make it, beside the formula's."""

    outcome: Outcome
    formula: Bill
    lines: tuple[Line, ...]

    @property
    def usd(self) -> Decimal:
        return sum((line.usd for line in self.lines), Decimal("0.00"))


def simulate(
    deployment: Deployment,
    traffic: Traffic,
    catalogue: Catalogue,
    *,
    minutes: int = MINUTES_PER_MONTH,
    variation: float = 0.3,
    cold_start: float = 6.0,
    seed: int = 0,
) -> Simulated:
    """`minutes` of the deployment. variation: of the service time from request to request."""
    formula = bill(deployment, traffic, catalogue)
    rates = np.resize(traffic.rates, minutes)
    service = Service(formula.speed.seconds, variation)
    if deployment.mode == "serverless":
        outcome = simulate_serverless(rates, service, cold_start=cold_start, seed=seed)
        first = Decimal(str(round(outcome.busy_seconds * MINUTES_PER_MONTH / minutes, 3)))
    else:
        instance = catalogue.instance(deployment.instance)
        service = Service(formula.speed.seconds / max(1, instance.gpus), variation)
        if deployment.mode == "async":
            outcome = simulate_async(rates, service, least=deployment.min_instances, most=deployment.max_instances, seed=seed)
        else:
            outcome = simulate_instances(
                rates, service, least=deployment.min_instances, most=deployment.max_instances, target=deployment.target, seed=seed
            )
        first = Decimal(int(outcome.instances.sum())) * MINUTES_PER_MONTH / minutes / 60
    main, *rest = formula.lines
    return Simulated(outcome, formula, (Line(main.name, first, main.unit, main.price), *rest))
