"""Bills: lines that add up, prices that are never 0, and deployments that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagerank_cost import CostError
from sagerank_cost.bill import SELLERS_CHARGE, Deployment, bill
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.lines import AtLeast
from sagerank_cost.models import choice
from sagerank_cost.traffic import Traffic, constant, daily

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
            "315 requests at once",
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

    assert isinstance(item.usd, AtLeast)
    assert set(item.statement.unknown) == {"data in", "data out", "volumes, 30 GB each"}


@pytest.mark.parametrize(("mode", "instance"), [("realtime", "ml.c7i.4xlarge"), ("serverless", "4096")])
def test_what_if_speeds_are_as_slow_as_they_may_be(mode: str, instance: str) -> None:
    asked = scenario(constant(0.2, documents=20))
    fast, known, slow = (
        bill(deployment(mode, instance), replace(asked, confidence=at)) for at in (0.05, 0.5, 0.95)
    )
    seconds = [item.speed.seconds for item in (fast, known, slow)]
    assert seconds == pytest.approx([known.speed.low, known.speed.seconds, known.speed.high])
    assert fast.p95 < known.p95 < slow.p95
    # An instance's hours stay what they are; a worker is billed for its seconds.
    times = float(slow.lines[0].quantity / known.lines[0].quantity)
    assert times == pytest.approx(known.speed.high / known.speed.seconds if mode == "serverless" else 1)


@pytest.mark.parametrize("wrong", [{"confidence": 0.0}, {"confidence": 1.0}, {"cold_start": -1.0}])
def test_a_scenario_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CostError, match="give"):
        replace(scenario(constant(1.0)), **wrong)


@pytest.mark.parametrize(
    ("mode", "instance", "traffic", "sentence"),
    [
        ("realtime", "ml.m5.large", constant(0.002), r"% of the requests .*take longer than the 60 s"),
        (
            "realtime",
            "ml.g4dn.xlarge",
            constant(0.02, documents=20_000, tokens=300),
            "SageMaker takes 6.3 MB",
        ),
        ("serverless", "6144", constant(0.02, documents=2_500, tokens=300), "SageMaker takes 4.2 MB"),
    ],
)
def test_what_sagemaker_would_refuse_is_refused_here(
    mode: str, instance: str, traffic: Traffic, sentence: str
) -> None:
    with pytest.raises(CostError, match=sentence):
        bill(deployment(mode, instance, choice=choice("base")), scenario(traffic))


def test_the_sellers_charge_is_an_unknown_line_and_what_stands_there_is_counted() -> None:
    asked = scenario(constant(0.01))
    bare = bill(deployment(instance="ml.m5.xlarge"), asked)
    sold = bill(
        deployment("marketplace", "ml.m5.xlarge", standing=(("alarm", 7), ("vpc_endpoint", 8))), asked
    )
    assert list(sold.statement.unknown) == [SELLERS_CHARGE]
    assert sold.usd == bare.usd + Decimal("0.70") + Decimal("58.40")


def test_a_job_a_day_and_a_component_that_sleeps_cost_less_than_an_instance_that_stands() -> None:
    asked = scenario(constant(0.0005))
    job, sleeping, standing = (
        bill(deployment(mode, "ml.m5.xlarge", min_instances=least), asked)
        for mode, least in (("batch", 0), ("scale-to-zero", 0), ("realtime", 1))
    )
    assert job.usd < sleeping.usd < standing.usd
    assert job.p95 > 43_200
    assert sleeping.running.failing > 0.5
    assert not standing.running.failing


_RATES = st.floats(0.0001, 20)
_DEPLOYMENTS = st.sampled_from(
    [
        deployment(),
        deployment(instance="ml.g6.xlarge", precision="bf16"),
        deployment("serverless", "6144"),
        deployment("async"),
        deployment("scale-to-zero", min_instances=0),
        deployment("batch", min_instances=0),
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
