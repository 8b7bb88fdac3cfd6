"""Workers of a serverless endpoint: cold, warm, and none left."""

from __future__ import annotations

import numpy as np
import pytest

from sagerank_cost.formulas import KEEP_WARM_MINUTES
from sagerank_cost.queueing import Latencies, Work
from sagerank_cost.serverless import _Course, serve_workers

from .conftest import poisson


def test_steady_serverless_traffic_starts_cold_once_for_each_worker() -> None:
    arrived, generator = poisson(4.0, 300)
    latencies = Latencies()
    levels, busy, cold, refused = serve_workers(
        arrived, Work(1.0), latencies, generator, concurrency=200, cold_start=5.0
    )
    assert refused == 0
    assert levels.max() <= cold <= 3 * levels.max()
    assert busy == pytest.approx(float(arrived.sum()), rel=1e-5)
    assert latencies.quantile(0.5) == pytest.approx(1.0, rel=0.01)


def test_rare_requests_all_start_cold() -> None:
    arrived = np.zeros(200, np.int64)
    arrived[:: KEEP_WARM_MINUTES + 2] = 1
    latencies = Latencies()
    _, _, cold, _ = serve_workers(
        arrived, Work(1.0), latencies, np.random.default_rng(0), concurrency=5, cold_start=7.0
    )
    assert cold == arrived.sum()
    assert latencies.quantile(0.5) == pytest.approx(8.0, rel=0.01)


def test_the_rounds_settle_on_what_happens_one_by_one() -> None:
    generator = np.random.default_rng(3)
    minute = np.repeat(np.arange(20), 40)
    times = np.sort(minute * 60.0 + generator.random(len(minute)) * 60)
    seconds = generator.exponential(4.0, len(minute))
    quick, plain = (_Course(np.zeros(20, np.int64), np.array([30.0, 90.0]), 9, 6.0) for _ in range(2))
    found, expected = quick.rounds(minute, times, seconds), plain.one_by_one(minute, times, seconds)
    assert found is not None
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))
    assert (quick.levels == plain.levels).all()
    assert 0 < expected[0].sum() < len(minute)
    assert 0 < (~expected[1]).sum() < len(minute)


def test_beyond_the_concurrency_requests_are_refused() -> None:
    """Erlang's loss formula: a share B of requests finds all workers busy."""
    arrived, generator = poisson(5.0, 700)
    latencies = Latencies()
    _, _, _, refused = serve_workers(arrived, Work(1.0), latencies, generator, concurrency=5, cold_start=0.0)
    blocked = 1.0
    for count in range(1, 6):
        blocked = 5 * blocked / (count + 5 * blocked)
    assert refused / arrived.sum() == pytest.approx(blocked, rel=0.04)
    assert latencies.counts.sum() == arrived.sum() - refused
