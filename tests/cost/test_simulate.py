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
    [
        ("realtime", "ml.c7i.4xlarge", 1.0),
        ("serverless", "6144", 0.5),
        ("async", "ml.c7i.4xlarge", 1.0),
        ("async", "ml.c7i.4xlarge", 0.001),
        ("scale-to-zero", "ml.c7i.4xlarge", 0.02),
        ("batch", "ml.c7i.4xlarge", 0.3),
    ],
)
def test_simulated_days_conserve_requests_and_are_seeded(mode: str, instance: str, rate: float) -> None:
    which = deployment(mode, instance, max_instances=20)
    asked = scenario(daily(rate))
    found, again, other = (simulate(which, asked, minutes=5_760, seed=seed) for seed in (0, 0, 1))
    outcome = found.outcome
    assert outcome.arrived == outcome.served + outcome.refused == int(outcome.arrivals.sum())
    assert int(outcome.latencies.counts.sum()) == outcome.served
    assert found.usd == again.usd == sum(line.usd for line in found.statement.lines.values())
    assert outcome.arrived == again.outcome.arrived != other.outcome.arrived
    assert float(found.usd) == pytest.approx(float(found.formula.usd), rel=0.1)
    assert 0 <= outcome.utilisation <= 1


def test_the_formulas_latency_is_the_simulations_where_nothing_scales() -> None:
    which = deployment(min_instances=3, max_instances=3, target=0.9)
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


@pytest.mark.parametrize("changes", [{"minutes": 0}, {"seed": -1}, {"concurrency": 300}])
def test_a_wrong_simulation_is_refused(changes: dict[str, int]) -> None:
    which = deployment("serverless", "6144")
    with pytest.raises(CostError, match="give at least 1"):
        simulate(which, scenario(constant(1.0)), **changes)


def test_a_deployment_that_cannot_carry_it_is_not_simulated() -> None:
    which = deployment(instance="ml.c7i.large", choice=choice("base"), max_instances=2)
    with pytest.raises(CostError, match="more than 2"):
        simulate(which, scenario(constant(5.0)))


@pytest.mark.parametrize(
    ("mode", "instance"),
    [("realtime", "ml.c7i.4xlarge"), ("serverless", "6144"), ("async", "ml.c7i.4xlarge")],
)
def test_any_number_of_minutes_gives_the_same_month(mode: str, instance: str) -> None:
    """Parts of a day would weigh its hours as if they were the whole of it."""
    which, asked = deployment(mode, instance, max_instances=20), scenario(daily(0.5, documents=50))
    hour, day, month = (float(simulate(which, asked, minutes=minutes).usd) for minutes in (60, 1440, 43_800))
    assert hour == day == pytest.approx(month, rel=0.04)


def test_requests_that_wake_an_endpoint_wait_for_it() -> None:
    outcome = simulate(deployment("async", max_instances=5), scenario(constant(0.0002))).outcome
    assert outcome.latencies.quantile(0.5) > 300


def test_more_requests_than_a_machine_can_count_are_refused() -> None:
    which = deployment(instance="ml.g6.xlarge", precision="bf16", max_instances=100_000)
    with pytest.raises(CostError, match="give fewer --minutes"):
        simulate(which, scenario(constant(1e4, documents=1)))
