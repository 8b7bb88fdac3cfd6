"""The cheapest deployment within limits, and where costs meet."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sagerank_cost.bill import bill
from sagerank_cost.decide import Question, break_even, curve, decide, service_usd
from sagerank_cost.models import choice
from sagerank_cost.traffic import constant, daily

from .conftest import CATALOGUE, deployment, scenario


def question(**changes: Any) -> Question:
    options = {
        "scenario": scenario(daily(0.2)),
        "choices": tuple(map(choice, ("turbo", "tiny", "base"))),
        "precisions": ("fp32", "bf16"),
        "modes": ("realtime", "serverless"),
        "regions": ("us-east-1",),
        "instances": ("ml.c7i.xlarge", "ml.c7i.4xlarge", "ml.g4dn.xlarge", "ml.g6.xlarge", "ml.m5.xlarge"),
        "p95_seconds": 2.0,
        **changes,
    }
    return Question(**options)


def test_the_best_is_the_cheapest_that_meets_the_limits() -> None:
    decision = decide(question(min_ndcg=49.0))
    assert decision.best is not None
    assert decision.best.p95 <= 2.0
    assert decision.best.deployment.choice.name != "tiny"
    assert [item.usd for item in decision.bills] == sorted(item.usd for item in decision.bills)
    assert set(decision.refused) == set(decision.examples)
    assert decision.refused["rank too badly"] > 0


def test_the_pareto_front_holds_what_nothing_beats() -> None:
    decision = decide(question(p95_seconds=None))
    front = decision.pareto()
    assert front[0].usd == decision.bills[0].usd
    for item in decision.bills:
        quality = item.deployment.choice.ndcg or 0
        beaten = [
            other
            for other in front
            if other.usd <= item.usd
            and other.p95 <= item.p95
            and (other.deployment.choice.ndcg or 0) >= quality
        ]
        assert item in front or beaten


def test_arithmetic_that_does_not_exist_is_only_priced_when_asked_for() -> None:
    asked = question(
        precisions=("bf16",),
        modes=("realtime",),
        p95_seconds=None,
        instances=("ml.c7i.xlarge", "ml.c7i.2xlarge"),
    )
    assert decide(asked).bills == ()
    shown = decide(replace(asked, hypothetical=True)).bills
    assert {item.speed.basis for item in shown} == {"hypothetical"}


def test_more_regions_and_types_never_make_the_decision_dearer() -> None:
    one = decide(question()).best
    more = decide(question(regions=("us-east-1", "us-east-2", "eu-west-1"))).best
    everything = decide(question(instances=())).best
    assert one is not None
    assert more is not None
    assert everything is not None
    assert more.usd <= one.usd
    assert everything.usd <= one.usd


@pytest.mark.parametrize("name", ["cohere-rerank", "jina-reranker"])
def test_break_even_is_where_the_costs_meet(name: str) -> None:
    ours, service = deployment(instance="ml.m5.xlarge"), CATALOGUE.service(name)
    asked = scenario(daily(1.0, documents=20))
    even = break_even(ours, service, asked)
    assert even
    for share, cheaper in ((1.05, True), (0.9, False)):
        scaled = asked.with_requests(even * share)
        assert (bill(ours, scaled).usd <= service_usd(service, scaled.traffic)) is cheaper
    assert curve(service, asked).usd[0] == service_usd(service, asked.with_requests(1000).traffic)


def test_a_service_bills_by_started_hundred_documents() -> None:
    cohere = CATALOGUE.service("cohere-rerank")
    once, twice = (service_usd(cohere, constant(1.0, documents=count)) for count in (100, 101))
    assert twice == 2 * once == Decimal("10512.00")
    assert service_usd(
        CATALOGUE.service("jina-reranker"), constant(1.0, documents=100, tokens=150)
    ) == Decimal("788.40")
