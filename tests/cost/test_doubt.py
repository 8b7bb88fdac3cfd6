"""What a decision rests on: it holds at the slow bound, and says what would win instead and from which speed on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sagerank_cost.bill import request_alone
from sagerank_cost.decide import Question, admit, decide
from sagerank_cost.doubt import ESTIMATE, answer
from sagerank_cost.models import choice
from sagerank_cost.traffic import daily

from .conftest import scenario


def question(rate: float, limit: float, **changes: Any) -> Question:
    options = {
        "scenario": scenario(daily(rate)),
        "choices": tuple(map(choice, ("turbo", "tiny", "base"))),
        "modes": ("realtime", "serverless"),
        "regions": ("us-east-1",),
        "p95_seconds": limit,
        **changes,
    }
    return Question(**options)


@pytest.mark.parametrize(("rate", "limit"), [(1.0, 1.0), (0.2, 2.0), (0.05, 30.0)])
def test_the_switch_lies_where_it_is_said_to(rate: float, limit: float) -> None:
    asked = question(rate, limit)
    found = answer(asked)
    assert found.best is not None
    assert found.slow is not None
    assert found.best.p95 <= limit
    assert found.slow.usd == found.best.usd
    if found.switch is None:
        assert found.expected.best is not None
        assert found.expected.best.deployment == found.best.deployment
        return
    other = found.switch.bill.deployment
    estimate = request_alone(other, asked.at(ESTIMATE).scenario).seconds
    slow = request_alone(other, asked.scenario).seconds
    assert found.switch.bill.speed.seconds == estimate <= found.switch.below <= slow
    assert f"--instance {other.instance} " in found.switch.measure
    if 1.01 * found.switch.below < slow:  # beyond it, either the limit or the price is not met
        later = next(
            at
            for at in (each / 1000 for each in range(501, 951))
            if request_alone(other, asked.at(at).scenario).seconds > 1.01 * found.switch.below
        )
        bills = [item for item in decide(asked.at(later)).bills if item.deployment == other]
        assert not bills or bills[0].usd > found.best.usd * 98 / 100


def test_it_holds_as_long_as_it_says() -> None:
    asked = question(0.2, 2.0)
    found = answer(asked)
    assert found.best is not None
    assert (
        found.holds
        > found.best.speed.high
        / request_alone(found.best.deployment, asked.at(ESTIMATE).scenario).seconds
        * 0.99
    )
    assert admit(asked, found.best.deployment).usd == found.best.usd


def test_where_nothing_is_sure_the_answer_says_what_might_be() -> None:
    asked = question(0.2, 2.0, instances=("ml.c7g.2xlarge",), choices=(choice("tiny"),), modes=("realtime",))
    found = answer(asked)
    assert found.best is None
    assert found.switch is not None
    assert found.switch.below < request_alone(found.switch.bill.deployment, asked.scenario).seconds


def test_int8_is_priced_beside_and_never_recommended_unless_asked_for() -> None:
    asked = question(0.2, 2.0)
    found = answer(asked)
    assert found.best is not None
    assert found.best.deployment.precision != "int8"
    assert found.int8["tiny"].usd < found.best.usd
    assert not answer(replace(asked, precisions=("fp32", "int8"))).int8


def test_a_hopeful_answer_has_nothing_instead() -> None:
    """What wins at the estimate takes longer than what was asked for: no measurement below it settles anything."""
    found = answer(question(0.2, 2.0).at(0.05))
    assert found.best is not None
    assert found.expected.best is not None
    assert found.switch is None
