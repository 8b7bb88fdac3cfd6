"""`sagerank cost` and the stacks: the same figure for the same deployment, to the cent, line by line."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from sagerank_cost import standing
from sagerank_cost.__main__ import main
from sagerank_cost.bill import Bill, Deployment, Scenario, bill
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.lines import AtLeast
from sagerank_cost.models import choice
from sagerank_cost.templates.template import read
from sagerank_cost.traffic import constant
from sagerank_infra import estimate
from sagerank_infra.config import DeployConfig
from sagerank_infra.instances import hardware
from sagerank_infra.standing import standing as counted

from .conftest import ALARM, EVERY, MODEL, POLICY, TARGET, Synthesised, stacks

PRICES = Catalogue()
# What templates say in full; logs and metrics depend on whether anybody asks.
IN_TEMPLATES = ("alarm", "dashboard", "kms_key", "vpc_endpoint")


def gpu(config: DeployConfig) -> bool:
    return bool(config.instance and hardware(config.instance).gpu)


def watched(alarm: dict[str, Any]) -> int:
    """An alarm on an expression is billed for each metric in it."""
    return sum("MetricStat" in each for each in alarm["Properties"].get("Metrics", [])) or 1


def tracking(found: Synthesised) -> int:
    """Policies that track a target: autoscaling makes two alarms of each, which no template has."""
    kinds = [policy["Properties"]["PolicyType"] for policy in found.resources(POLICY)]
    return kinds.count("TargetTrackingScaling")


def beside(found: Synthesised) -> dict[str, int]:
    """What the templates put beside the model, by item of rates.csv."""
    filters = [
        each["Properties"]["MetricTransformations"][0]["MetricValue"]
        for each in found.resources("AWS::Logs::MetricFilter")
    ]
    interfaces = [
        len(each["Properties"]["SubnetIds"])
        for each in found.resources("AWS::EC2::VPCEndpoint")
        if each["Properties"]["VpcEndpointType"] == "Interface"
    ]
    containers = [model["Properties"]["PrimaryContainer"] for model in found.resources(MODEL)]
    counts = {
        "vpc_endpoint": sum(interfaces),
        "alarm": sum(map(watched, found.resources(ALARM))) + 2 * tracking(found),
        # The golden pairs' one counts ones, and has no value while they score as they should.
        "metric": sum(value.startswith("$.") for value in filters),
        "dashboard": len(found.resources("AWS::CloudWatch::Dashboard")),
        "kms_key": len(found.resources("AWS::KMS::Key")),
        # Our server, with a line for each request; a package's container says what it likes.
        "logs_ingest": int("Image" in containers[0]),
    }
    return {item: count for item, count in counts.items() if count}


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_presets_are_what_the_stacks_deploy(name: str, preset: str) -> None:
    found = stacks(name, preset)
    known = standing.of(preset, found.config.mode, gpu=gpu(found.config))
    assert dict(known.standing) == dict(counted(found.config)) == beside(found)
    assert known.min_instances == found.config.autoscaling.min
    for target in found.resources(TARGET):
        assert known.min_instances == target["Properties"]["MinCapacity"]


FLEET = json.dumps([{"name": "turbo", "model": "turbo", "artefact": "s3://models/turbo.tar.gz"}])
VARIANTS = json.dumps([{"name": "B", "weight": 1}, {"name": "C", "weight": 1}])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("realtime", {"alarms__idle_hours": "0", "autoscaling__min": "4"}),
        ("realtime", {"encryption__key": "aws", "network__zones": "3"}),
        (
            "realtime",
            {
                "network__vpc": "vpc-1",
                "network__subnets": "subnet-1,subnet-2,subnet-3",
                "network__security_groups": "sg-1",
                "network__endpoints": "runtime",
                "network__callers": "sg-2",
            },
        ),
        ("realtime", {"image": "dlc", "network__vpc": "none"}),
        ("realtime", {"variants": VARIANTS}),
        ("async", {"autoscaling__min": "1"}),
        ("scale-to-zero", {"autoscaling__min": "1", "instance": "ml.g5.xlarge"}),
        ("scale-to-zero", {"components": FLEET}),
        ("scale-to-zero", {"components": FLEET, "autoscaling__min": "1", "autoscaling__max": "1"}),
        ("serverless", {"serverless__provisioned": "2", "autoscaling__min": "2", "autoscaling__max": "3"}),
        ("serverless", {"serverless__provisioned": "5"}),
        ("batch", {"encryption__key": "aws"}),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_what_stands_beside_a_configuration_is_what_its_stacks_have(
    name: str, options: dict[str, str]
) -> None:
    found = stacks(name, **options)
    known = dict(counted(found.config))
    assert known.pop("provisioned", 0) == found.config.serverless.provisioned
    if found.config.image == "dlc":
        assert "logs_ingest" not in known  # the line is our server's, and this container has AWS's
        known["logs_ingest"] = 1
    assert known == beside(found)


def month(found: Synthesised, preset: str) -> Bill:
    """As `sagerank cost` makes it: of presets.csv, and nothing of the stacks."""
    config, load = found.config, found.config.traffic
    deploys = standing.of(preset, config.mode, gpu=gpu(config))
    deployment = Deployment(
        choice=choice(config.model),
        precision=estimate.precision(config, config.instance),
        mode=config.mode,
        region=config.region,
        instance=config.instance or str(config.serverless.memory_mb),
        min_instances=deploys.min_instances,
        max_instances=config.autoscaling.max,
        standing=deploys.standing,
    )
    traffic = constant(load.requests_per_second, documents=load.documents, tokens=load.tokens)
    return bill(deployment, Scenario(traffic, PRICES))


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_the_stacks_and_the_report_say_the_same(name: str, preset: str, region: str) -> None:
    package = f"arn:aws:sagemaker:{region}:123456789012:model-package/jina-reranker-v1-base-en"
    own = {"marketplace": {"model_package": package}, "serverless": {"serverless__memory_mb": "2048"}}
    options = own.get(name, {})
    found = stacks(name, preset, region=region, **options)
    ours = month(found, preset)
    total, *rest = found.outputs()["EstimatedMonthlyCost"].split("; ")
    least = "at least " if isinstance(ours.usd, AtLeast) else ""
    assert total.startswith(f"{least}USD {ours.usd} a month (")
    assert bool(least) == (name == "marketplace")
    assert rest[: len(ours.lines)] == [f"{line.name} {line.usd}" for line in ours.lines]
    assert sum(line.usd for line in ours.lines) == ours.usd

    templates = read(found.assembly, PRICES, region)
    for item in IN_TEMPLATES:
        rate = PRICES.rate(region, item)
        here, there = (
            sum((line.usd for line in lines if line.price is rate), Decimal(0))
            for lines in (ours.lines, templates.lines.values())
        )
        assert here == there, item


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_the_command_says_what_the_stacks_say(
    name: str, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"serverless": {"serverless__memory_mb": "2048"}}
    found = stacks(name, preset, **own.get(name, {}))
    config = found.config
    where = config.instance or str(config.serverless.memory_mb)
    asked = ["--model", config.model, "--mode", config.mode, "--instance", where, "--preset", preset]
    asked += ["--precision", estimate.precision(config, config.instance)]
    asked += ["--rate", "0.1", "--documents", "100", "--tokens", "150", "--swing", "0", "--p95", "inf"]
    assert main(["compare", *asked, "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["tables"]["deployments"]["rows"]
    assert f"USD {row['USD/month']} a month" in found.outputs()["EstimatedMonthlyCost"]


def test_a_fleet_that_always_runs_costs_what_its_templates_say() -> None:
    found = stacks("realtime", "prod")
    hours = [
        line.usd for line in read(found.assembly, PRICES, "us-east-1").lines.values() if line.unit == "hour"
    ]
    assert [line.usd for line in month(found, "prod").lines if line.name == "ml.c7i.xlarge hours"][0] in hours


def test_a_configuration_file_costs_what_its_stacks_do(tmp_path: Any) -> None:
    for name, preset in EVERY:
        found = stacks(name, preset)
        config = {"preset": preset, "model": found.config.model, "mode": found.config.mode}
        config |= {"instance": found.config.instance} if found.config.instance else {}
        path = tmp_path / "deploy.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        assert (
            found.outputs()["EstimatedMonthlyCost"]
            .split(" a month")[0]
            .endswith(f"USD {estimate.priced(path, PRICES).usd}")
        )
