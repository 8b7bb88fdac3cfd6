"""The cheapest deployment within limits, and where costs meet."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sagerank_cost.bill import MAY_BE_ZERO, MODES, Deployment, bill
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.decide import TIE, Question, candidates, decide, service_usd
from sagerank_cost.models import choice
from sagerank_cost.standing import PRESETS, of
from sagerank_cost.traffic import constant, daily

from .conftest import CATALOGUE, scenario


def question(**changes: Any) -> Question:
    options = {
        "scenario": scenario(daily(0.2)),
        "choices": tuple(map(choice, ("turbo", "tiny", "base"))),
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
    assert decision.cheapest is not None
    assert decision.best.usd <= decision.cheapest.usd * (1 + TIE)
    assert [item.usd for item in decision.bills] == sorted(item.usd for item in decision.bills)
    assert set(decision.refused) == set(decision.examples)
    assert decision.refused["rank too badly"] > 0


def test_the_pareto_front_holds_what_nothing_beats() -> None:
    decision = decide(question(p95_seconds=math.inf))
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


def test_bf16_on_a_cpu_is_priced_when_it_is_asked_for_and_where_it_is_computed() -> None:
    asked = question(
        choices=(choice("tiny"),),
        modes=("realtime",),
        p95_seconds=math.inf,
        instances=("ml.c7g.xlarge", "ml.c6g.xlarge", "ml.c7i.xlarge"),
    )
    assert {item.deployment.precision for item in decide(asked).bills} == {"fp32"}, "it has to pass a gate"
    found = decide(replace(asked, precisions=("bf16",)))
    assert {item.deployment.instance for item in found.bills} == {"ml.c7g.xlarge"}
    assert found.refused == {"do not run, fit or carry it": 2}
    assert "has no bf16, and computes its weights in float32: take fp32." in str(found.examples)


def test_more_regions_and_types_never_make_the_decision_dearer() -> None:
    one = decide(question()).best
    more = decide(question(regions=("us-east-1", "us-east-2", "eu-west-1"))).best
    everything = decide(question(instances=())).best
    assert one is not None
    assert more is not None
    assert everything is not None
    assert more.usd <= one.usd
    assert everything.usd <= one.usd


def test_a_service_bills_by_started_hundred_documents() -> None:
    cohere = CATALOGUE.service("cohere-rerank")
    once, twice = (service_usd(cohere, constant(1.0, documents=count)) for count in (100, 101))
    assert twice == 2 * once == Decimal("10512.00")
    assert service_usd(
        CATALOGUE.service("jina-reranker"), constant(1.0, documents=100, tokens=150)
    ) == Decimal("788.40")


def test_a_tie_goes_to_the_better_ranking_and_then_to_the_sooner_answer() -> None:
    """A cent does not buy a worse ranking, nor a wait that is six times as long."""
    asked = question(
        scenario=scenario(constant(0.01)),
        p95_seconds=30.0,
        instances=("ml.g4dn.xlarge",),
        modes=("realtime",),
    )
    decision = decide(asked)
    assert {item.deployment.choice.name for item in decision.bills} == {"base", "turbo", "tiny"}
    assert decision.best is not None
    assert decision.best.deployment.choice.name == "base"
    cheap, soon = CATALOGUE.hosting("us-east-1", "ml.m5.xlarge").usd, Decimal("0.234")
    priced = Catalogue(overrides={"ml.c7i.4xlarge": soon})
    assert soon < cheap * (1 + TIE)
    tied = decide(
        replace(
            asked,
            scenario=scenario(constant(0.01), priced),
            choices=(choice("tiny"),),
            instances=("ml.m5.xlarge", "ml.c7i.4xlarge"),
        )
    )
    assert tied.best is not None
    assert (tied.best.deployment.instance, tied.bills[0].deployment.instance) == (
        "ml.c7i.4xlarge",
        "ml.m5.xlarge",
    )


def test_regions_are_compared_on_lines_that_all_of_them_have() -> None:
    """An unknown rate is not 0: us-west-2 has no price of data here, and its hour is dearer."""
    asked = question(
        scenario=scenario(constant(0.05, documents=10, tokens=100)),
        choices=(choice("tiny"),),
        modes=("realtime",),
        regions=("us-east-1", "us-west-2"),
        instances=("ml.c8g.large",),
    )
    hours = {region: CATALOGUE.hosting(region, "ml.c8g.large").usd for region in asked.regions}
    best = decide(asked).best
    assert best is not None
    assert best.deployment.region == min(asked.regions, key=lambda region: (hours[region], region))
    assert decide(asked).unknown == {"data in", "data out", "volumes, 30 GB each"}


def test_a_total_that_may_be_of_any_size_wins_against_none() -> None:
    best = decide(question(modes=("realtime", "marketplace"))).best
    assert best is not None
    assert best.deployment.mode == "realtime"


@pytest.mark.parametrize("rate", [0.002, 0.7])
def test_a_stricter_limit_is_never_cheaper(rate: float) -> None:
    asked = question(scenario=scenario(daily(rate, documents=30)), instances=())
    costs = []
    for limit in (math.inf, 30.0, 3.0, 0.3):
        cheapest = decide(replace(asked, p95_seconds=limit)).cheapest
        costs.append(cheapest.usd if cheapest else Decimal("Infinity"))
    assert costs == sorted(costs)


def test_an_endpoint_that_sleeps_through_requests_meets_no_limit() -> None:
    asked = question(scenario=scenario(constant(0.001)), modes=("scale-to-zero",), p95_seconds=10.0)
    assert decide(asked).refused["fail too often"]
    best = decide(replace(asked, p95_seconds=math.inf)).best
    assert best is not None
    assert "meet no instance" in " ".join(best.notes)


def test_a_burstable_type_is_priced_when_it_is_named_and_within_its_baseline() -> None:
    asked = question(
        scenario=scenario(daily(0.001, documents=10, tokens=50)),
        instances=(),
        p95_seconds=60.0,
        choices=(choice("tiny"),),
    )
    decision = decide(asked)
    assert decision.refused["are burstable"] == 4
    assert not any("ml.t2" in item.deployment.instance for item in decision.bills)
    named = replace(
        asked,
        instances=("ml.t2.medium",),
        modes=("realtime",),
        scenario=scenario(daily(0.001, documents=10, tokens=50)),
    )
    assert decide(named).best is not None
    busy = decide(replace(named, scenario=scenario(daily(0.5, documents=20, tokens=100))))
    assert busy.best is None
    assert "its baseline" in " ".join(busy.examples.values())


@pytest.mark.parametrize("mode", MODES)
def test_a_preset_brings_its_fleet_and_what_stands_beside_it(mode: str) -> None:
    def only(**changes: Any) -> Deployment:
        instance = "6144" if mode == "serverless" else "ml.c7i.xlarge"
        shape = {
            "choices": (choice("tiny"),),
            "precisions": ("fp32",),
            "modes": (mode,),
            "instances": (instance,),
        }
        (deployment,) = candidates(question(**shape, **changes))
        return deployment

    def usd(deployment: Deployment) -> Decimal:
        return bill(deployment, scenario(daily(0.02))).usd

    alone = only()
    assert (alone.min_instances, alone.max_instances, alone.standing) == (
        int(mode not in MAY_BE_ZERO),
        20,
        (),
    )
    for name in PRESETS:
        preset, found = of(name, mode), only(preset=name)
        assert found.standing == preset.standing
        assert found.min_instances == preset.min_instances
        assert usd(found) > usd(replace(found, standing=()))
        own = only(preset=name, min_instances=3, max_instances=5)
        assert (own.min_instances, own.max_instances) == (0 if mode in MAY_BE_ZERO else 3, 5)
