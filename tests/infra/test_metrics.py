"""Metrics of single instances: what SageMaker is told, what the dashboard shows, and what they cost."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from sagerank_cost.catalogue import Catalogue
from sagerank_cost.standing import instance_metrics
from sagerank_cost.templates.template import read
from sagerank_infra.options import ConfigError

from .conftest import CONFIG, ENDPOINTS, stacks
from .synth import example

METERED = {"realtime", "graviton", "gpu", "scale-to-zero", "marketplace"}
ON = {"metrics__enhanced": "true"}
PRICES = Catalogue()


@pytest.mark.parametrize("name", ENDPOINTS)
def test_nothing_that_is_billed_by_the_gigabyte_is_left_to_a_default(name: str) -> None:
    found = stacks(name).one(CONFIG).get("MetricsConfig")
    if name in METERED:
        assert found == {
            "EnableEnhancedMetrics": False,
            "EnableDetailedObservability": False,
            "MetricPublishFrequencyInSeconds": 60,
        }
    else:
        assert found is None


def test_what_is_asked_for_is_switched_on() -> None:
    options = {**ON, "metrics__detailed": "true", "metrics__seconds": "10"}
    assert stacks("realtime", **options).one(CONFIG)["MetricsConfig"] == {
        "EnableEnhancedMetrics": True,
        "EnableDetailedObservability": True,
        "MetricPublishFrequencyInSeconds": 10,
    }


@pytest.mark.parametrize("name", ["serverless", "async", "batch"])
@pytest.mark.parametrize(
    "option", [{"enhanced": "true"}, {"detailed": "true"}, {"seconds": "10"}], ids=lambda one: str(*one)
)
def test_modes_without_metrics_of_single_instances_refuse_them(name: str, option: dict[str, str]) -> None:
    ((key, text),) = option.items()
    with pytest.raises(ConfigError, match=rf"^metrics\.{key} is for real-time endpoints on instances"):
        example(name, **{f"metrics__{key}": text})


@pytest.mark.parametrize("seconds", ["45", "120", "5"])
def test_an_interval_that_is_not_offered_is_refused(seconds: str) -> None:
    with pytest.raises(ConfigError, match=rf"^metrics\.seconds is {seconds}: give 10"):
        example("realtime", metrics__seconds=seconds)


@pytest.mark.parametrize(
    ("name", "each"), [("realtime", 11), ("gpu", 13), ("scale-to-zero", 16), ("marketplace", 13)]
)
@pytest.mark.parametrize("count", [1, 3])
def test_each_instance_costs_its_metrics_and_templates_say_the_same(name: str, each: int, count: int) -> None:
    fleet = {"autoscaling__min": str(count), "autoscaling__max": str(count)}
    found, plain = stacks(name, **fleet, **ON), stacks(name, **fleet)
    usd = Decimal("0.30") * each * count
    line = f"metrics of each instance {usd:.2f}"
    assert line in found.outputs()["EstimatedMonthlyCost"].split("; ")
    assert "metrics of each instance" not in plain.outputs()["EstimatedMonthlyCost"]
    here, there = (read(each.assembly, PRICES, "us-east-1") for each in (found, plain))
    assert here.usd - there.usd == usd
    assert [line.usd for line in here.lines.values() if line.name == "metrics of each instance"] == [usd]


def test_each_model_of_a_fleet_has_a_copy_that_has_its_metrics() -> None:
    """Of the two instances on which the copies stand, the template has one from the start."""
    models = json.dumps(
        [
            {"name": name, "model": name, "artefact": f"s3://models/{name}/model.tar.gz"}
            for name in ("turbo", "base")
        ]
    )
    more = {"components": models, "autoscaling__min": "1", "instance": "ml.c7i.4xlarge"}
    found, plain = stacks("scale-to-zero", **more, **ON), stacks("scale-to-zero", **more)
    usd = Decimal("0.30") * 2 * (6 + 3 * (8 + 2))
    lines = dict(line.rsplit(" ", 1) for line in found.outputs()["EstimatedMonthlyCost"].split("; ")[1:9])
    assert float(lines["metrics of each instance"]) == pytest.approx(float(usd), rel=0.01)
    here, there = (read(each.assembly, PRICES, "us-east-1") for each in (found, plain))
    assert here.usd - there.usd == usd / 2


def test_a_copy_on_each_gpu_has_its_own_metrics() -> None:
    assert instance_metrics(gpus=1, components=True) == 6 + 5 + 12
    assert instance_metrics(gpus=4, components=True) == 6 + 20 + 48
    assert instance_metrics(gpus=4, components=False) == 3 + 8 + 8


def test_a_variant_s_instances_have_theirs() -> None:
    beside = json.dumps([{"name": "B", "weight": 1, "count": 2}])
    cost = stacks("realtime", variants=beside, **ON).outputs()["EstimatedMonthlyCost"]
    assert "B: metrics of each instance 6.60" in cost


def test_what_has_no_known_price_makes_the_estimate_a_lower_bound() -> None:
    found = stacks("realtime", metrics__detailed="true")
    cost = found.outputs()["EstimatedMonthlyCost"]
    assert cost.startswith("at least USD ")
    assert "not counted: OpenTelemetry metrics (CloudWatch bills" in cost
    assert any("OpenTelemetry metrics" in name for name in read(found.assembly, PRICES, "us-east-1").unknown)


def _dashboard(name: str, **options: str) -> str:
    body = stacks(name, **options).one("AWS::CloudWatch::Dashboard")["DashboardBody"]
    return body if isinstance(body, str) else json.dumps(body)


def test_the_dashboard_has_a_line_for_each_instance_and_gpu() -> None:
    shown = _dashboard("gpu", **ON)
    for name in ("CPUUtilization", "GPUUtilization", "GPUMemoryUtilization", "ModelLatency"):
        assert f'MetricName=\\\\"{name}\\\\" EndpointName=\\\\"sagerank\\\\" InstanceId' in shown.replace(
            '\\\\\\"', '\\\\"'
        )
    assert "SEARCH" not in _dashboard("gpu")
    component = _dashboard("scale-to-zero", **ON)
    assert "sagerank-component" in component[component.index("SEARCH('MetricName=") :]


@pytest.mark.parametrize(("seconds", "expression"), [("10", "values / 6"), ("30", "values / 2")])
def test_instances_are_counted_by_how_often_each_speaks(seconds: str, expression: str) -> None:
    assert expression in _dashboard("realtime", metrics__seconds=seconds)
    assert "values /" not in _dashboard("realtime")
