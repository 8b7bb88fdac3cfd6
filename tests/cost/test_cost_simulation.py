"""Queues against queueing theory, autoscaling against its rules, and a month that loses nobody."""

from __future__ import annotations

from heapq import heapreplace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sagerank_cost import CostError
from sagerank_cost.autoscale import follow_backlog, track_target
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.deploy import Deployment, bill
from sagerank_cost.formulas import erlang_c
from sagerank_cost.models import choice
from sagerank_cost.queueing import Counts, Latencies, Work, serve, serve_pooled
from sagerank_cost.serverless import KEEP_WARM_MINUTES, _Course, serve_workers
from sagerank_cost.simulate import simulate
from sagerank_cost.traffic import constant, daily, spread

CATALOGUE = Catalogue()
FEW = 4000  # minutes
EXPONENTIAL = (lambda x: (x / x.mean()).astype(np.float32))(
    -np.log1p(-(np.arange(1 << 15) + 0.5) / (1 << 15))
)


def minutes(rate: float, count: int = FEW, seed: int = 1) -> tuple[Counts, np.random.Generator]:
    generator = np.random.default_rng(seed)
    return generator.poisson(rate * 60, count), generator


def mean_wait(rate: float, servers: int, work: Work, count: int = FEW) -> float:
    arrived, generator = minutes(rate, count)
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
    recorded: list[tuple[np.ndarray, np.ndarray]] = []  # type: ignore[type-arg]

    class Recorder(np.random.Generator):
        def random(self, *arguments: object) -> np.ndarray:  # type: ignore[override, type-arg]
            drawn = super().random(*arguments)  # type: ignore[call-overload]
            recorded.append((drawn.copy(), arrived.copy()))
            return drawn  # type: ignore[no-any-return]

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
    arrived, generator = minutes(7.0, 600)
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


# Autoscaling


def test_out_after_three_minutes_and_serving_five_later() -> None:
    arrived = np.array([100] * 10 + [250] * 30)
    serving, billed = track_target(arrived, 100.0, least=1, most=10)
    first = int(np.flatnonzero(billed > 1)[0])
    assert first == 10 + 3  # the third minute above the target is over
    assert billed[first] == 3
    assert int(np.flatnonzero(serving > 1)[0]) == first + 5
    assert serving.max() == billed.max() == 3


def test_in_after_fifteen_minutes_and_never_below_the_least() -> None:
    arrived = np.array([300] * 20 + [10] * 60)
    serving, _ = track_target(arrived, 100.0, least=2, most=10)
    assert serving[0] == 3
    assert int(np.flatnonzero(serving < 3)[0]) == 20 + 15
    assert serving.min() == 2


def test_steady_traffic_within_the_band_changes_nothing() -> None:
    serving, billed = track_target(np.full(500, 290), 100.0, least=1, most=10)
    assert set(serving.tolist()) == set(billed.tolist()) == {3}


def test_a_queue_wakes_an_endpoint_and_lets_it_sleep() -> None:
    arrived = np.zeros(200, np.int64)
    arrived[50:55] = 20
    serving, billed = follow_backlog(arrived, 1.0, least=0, most=5)
    assert billed[:51].max() == 0
    assert billed[51] == 1
    assert int(np.flatnonzero(serving)[0]) == 56
    assert serving[-1] == billed[-1] == 0
    with pytest.raises(CostError, match="give 0 or more"):
        follow_backlog(arrived, 1.0, least=-1, most=5)


def test_what_waits_for_an_instance_is_served_by_it() -> None:
    arrived = np.array([5, 0, 0, 0, 0, 0, 0])
    latencies = Latencies()
    waited, worked = serve_pooled(
        arrived, np.array([0, 0, 0, 1, 1, 1, 1]), Work(2.0), latencies, np.random.default_rng(0)
    )
    assert worked == 10.0
    assert 5 * 120 < waited < 5 * 180 + 2 * (1 + 2 + 3 + 4) + 1e-6
    assert latencies.counts.sum() == 5


# Serverless


def test_steady_serverless_traffic_starts_cold_once_for_each_worker() -> None:
    arrived, generator = minutes(4.0, 300)
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
    arrived, generator = minutes(5.0, 700)
    latencies = Latencies()
    _, _, _, refused = serve_workers(arrived, Work(1.0), latencies, generator, concurrency=5, cold_start=0.0)
    blocked = 1.0
    for count in range(1, 6):
        blocked = 5 * blocked / (count + 5 * blocked)
    assert refused / arrived.sum() == pytest.approx(blocked, rel=0.04)
    assert latencies.counts.sum() == arrived.sum() - refused


# Months


@pytest.mark.parametrize(
    ("mode", "place", "rate"),
    [("realtime", "ml.c7i.4xlarge", 1.0), ("serverless", "6144", 1.0), ("async", "ml.c7i.4xlarge", 0.05)],
)
def test_simulated_days_conserve_requests_and_are_seeded(mode: str, place: str, rate: float) -> None:
    which = Deployment(choice("tiny"), "fp32", mode, "us-east-1", place, 0 if mode == "async" else 1)
    traffic = daily(rate)
    found, again, other = (
        simulate(which, traffic, CATALOGUE, minutes=5_000, seed=seed) for seed in (0, 0, 1)
    )
    outcome = found.outcome
    assert outcome.arrived == outcome.served + outcome.refused == int(outcome.arrivals.sum())
    assert int(outcome.latencies.counts.sum()) == outcome.served
    assert found.usd == again.usd == sum(line.usd for line in found.lines)
    assert outcome.arrived == again.outcome.arrived != other.outcome.arrived
    if mode != "async":  # whose instances follow the backlog, not the hour
        assert float(found.usd) == pytest.approx(float(found.formula.usd), rel=0.15)
    assert 0 <= outcome.utilisation <= 1


def test_the_formulas_latency_is_the_simulations_where_nothing_scales() -> None:
    which = Deployment(choice("tiny"), "fp32", "realtime", "us-east-1", "ml.c7i.4xlarge", 2, 2)
    traffic = constant(2.4)
    item = bill(which, traffic, CATALOGUE)
    latencies = simulate(which, traffic, CATALOGUE, minutes=20_000).outcome.latencies
    for share, expected in ((0.5, item.p50), (0.95, item.p95), (0.99, item.p99)):
        assert latencies.quantile(share) == pytest.approx(expected, rel=0.1)


@settings(max_examples=10)
@given(st.floats(0.05, 1.5), st.floats(1.3, 3))
def test_more_traffic_never_costs_less_in_the_simulation(rate: float, factor: float) -> None:
    which = Deployment(choice("tiny"), "fp32", "realtime", "us-east-1", "ml.c7i.4xlarge", 1, 100)
    traffic = constant(rate)
    few, many = (
        simulate(which, shown, CATALOGUE, minutes=500).usd for shown in (traffic, traffic.scaled(factor))
    )
    assert few <= many


@pytest.mark.parametrize("changes", [{"minutes": 0}, {"cold_start": -1.0}, {"concurrency": 300}])
def test_a_wrong_simulation_is_refused(changes: dict[str, int]) -> None:
    which = Deployment(choice("tiny"), "fp32", "serverless", "us-east-1", "6144")
    with pytest.raises(CostError, match="give at least 1"):
        simulate(which, constant(1.0), CATALOGUE, **changes)  # type: ignore[arg-type]


def test_a_deployment_that_cannot_carry_it_is_not_simulated() -> None:
    which = Deployment(choice("base"), "fp32", "realtime", "us-east-1", "ml.c7i.large", 1, 2)
    with pytest.raises(CostError, match="more than 2"):
        simulate(which, constant(5.0), CATALOGUE)
