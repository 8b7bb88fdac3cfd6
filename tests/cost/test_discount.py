"""Discounts are lines below zero: bills still add up, and the decision is made with them."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal

import pytest

from sagerank_cost import CostError
from sagerank_cost.bill import Deployment, Scenario, bill
from sagerank_cost.decide import Question, compared, decide
from sagerank_cost.discount import Discounts, discounts
from sagerank_cost.lines import CENT, total
from sagerank_cost.models import choice
from sagerank_cost.traffic import constant

from .conftest import CATALOGUE, deployment

SCENARIO = Scenario(constant(0.1, documents=20), CATALOGUE)


def usd(subject: Deployment, **percents: int) -> dict[str, Decimal]:
    scenario = replace(
        SCENARIO, discounts=Discounts(**{name: Decimal(each) for name, each in percents.items()})
    )
    item = bill(subject, scenario)
    assert item.usd == total(item.lines) == sum(line.usd for line in item.lines)
    return {line.name: line.usd for line in item.lines}


@pytest.mark.parametrize(("mode", "covered"), [("realtime", True), ("async", False)])
def test_a_savings_plan_is_off_instance_hours_of_real_time_endpoints(mode: str, covered: bool) -> None:
    subject = replace(deployment(mode), standing=(("vpc_endpoint", 3),))
    lines = usd(subject, savings_plan=30)
    hours = lines.pop("ml.c7i.4xlarge hours")
    saved = lines.pop("savings plan on instance hours, 30 %", None)
    assert saved == ((-hours * 30 / 100).quantize(CENT) if covered else None)
    assert {**lines, "ml.c7i.4xlarge hours": hours} == usd(subject)


def test_an_edp_is_off_all_that_a_savings_plan_leaves() -> None:
    subject = deployment("realtime")
    lines = usd(subject, savings_plan=30, edp=10)
    edp = lines.pop("EDP on every line, 10 %")
    assert edp == (-sum(lines.values(), Decimal(0)) / 10).quantize(CENT)
    assert usd(deployment("serverless", "6144"), savings_plan=30) == usd(deployment("serverless", "6144"))
    assert sum(usd(deployment("serverless", "6144"), edp=50).values()) < sum(
        usd(deployment("serverless", "6144")).values()
    )


def test_the_decision_is_made_with_discounts() -> None:
    """Serverless is cheaper, until a savings plan takes nearly everything off instance hours."""
    question = Question(
        scenario=replace(SCENARIO, traffic=constant(0.01, documents=20)),
        choices=(choice("tiny"),),
        precisions=("fp32",),
        modes=("realtime", "serverless"),
        regions=("us-east-1",),
    )
    before = decide(question).best
    plan = replace(question.scenario, discounts=Discounts(savings_plan=Decimal(99)))
    after = decide(replace(question, scenario=plan)).best
    assert before is not None
    assert after is not None
    assert (before.deployment.mode, after.deployment.mode) == ("serverless", "realtime")
    assert after.usd < before.usd


def test_what_is_left_out_of_a_comparison_takes_its_discount_with_it() -> None:
    scenario = replace(SCENARIO, discounts=Discounts(edp=Decimal(50)))
    item, full = bill(deployment(), scenario), bill(deployment(), SCENARIO)
    without = frozenset({"data in", "data out"})
    rest = total(line for line in full.lines if line.name not in without)
    assert compared(item, without) == rest - (rest / 2).quantize(CENT, ROUND_HALF_UP)
    assert compared(item, frozenset()) == item.usd


def test_what_makes_no_sense_is_refused() -> None:
    assert discounts([("edp", Decimal(5)), ("savings-plan", Decimal(30))]) == Discounts(
        Decimal(5), Decimal(30)
    )
    for given, sentence in {
        (("edp", Decimal(5)), ("edp", Decimal(6))): "given twice",
        (("plan", Decimal(5)),): "There is no discount 'plan'",
        (("edp", Decimal("nan")),): "give 0 to 99",
        (("edp", Decimal(100)),): "give 0 to 99",
        (("savings-plan", Decimal(-1)),): "give 0 to 99",
    }.items():
        with pytest.raises(CostError, match=sentence):
            discounts(given)
