"""Queueing formulas against their textbook forms."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagerank_cost.autoscale import track_target
from sagerank_cost.formulas import cold_starts, erlang_c, fleet, there, wait
from sagerank_cost.queueing import Latencies, Work
from sagerank_cost.serverless import serve_workers
from sagerank_cost.traffic import daily

from .conftest import poisson


def test_erlang_c_against_its_sum() -> None:
    offered, servers = 3.2, 4
    terms = [offered**count / factorial(count) for count in range(servers)]
    last = offered**servers / factorial(servers) / (1 - offered / servers)
    assert erlang_c(servers, offered / servers) == pytest.approx(last / (sum(terms) + last))
    share, mean = wait(1, 0.7, 0.1, 0.0)  # M/D/1
    assert share * mean == pytest.approx(0.7 * 0.1 / (2 * 0.3))


@pytest.mark.parametrize(
    ("rate", "seconds", "swing"),
    [
        (0.02, 8.0, 0.4),
        (0.13, 6.0, 0.5),
        (0.4, 2.7, 0.9),
        (2.5, 0.8, 0.2),
        (7.9, 0.12, 0.5),
        (21.0, 0.55, 0.9),
    ],
)
def test_the_fleet_is_that_of_the_alarms(rate: float, seconds: float, swing: float) -> None:
    traffic, target = daily(rate, swing=swing), 36 / seconds
    arrived = np.random.default_rng(3).poisson(np.tile(traffic.rates, 12) * 60)
    serving, billed = fleet(traffic.counts, target, least=1)
    for found, expected in zip(
        (serving, billed), track_target(arrived, target, least=1, most=99), strict=True
    ):
        assert found.mean() == pytest.approx(expected.mean(), rel=0.07)


@settings(max_examples=20)
@given(st.floats(0.01, 5), st.floats(1, 2), st.floats(0.05, 20), st.floats(0, 1))
def test_more_requests_never_mean_fewer_instances(
    rate: float, factor: float, seconds: float, swing: float
) -> None:
    few, many = (
        fleet(daily(each, swing=swing).counts, 36 / seconds, least=1)[1] for each in (rate, rate * factor)
    )
    assert (many >= few).all()


@pytest.mark.parametrize(("rate", "seconds"), [(0.0005, 3.0), (0.004, 2.0), (0.05, 12.0), (1.0, 4.0)])
def test_cold_starts_are_those_of_the_simulated_workers(rate: float, seconds: float) -> None:
    arrived, generator = poisson(rate, 60_000)
    work = Work(seconds)
    _, _, cold, _ = serve_workers(arrived, work, Latencies(), generator, concurrency=200, cold_start=6.0)
    share = float(cold_starts(np.array([rate]), seconds, 6.0)[0])
    assert share == pytest.approx(cold / arrived.sum(), rel=0.1, abs=0.002)


@pytest.mark.parametrize("rate", [0.0003, 0.004, 0.03])
def test_what_may_go_to_zero_is_there_as_long_as_the_alarms_leave_it(rate: float) -> None:
    arrived, _ = poisson(rate, 100_000)
    serving, billed = track_target(arrived, 1e9, least=0, most=1)
    up, first, meanwhile = (float(each[0]) for each in there(np.array([rate])))
    assert up == pytest.approx(billed.mean(), rel=0.05)
    assert first + meanwhile == pytest.approx(arrived[serving == 0].sum() / arrived.sum(), rel=0.07)
