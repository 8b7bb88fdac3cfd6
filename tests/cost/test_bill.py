"""Bills: lines that add up, prices that are never 0, and deployments that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagerank_cost import CostError
from sagerank_cost.bill import Deployment, bill
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.traffic import constant, daily

from .conftest import CATALOGUE, deployment, scenario


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: deployment("realtme"), "did you mean realtime"),
        (lambda: deployment("serverless", "1000"), "one of 1024"),
        (lambda: deployment(min_instances=0), "at least 1"),
        (lambda: deployment(target=1.0), "less than 1"),
        (lambda: bill(deployment(instance="ml.inf2.xlarge"), scenario(constant(1.0))), "no graph"),
        (lambda: bill(deployment(max_instances=1), scenario(constant(50.0))), "more than 1: take"),
        (
            lambda: bill(deployment("serverless", "1024"), scenario(constant(1.0, documents=1000))),
            "stops at 60",
        ),
        (
            lambda: bill(deployment(precision="bf16", instance="ml.g4dn.xlarge"), scenario(constant(1.0))),
            "take fp32",
        ),
    ],
)
def test_what_is_wrong_gets_a_sentence(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(CostError, match=sentence):
        call()


@pytest.mark.parametrize(
    ("mode", "instance"), [("realtime", "ml.c7i.4xlarge"), ("serverless", "4096"), ("async", "ml.c7i.xlarge")]
)
def test_lines_add_up_to_the_cent(mode: str, instance: str) -> None:
    item = bill(deployment(mode, instance), scenario(daily(0.7)))
    assert item.usd == sum(line.usd for line in item.lines)
    assert all(line.usd == line.usd.quantize(Decimal("0.01")) for line in item.lines)
    assert item.lines[0].quantity * item.lines[0].price.usd == pytest.approx(
        item.lines[0].usd, abs=Decimal("0.005")
    )


def test_one_instance_of_an_idle_month_is_730_hours() -> None:
    item = bill(deployment(instance="ml.m5.xlarge"), scenario(constant(0.001)))
    lines = {line.name: line.usd for line in item.lines}
    assert lines["ml.m5.xlarge hours"] == Decimal("167.90")
    assert lines["volumes, 30 GB each"] == Decimal("4.20")


def test_an_unknown_rate_is_said_and_never_zero() -> None:
    item = bill(deployment(region="eu-central-1", instance="ml.m5.xlarge"), scenario(constant(0.1)))
    assert [line.name for line in item.lines] == ["ml.m5.xlarge hours"]
    assert sum(note.startswith("not counted: ") for note in item.notes) == 3


@pytest.mark.parametrize(("mode", "instance"), [("realtime", "ml.c7i.4xlarge"), ("serverless", "4096")])
def test_what_if_a_request_took_twice_as_long(mode: str, instance: str) -> None:
    asked = scenario(constant(0.7, documents=20))
    known, slow = (bill(deployment(mode, instance), each) for each in (asked, replace(asked, slower=2.0)))
    assert slow.speed.seconds == 2 * known.speed.seconds
    assert (slow.speed.low, slow.speed.high) == (2 * known.speed.low, 2 * known.speed.high)
    assert "2 times as long" in slow.speed.why
    assert slow.utilisation == (1.0 if mode == "serverless" else pytest.approx(2 * known.utilisation))
    times = float(slow.lines[0].quantity / known.lines[0].quantity)  # an instance's hours stay what they are
    assert times == pytest.approx(2 if mode == "serverless" else 1)
    with pytest.raises(CostError, match="more than 0"):
        replace(asked, slower=0.0)


_RATES = st.floats(0.0001, 20)
_DEPLOYMENTS = st.sampled_from(
    [
        deployment(),
        deployment(instance="ml.g6.xlarge", precision="bf16"),
        deployment("serverless", "6144"),
        deployment("async"),
    ]
)


@settings(max_examples=25)
@given(_DEPLOYMENTS, _RATES, st.floats(1, 3), st.floats(0, 1))
def test_more_traffic_never_costs_less(which: Deployment, rate: float, factor: float, swing: float) -> None:
    few = daily(rate, swing=swing, documents=20)
    try:
        dearer = bill(which, scenario(few.scaled(factor))).usd
    except CostError:
        return
    assert bill(which, scenario(few)).usd <= dearer


@settings(max_examples=25)
@given(_DEPLOYMENTS, _RATES, st.decimals("0.001", "1", places=3))
def test_a_cheaper_price_never_raises_the_total(which: Deployment, rate: float, factor: Decimal) -> None:
    instance = "ml.c7i.4xlarge" if which.mode == "serverless" else which.instance
    cheaper = Catalogue(overrides={instance: CATALOGUE.hosting("us-east-1", instance).usd * factor})
    traffic = constant(rate, documents=20)
    try:
        before = bill(which, scenario(traffic)).usd
    except CostError:
        return
    assert bill(which, scenario(traffic, cheaper)).usd <= before
