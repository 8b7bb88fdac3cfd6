"""What a month costs, as the stacks say it."""

from __future__ import annotations

import json
import re

import pytest

from .conftest import EVERY, stacks


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_the_output_names_the_cost_and_where_the_budget_ends(name: str, preset: str) -> None:
    found = stacks(name, preset)
    cost = found.outputs()["EstimatedMonthlyCost"]
    metadata = next(found.assembly.glob("*observability.metadata.json")).read_text(encoding="utf-8")
    assert json.dumps(f"Estimated cost: {cost}")[1:-1] in metadata
    total = re.match(r"(?:at least )?USD ([\d.]+) a month", cost)
    assert total
    (budget,) = found.resources("AWS::Budgets::Budget")
    assert budget["Properties"]["Budget"]["BudgetLimit"]["Amount"] == pytest.approx(
        1.5 * float(total[1]), abs=0.01
    )
    assert len(budget["Properties"]["NotificationsWithSubscribers"]) == 2
    (tag,) = budget["Properties"]["Budget"]["CostFilters"]["TagKeyValue"]
    # It counts nothing before the tag is one of cost allocation.
    assert tag == "user:sagerank:name$sagerank"
    assert found.outputs()["BudgetActivation"] == (
        "aws ce update-cost-allocation-tags-status --cost-allocation-tags-status TagKey=sagerank:name,Status=Active"
    )


def test_the_cost_is_that_of_the_instances_that_always_run() -> None:
    one, two = (
        stacks("realtime", autoscaling__min=count).outputs()["EstimatedMonthlyCost"] for count in "12"
    )
    hours = re.compile(r"ml.c7i.xlarge hours ([\d.]+)")
    first, second = (float(hours.findall(text)[0]) for text in (one, two))
    assert second == pytest.approx(2 * first)
    assert "interface endpoints" not in stacks("realtime", "prod").outputs()["EstimatedMonthlyCost"]


def test_a_price_that_is_not_known_is_not_zero() -> None:
    found = stacks("realtime", region="mx-central-1")
    assert found.outputs()["EstimatedMonthlyCost"].startswith("not known (")
    assert not found.resources("AWS::Budgets::Budget")
    assert (
        stacks("realtime", region="mx-central-1", budget__monthly_usd="50").one("AWS::Budgets::Budget")[
            "Budget"
        ]["BudgetLimit"]["Amount"]
        == 50
    )


def test_what_has_no_known_price_makes_it_a_lower_bound() -> None:
    found = stacks("realtime", region="ap-northeast-1")
    cost = found.outputs()["EstimatedMonthlyCost"]
    total = re.match(r"at least USD ([\d.]+) a month", cost)
    assert total
    assert "not counted: data in (No data_in price is known in ap-northeast-1" in cost
    limit = found.one("AWS::Budgets::Budget")["Budget"]["BudgetLimit"]["Amount"]
    assert limit == pytest.approx(1.5 * float(total[1]), abs=0.01)


def test_every_variant_has_its_instances_and_volumes() -> None:
    variants = json.dumps([{"name": "B", "weight": 1, "count": 2}, {"name": "C", "weight": 1}])
    cost = stacks("realtime", variants=variants).outputs()["EstimatedMonthlyCost"]
    for line in (
        "B: ml.c7i.xlarge hours 312.44",
        "B: volumes, 30 GB each 8.40",
        "C: volumes, 30 GB each 4.20",
    ):
        assert line in cost


def test_a_deployment_whose_requests_take_too_long_is_priced_and_warned_of() -> None:
    cost = stacks("serverless", traffic__documents="300").outputs()["EstimatedMonthlyCost"]
    assert re.match(r"USD [\d.]+ a month", cost)
    assert "take longer than the 60 s that SageMaker gives them" in cost
