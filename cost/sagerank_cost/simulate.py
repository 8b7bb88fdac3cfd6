"""A month, request by request, under SageMaker's autoscaling rules: what queueing formulas leave out.

Seeded. How many requests a minute brings is drawn first, because autoscaling looks at nothing else (but for a queue's
backlog); then the instances of each minute are known, and queueing.py serves the requests on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from . import CostError
from .autoscale import follow_backlog, track_target
from .bill import IN_TIME, REQUEST_SECONDS, Bill, Deployment, Scenario, bill, month
from .formulas import START_MINUTES
from .lines import Statement
from .queueing import Counts, Latencies, Work, serve, serve_pooled, work_by_minute
from .running import SERVERLESS_CONCURRENCY
from .serverless import serve_workers
from .traffic import MINUTES_PER_DAY, MINUTES_PER_MONTH

# Requests that are simulated at most: a few minutes of work for a machine.
MOST_REQUESTS = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened in a simulated period. `late` requests took longer than SageMaker's 60 s, which it answers with an error.

    `instances` are those billed in each minute [minutes]; serverless: the most workers busy at once in it.
    """

    arrived: int
    served: int
    refused: int
    late: int
    cold_starts: int
    instances: Counts
    arrivals: Counts
    busy_seconds: float
    mean_wait: float
    latencies: Latencies

    @property
    def utilisation(self) -> float:
        available = float(self.instances.sum()) * 60
        return self.busy_seconds / available if available else 0.0


@dataclass(frozen=True, slots=True)
class Simulated:
    """The statement that the simulated instances make, beside the formula's bill."""

    outcome: Outcome
    formula: Bill
    statement: Statement

    @property
    def usd(self) -> Decimal:
        return self.statement.usd


def simulate(
    deployment: Deployment,
    scenario: Scenario,
    *,
    minutes: int = MINUTES_PER_MONTH,
    concurrency: int = SERVERLESS_CONCURRENCY,
    seed: int = 0,
) -> Simulated:
    """Simulate the deployment for `minutes`, rounded up to whole days (of a log: to its length), and bill a month at that use.

    Raises CostError for limits that make no sense, and where the deployment cannot carry the traffic.
    """
    if minutes < 1 or seed < 0 or not 1 <= concurrency <= SERVERLESS_CONCURRENCY:
        raise CostError(
            f"{minutes} minutes with seed {seed} and {concurrency} at once: give at least 1, at least 0, and 1 to {SERVERLESS_CONCURRENCY}."
        )
    formula, traffic = bill(deployment, scenario), scenario.traffic
    minutes = traffic.minutes(minutes)
    if traffic.mean * 60 * minutes > MOST_REQUESTS:
        raise CostError(
            f"{minutes:,} minutes have {traffic.mean * 60 * minutes:,.0f} requests, more than {MOST_REQUESTS:,}: give fewer --minutes, or a lower rate."
        )
    generator = np.random.default_rng(seed)
    arrivals: Counts = generator.poisson(np.tile(traffic.rates, minutes // len(traffic.rates)) * 60)
    work, latencies = Work(formula.seconds, formula.traffic.sizes), Latencies()
    refused = cold = 0
    waited = 0.0
    least, most = deployment.min_instances, deployment.max_instances
    if deployment.mode == "serverless":
        start = scenario.cold_start
        instances, busy, cold, refused = serve_workers(
            arrivals, work, latencies, generator, concurrency=concurrency, cold_start=start
        )
    elif deployment.mode == "async":
        # The alarms see the queue as it is: the same requests are drawn twice.
        once, again = (np.random.default_rng((seed, 1)) for _ in range(2))
        brought = work_by_minute(arrivals, work, once)
        serving, instances = follow_backlog(arrivals, brought, work.mean, least=least, most=most)
        waited, busy = serve_pooled(arrivals, serving, work, latencies, again)
    elif deployment.mode == "batch":
        serving, instances = _daily_jobs(arrivals, formula)
        padded = np.pad(arrivals, (0, len(serving) - len(arrivals)))
        waited, busy = serve_pooled(padded, serving, work, latencies, generator)
    else:
        target = 60 * deployment.target / work.mean
        serving, instances = track_target(arrivals, target, least=least, most=most)
        refused = int(arrivals[serving == 0].sum())
        served = np.where(serving > 0, arrivals, 0)
        waited, busy = serve(served, np.maximum(serving, 1), work, latencies, generator)
    arrived = int(arrivals.sum())
    outcome = Outcome(
        arrived=arrived,
        served=arrived - refused,
        refused=refused,
        late=latencies.above(REQUEST_SECONDS) if deployment.mode in IN_TIME else 0,
        cold_starts=cold,
        instances=instances,
        arrivals=arrivals,
        busy_seconds=busy,
        mean_wait=waited / max(1, arrived),
        latencies=latencies,
    )
    share = busy / 60 if deployment.mode == "serverless" else float(instances.sum())
    return Simulated(outcome, formula, month(deployment, scenario, share / minutes))


def _daily_jobs(arrivals: Counts, formula: Bill) -> tuple[Counts, Counts]:
    """Instances that serve, until all is scored, and that are billed in every minute: a job at a day's end scores what it brought."""
    count, free = formula.running.peak, 0
    days = [arrivals[begin : begin + MINUTES_PER_DAY] for begin in range(0, len(arrivals), MINUTES_PER_DAY)]
    jobs = []
    for number, day in enumerate(days, 1):
        begin = max(number * MINUTES_PER_DAY, free)
        free = begin + START_MINUTES + math.ceil(float(day.sum()) * formula.seconds / 60 / count)
        jobs.append((begin, free))
    serving, billed = np.zeros(free, np.int64), np.zeros(free, np.int64)
    for begin, end in jobs:
        billed[begin:end] = serving[begin + START_MINUTES : end] = count
    # What stands after the last day is the month's, too.
    billed[: free - len(arrivals)] += billed[len(arrivals) :]
    return serving, billed[: len(arrivals)]
