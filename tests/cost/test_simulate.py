"""A month that loses nobody, and costs what the formula says where nothing scales."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagerank_cost import CostError
from sagerank_cost.bill import bill
from sagerank_cost.models import choice
from sagerank_cost.simulate import simulate
from sagerank_cost.traffic import constant, daily

from .conftest import deployment, scenario


@pytest.mark.parametrize(
    ("mode", "instance", "rate"),
    [("realtime", "ml.c7i.4xlarge", 1.0), ("serverless", "6144", 1.0), ("async", "ml.c7i.4xlarge", 0.05)],
)
def test_simulated_days_conserve_requests_and_are_seeded(mode: str, instance: str, rate: float) -> None:
    which = deployment(mode, instance, max_instances=20)
    asked = scenario(daily(rate))
    found, again, other = (simulate(which, asked, minutes=5_000, seed=seed) for seed in (0, 0, 1))
    outcome = found.outcome
    assert outcome.arrived == outcome.served + outcome.refused == int(outcome.arrivals.sum())
    assert int(outcome.latencies.counts.sum()) == outcome.served
    assert found.usd == again.usd == sum(line.usd for line in found.lines)
    assert outcome.arrived == again.outcome.arrived != other.outcome.arrived
    if mode != "async":  # whose instances follow the backlog, not the hour
        assert float(found.usd) == pytest.approx(float(found.formula.usd), rel=0.15)
    assert 0 <= outcome.utilisation <= 1


def test_the_formulas_latency_is_the_simulations_where_nothing_scales() -> None:
    which = deployment(min_instances=2, max_instances=2)
    asked = scenario(constant(2.4))
    item = bill(which, asked)
    latencies = simulate(which, asked, minutes=20_000).outcome.latencies
    for share, expected in ((0.5, item.p50), (0.95, item.p95), (0.99, item.p99)):
        assert latencies.quantile(share) == pytest.approx(expected, rel=0.1)


@settings(max_examples=10)
@given(st.floats(0.05, 1.5), st.floats(1.3, 3))
def test_more_traffic_never_costs_less_in_the_simulation(rate: float, factor: float) -> None:
    which = deployment(max_instances=100)
    traffic = constant(rate)
    few, many = (
        simulate(which, scenario(shown), minutes=500).usd for shown in (traffic, traffic.scaled(factor))
    )
    assert few <= many


@pytest.mark.parametrize("changes", [{"minutes": 0}, {"cold_start": -1.0}, {"concurrency": 300}])
def test_a_wrong_simulation_is_refused(changes: dict[str, int]) -> None:
    which = deployment("serverless", "6144")
    with pytest.raises(CostError, match="give at least 1"):
        simulate(which, scenario(constant(1.0)), **changes)


def test_a_deployment_that_cannot_carry_it_is_not_simulated() -> None:
    which = deployment(instance="ml.c7i.large", choice=choice("base"), max_instances=2)
    with pytest.raises(CostError, match="more than 2"):
        simulate(which, scenario(constant(5.0)))
