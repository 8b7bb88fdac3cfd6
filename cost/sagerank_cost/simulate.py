"""A month, request by request, under SageMaker's autoscaling rules: what queueing formulas leave out.

Seeded. How many requests a minute brings is drawn first, because autoscaling looks at nothing else (but for a queue's
backlog); then the instances of each minute are known, and queueing.py serves the requests on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from . import CostError
from .autoscale import follow_backlog, track_target
from .bill import REQUEST_SECONDS, SERVERLESS_CONCURRENCY, Bill, Deployment, Scenario, bill, itemise
from .lines import Line, total
from .queueing import Counts, Latencies, Work, serve, serve_pooled
from .serverless import serve_workers
from .traffic import MINUTES_PER_MONTH


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
    """The bill that the simulated instances make, beside the formula's."""

    outcome: Outcome
    formula: Bill
    lines: tuple[Line, ...]

    @property
    def usd(self) -> Decimal:
        return total(self.lines)


def simulate(
    deployment: Deployment,
    scenario: Scenario,
    *,
    minutes: int = MINUTES_PER_MONTH,
    cold_start: float = 6.0,
    concurrency: int = SERVERLESS_CONCURRENCY,
    seed: int = 0,
) -> Simulated:
    """Simulate `minutes` of the deployment, and bill a month at that use. A serverless worker starts in `cold_start` seconds.

    Raises CostError for limits that make no sense, and where the deployment cannot carry the traffic.
    """
    if minutes < 1 or cold_start < 0 or not 1 <= concurrency <= SERVERLESS_CONCURRENCY:
        raise CostError(
            f"{minutes} minutes with cold starts of {cold_start:g} s and {concurrency} at once: give at least 1, at least 0, and 1 to {SERVERLESS_CONCURRENCY}."
        )
    formula, traffic = bill(deployment, scenario), scenario.traffic
    generator = np.random.default_rng(seed)
    arrivals: Counts = generator.poisson(np.resize(traffic.rates, minutes) * 60)
    work, latencies = Work(formula.speed.seconds, traffic.sizes), Latencies()
    refused = cold = 0
    waited = 0.0
    if deployment.mode == "serverless":
        instances, busy, cold, refused = serve_workers(
            arrivals, work, latencies, generator, concurrency=concurrency, cold_start=cold_start
        )
        amount = busy
    else:
        least, most = deployment.min_instances, deployment.max_instances
        if deployment.mode == "async":
            serving, instances = follow_backlog(arrivals, work.mean, least=least, most=most)
            waited, busy = serve_pooled(arrivals, serving, work, latencies, generator)
        else:
            serving, instances = track_target(
                arrivals, 60 * deployment.target / work.mean, least=least, most=most
            )
            waited, busy = serve(arrivals, serving, work, latencies, generator)
        amount = float(instances.sum()) / 60
    arrived = int(arrivals.sum())
    outcome = Outcome(
        arrived=arrived,
        served=arrived - refused,
        refused=refused,
        late=latencies.above(REQUEST_SECONDS) if deployment.mode != "async" else 0,
        cold_starts=cold,
        instances=instances,
        arrivals=arrivals,
        busy_seconds=busy,
        mean_wait=waited / max(1, arrived),
        latencies=latencies,
    )
    monthly = Decimal(repr(amount * MINUTES_PER_MONTH / minutes))
    return Simulated(outcome, formula, tuple(itemise(deployment, scenario, monthly).lines.values()))
