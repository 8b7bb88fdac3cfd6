"""Queues against queueing theory, and the vectorised one against the plain one."""

from __future__ import annotations

from heapq import heapreplace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagerank_cost.formulas import erlang_c
from sagerank_cost.queueing import Latencies, Work, serve, serve_pooled
from sagerank_cost.traffic import spread

from .conftest import poisson

FEW = 4000  # minutes
EXPONENTIAL = (lambda x: (x / x.mean()).astype(np.float32))(
    -np.log1p(-(np.arange(1 << 15) + 0.5) / (1 << 15))
)


def mean_wait(rate: float, servers: int, work: Work, count: int = FEW) -> float:
    arrived, generator = poisson(rate, count)
    latencies = Latencies()
    waited, _ = serve(arrived, np.full(count, servers), work, latencies, generator)
    assert int(latencies.counts.sum()) == int(arrived.sum())
    return waited / int(arrived.sum())


@pytest.mark.parametrize(("load", "seconds"), [(0.5, 0.1), (0.7, 0.1), (0.8, 0.25)])
def test_waits_are_those_of_m_d_1(load: float, seconds: float) -> None:
    expected = load * seconds / (2 * (1 - load))
    assert mean_wait(load / seconds, 1, Work(seconds)) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("servers", "load", "count"), [(1, 0.7, 8000), (2, 0.8, 5000), (4, 0.7, 3000), (8, 0.75, 1500)]
)
def test_waits_are_those_of_m_m_c(servers: int, load: float, count: int) -> None:
    seconds = 0.2
    expected = erlang_c(servers, load) * seconds / (servers * (1 - load))
    found = mean_wait(servers * load / seconds, servers, Work(seconds, EXPONENTIAL), count)
    assert found == pytest.approx(expected, rel=0.03)


def test_one_waits_as_pollaczek_and_khinchine_say() -> None:
    sizes = spread(0.6)
    expected = 0.7 * 0.1 * (1 + float(sizes.std()) ** 2) / (2 * 0.3)
    assert mean_wait(7.0, 1, Work(0.1, sizes), 8000) == pytest.approx(expected, rel=0.03)


def one_by_one(times: list[float], seconds: list[float], servers: int) -> float:
    free = [0.0] * servers
    waited = 0.0
    for time, work in zip(times, seconds, strict=True):
        start = max(free[0], time)
        heapreplace(free, start + work)
        waited += start - time
    return waited


@settings(max_examples=30)
@given(st.integers(1, 5), st.floats(0.3, 1.3), st.integers(0, 10_000))
def test_the_vectorised_queue_is_the_plain_one(servers: int, load: float, seed: int) -> None:
    """Also when overloaded, where minutes never forget how they began."""
    recorded: list[tuple[np.ndarray, np.ndarray]] = []

    class Recorder(np.random.Generator):
        def random(self, *arguments: object) -> np.ndarray:  # type: ignore[override]
            drawn = super().random(*arguments)
            recorded.append((drawn.copy(), arrived.copy()))
            return drawn

    arrived = np.random.default_rng(seed).poisson(servers * load / 0.5 * 60, 12)
    generator = Recorder(np.random.PCG64(seed))
    waited, worked = serve(arrived, np.full(12, servers), Work(0.5), Latencies(), generator)
    assert worked == pytest.approx(0.5 * arrived.sum(), rel=1e-5)
    order = np.argsort(arrived, kind="stable")
    drawn = recorded[0][0]
    times = [
        60.0 * minute + float(offset) * 60
        for minute in range(12)
        for offset in np.sort(drawn[int(np.flatnonzero(order == minute)[0])][: arrived[minute]])
    ]
    expected = one_by_one(times, [0.5] * len(times), servers)
    assert waited == pytest.approx(expected, rel=2e-3, abs=0.01)


def test_instances_that_come_and_go_change_the_wait() -> None:
    arrived, generator = poisson(7.0, 600)
    servers = np.where(np.arange(600) < 300, 1, 3)
    few, many = Latencies(), Latencies()
    serve(arrived, servers, Work(0.12), few, generator)
    serve(arrived, np.full(600, 3), Work(0.12), many, generator)
    assert few.quantile(0.95) > 2 * many.quantile(0.95)
    assert few.counts.sum() == many.counts.sum() == arrived.sum()


def test_latencies_are_counted_to_a_hundredth() -> None:
    latencies = Latencies()
    latencies.add(np.linspace(0.001, 100, 100_001, dtype=np.float32))
    assert latencies.quantile(0.5) == pytest.approx(50, rel=0.01)
    assert latencies.quantile(0.99) == pytest.approx(99, rel=0.01)
    assert latencies.above(60.0) == pytest.approx(40_000, rel=0.02)
    assert Latencies().quantile(0.5) == 0.0


def test_what_waits_for_an_instance_is_served_by_it() -> None:
    arrived = np.array([5, 0, 0, 0, 0, 0, 0])
    latencies = Latencies()
    waited, worked = serve_pooled(
        arrived, np.array([0, 0, 0, 1, 1, 1, 1]), Work(2.0), latencies, np.random.default_rng(0)
    )
    assert worked == 10.0
    assert 5 * 120 < waited < 5 * 180 + 2 * (1 + 2 + 3 + 4) + 1e-6
    assert latencies.counts.sum() == 5
