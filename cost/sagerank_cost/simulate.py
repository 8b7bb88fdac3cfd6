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
from .catalogue import Catalogue
from .deploy import REQUEST_SECONDS, SERVERLESS_CONCURRENCY, Bill, Deployment, Line, bill, itemise, total
from .queueing import Counts, Latencies, Work, serve, serve_pooled
from .serverless import serve_workers
from .traffic import MINUTES_PER_MONTH, Traffic


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a simulated period. instances: billed in each minute (serverless: workers busy at once at most); late: longer than
    SageMaker's 60 s, which it answers with an error.
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
    traffic: Traffic,
    catalogue: Catalogue,
    *,
    minutes: int = MINUTES_PER_MONTH,
    cold_start: float = 6.0,
    concurrency: int = SERVERLESS_CONCURRENCY,
    tokens_at_once: int = 8192,
    seed: int = 0,
) -> Simulated:
    """`minutes` of the deployment, and the month's bill at that use. cold_start: seconds, of a serverless worker."""
    if minutes < 1 or cold_start < 0 or not 1 <= concurrency <= SERVERLESS_CONCURRENCY:
        raise CostError(
            f"{minutes} minutes with cold starts of {cold_start:g} s and {concurrency} at once: give at least 1, at least 0, and 1 to {SERVERLESS_CONCURRENCY}."
        )
    formula = bill(deployment, traffic, catalogue, tokens_at_once=tokens_at_once)
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
        arrived,
        arrived - refused,
        refused,
        latencies.above(REQUEST_SECONDS) if deployment.mode != "async" else 0,
        cold,
        instances,
        arrivals,
        busy,
        waited / max(1, arrived),
        latencies,
    )
    lines, _ = itemise(deployment, traffic, catalogue, Decimal(repr(amount * MINUTES_PER_MONTH / minutes)))
    return Simulated(outcome, formula, lines)
