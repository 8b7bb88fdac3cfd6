"""Several models on one fleet: what each has of its own, and what they have together."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk.assertions import Template

from sagerank.operate.transitions import decide
from sagerank_infra import fleet, rules
from sagerank_infra.config import ConfigError
from sagerank_infra.instances import hardware
from sagerank_infra.reranker import Reranker

from .conftest import ALARM, COMPONENT, CONFIG, MODEL, TARGET, Synthesised, new_app, stacks, statements
from .synth import example

TURBO = {"name": "turbo", "model": "turbo", "artefact": "s3://models/turbo/model.tar.gz"}
BASE = {"name": "large", "model": "base", "artefact": "s3://models/base/model.tar.gz", "min": 1, "max": 2}


def of(*components: dict[str, Any], **options: str) -> Synthesised:
    given = {"components": json.dumps(components)} if components else {}
    return stacks("scale-to-zero", **given, **options)


def named(found: Synthesised) -> dict[str, dict[str, Any]]:
    every = found.resources(COMPONENT)
    return {each["Properties"]["InferenceComponentName"]: each["Properties"] for each in every}


def needs(found: Synthesised) -> list[dict[str, float]]:
    return [each["Specification"]["ComputeResourceRequirements"] for each in named(found).values()]


def test_the_first_model_keeps_its_ids_and_names_when_others_come() -> None:
    alone, several = of(), of(TURBO, BASE)
    for part, template in alone.templates.items():
        for id, resource in template["Resources"].items():
            other = several.templates[part]["Resources"][id]
            assert other["Type"] == resource["Type"]
            for key in ("InferenceComponentName", "AlarmName", "LogGroupName", "Name"):
                before, after = (each.get("Properties", {}).get(key) for each in (resource, other))
                assert before == after
        assert template.get("Outputs", {}).keys() <= several.templates[part].get("Outputs", {}).keys()


def test_each_has_an_artefact_copies_scaling_alarms_and_a_log() -> None:
    found = of(TURBO, BASE)
    assert list(named(found)) == ["sagerank-component", "sagerank-turbo", "sagerank-large"]
    artefacts = {each["Properties"]["PrimaryContainer"]["ModelDataUrl"] for each in found.resources(MODEL)}
    assert artefacts == {
        "s3://example-models/tiny/model.tar.gz",
        "s3://models/turbo/model.tar.gz",
        "s3://models/base/model.tar.gz",
    }
    targets = [each["Properties"] for each in found.resources(TARGET)]
    assert {each["ResourceId"]: (each["MinCapacity"], each["MaxCapacity"]) for each in targets} == {
        "inference-component/sagerank-component": (0, 4),
        "inference-component/sagerank-turbo": (0, 4),
        "inference-component/sagerank-large": (1, 2),
    }
    alarms = {each["Properties"]["AlarmName"]: each["Properties"] for each in found.resources(ALARM)}
    for what in ("p99-latency", "5xx-errors", "golden-pairs"):
        assert {f"sagerank-{what}{whose}" for whose in ("", ".turbo", ".large")} <= alarms.keys()
    assert "sagerank-waiting-at-zero.turbo" in alarms
    assert "sagerank-waiting-at-zero.large" not in alarms  # it has a copy always
    for name, properties in named(found).items():
        rollback = properties["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
        suffix = "" if name == "sagerank-component" else f".{name.removeprefix('sagerank-')}"
        by_id = {id: each["Properties"]["AlarmName"] for id, each in found.named(ALARM)}
        assert {by_id[each["AlarmName"]["Ref"]] for each in rollback} == {
            f"sagerank-{what}{suffix}" for what in ("p99-latency", "5xx-errors", "golden-pairs")
        }
    assert alarms["sagerank-p99-latency.turbo"]["Dimensions"] == [
        {"Name": "InferenceComponentName", "Value": "sagerank-turbo"}
    ]
    assert alarms["sagerank-golden-pairs.turbo"]["Namespace"] == "sagerank/sagerank/turbo"
    groups = {each["Properties"].get("LogGroupName") for each in found.resources("AWS::Logs::LogGroup")}
    assert {f"/aws/sagemaker/InferenceComponents/{name}" for name in named(found)} <= groups
    pinned = of(TURBO | {"artefact_sha256": "a" * 64}).resources(MODEL)
    sums = [each["Properties"]["PrimaryContainer"]["Environment"] for each in pinned]
    assert [each.get("SAGERANK_MANIFEST_SHA256") for each in sums] == [None, "a" * 64]


def test_the_fleet_is_idle_when_none_of_them_is_asked() -> None:
    (idle,) = [
        each["Properties"]
        for each in of(TURBO, BASE).resources(ALARM)
        if each["Properties"]["AlarmName"] == "sagerank-idle"
    ]
    assert "SUM([FILL(m0,0),FILL(m1,0),FILL(m2,0)])" in json.dumps(idle["Metrics"])


def test_a_caller_of_one_is_no_caller_of_another() -> None:
    policies = of(TURBO).resources("AWS::IAM::ManagedPolicy")
    called = [json.dumps(statements(each)) for each in policies]
    assert ["sagerank-component" in each for each in called] == [True, False]
    assert ["sagerank-turbo" in each for each in called] == [False, True]
    outputs = of(TURBO).outputs()
    assert {"CallerPolicyArn", "CallerPolicyArnturbo", "InferenceComponentNameturbo"} <= outputs.keys()
    parameters = {each["Properties"]["Name"] for each in of(TURBO).resources("AWS::SSM::Parameter")}
    assert "/sagerank/sagerank/caller-policy-turbo" in parameters
    assert "/sagerank/sagerank/inference-component-name-turbo" in parameters


def test_the_construct_has_components_and_grants_each() -> None:
    stack = cdk.Stack(new_app(), "Mine", env=cdk.Environment(account="123456789012", region="eu-west-1"))
    made = Reranker(
        stack,
        "Search",
        name="search",
        mode="scale-to-zero",
        instance="ml.c7i.xlarge",
        artefact="s3://models/tiny/model.tar.gz",
        components=[TURBO],
    )
    assert made.component_names == ["search-component", "search-turbo"]
    role = iam.Role(stack, "Caller", assumed_by=iam.AccountRootPrincipal())
    made.grant_invoke(role, component="turbo")
    with pytest.raises(ConfigError, match="component is 'trubo': did you mean turbo"):
        made.grant_invoke(role, component="trubo")
    template = Template.from_stack(stack).to_json()["Resources"]
    (policy,) = [each for id, each in template.items() if id.startswith("CallerDefaultPolicy")]
    assert "inference-component/search-turbo" in json.dumps(policy)
    assert "search-component" not in json.dumps(policy)


def test_a_copy_of_each_fits_an_instance_and_at_most_every_copy_has_one() -> None:
    found = of(TURBO, BASE)
    assert sum(each["NumberOfCpuCoresRequired"] for each in needs(found)) <= 0.75 * 4
    (variant,) = found.one(CONFIG)["ProductionVariants"]
    assert variant["ManagedInstanceScaling"] == {
        "Status": "ENABLED",
        "MinInstanceCount": 1,
        "MaxInstanceCount": 4 + 4 + 2,
    }
    asked = needs(of(TURBO | {"cpus": 2, "memory_mb": 3000}))
    assert [each["NumberOfCpuCoresRequired"] for each in asked] == [1, 2]
    assert asked[1]["MinMemoryRequiredInMb"] == 3000
    gpus = needs(of(TURBO, instance="ml.g5.12xlarge"))
    assert [each["NumberOfAcceleratorDevicesRequired"] for each in gpus] == [1, 1]


def test_a_share_of_the_processors_is_a_share_of_the_pace() -> None:
    def held(found: Synthesised) -> float:
        (first, *_) = found.resources("AWS::ApplicationAutoScaling::ScalingPolicy")
        tracking = first["Properties"]["TargetTrackingScalingPolicyConfiguration"]
        return float(tracking["TargetValue"])

    assert held(of(TURBO)) == pytest.approx(held(of()) / 2, rel=0.1)


def month(found: Synthesised) -> Decimal:
    return Decimal(found.outputs()["EstimatedMonthlyCost"].split(" ")[1])


def test_the_estimate_is_of_one_fleet_and_the_traffic_of_all() -> None:
    one, two = (of(*each, autoscaling__min="1", traffic__documents="10") for each in ((), (TURBO,)))
    assert month(one) < month(two) < Decimal("1.1") * month(one)
    assert "the traffic goes to each of 2 models" in two.outputs()["EstimatedMonthlyCost"]
    mixed, slow = of(BASE), of(model="base", traffic__requests_per_second="0.2", autoscaling__max="8")
    assert month(of()) < month(mixed) < month(slow)


def test_pools_and_their_timeout_with_components() -> None:
    pools = '[{"instance": "ml.m7i.large"}, {"instance": "ml.c6i.2xlarge", "priority": 3}]'
    found = of(TURBO, pools=pools, provision_seconds="900")
    (variant,) = found.one(CONFIG)["ProductionVariants"]
    assert [each["InstanceType"] for each in variant["InstancePools"]] == [
        "ml.c7i.xlarge",
        "ml.m7i.large",
        "ml.c6i.2xlarge",
    ]
    assert "ModelName" not in variant
    assert "InstanceType" not in variant
    assert variant["VariantInstanceProvisionTimeoutInSeconds"] == 900
    # Of the type with the fewest.
    assert (
        sum(each["NumberOfCpuCoresRequired"] for each in needs(found)) <= 0.75 * hardware("ml.m7i.large").vcpu
    )
    assert "VariantInstanceProvisionTimeoutInSeconds" not in json.dumps(of().one(CONFIG))


REFUSED = [
    ({"components": [TURBO], "mode": "realtime"}, "components are for mode scale-to-zero, and mode is 'realtime'"),
    ({"components": [TURBO, TURBO]}, "components has the name 'turbo' twice"),
    ({"components": [TURBO | {"name": "component"}]}, "components has the name 'component' twice"),
    ({"components": [TURBO | {"name": "two-words"}]}, "components[0].name is 'two-words': give at most 20"),
    ({"components": [TURBO | {"artefact": ""}]}, "components[0].artefact is empty: `sagerank deploy` builds turbo"),
    ({"components": [TURBO | {"artefact": "no.tar.gz"}]}, "`sagerank build --model turbo --output no.tar.gz`"),
    ({"components": [TURBO | {"model": "tiny>tiny@2"}]}, "model is 'tiny>tiny@2'"),
    ({"components": [TURBO | {"precision": "bf16"}]}, "precision of component turbo is 'bf16', which ml.c7i.xlarge does not compute in"),
    ({"components": [TURBO | {"min": 5}]}, "components[0].min is 5, more than components[0].max, which is 4"),
    ({"components": [TURBO | {"memory_mb": 100}]}, "components[0].memory_mb is 100: turbo takes up to"),
    ({"components": [TURBO | {"memory_mb": 8000}]}, "components: a copy of each of 2 models takes"),
    ({"components": [TURBO | {"cpus": 4}]}, "components: the models ask for 4 vCPUs"),
    ({"components": [TURBO], "instance": "ml.g5.xlarge"}, "components: 2 models need a GPU each, and ml.g5.xlarge has 1"),
    ({"components": [TURBO | {"cpus": 1}], "instance": "ml.g5.12xlarge"}, "components[0].cpus is 1: a copy on ml.g5.12xlarge has a GPU"),
    ({"components": [BASE, BASE | {"name": "b"}], "instance": "ml.c7i.large"}, "components: a copy of each of 3 models takes"),
    ({"components": [BASE, BASE | {"name": "b"}], "instance": "ml.c7i.2xlarge", "pools": [{"instance": "ml.c6i.large"}]}, "and ml.c6i.large has"),
    ({"components": [TURBO | {"max": 20}]}, "rollout.timeout_seconds is 3600, and an update waits 6000 s"),
    ({"provision_seconds": 299}, "provision_seconds is 299 in mode scale-to-zero: endpoints of instances take 300 to 3600"),
    ({"provision_seconds": 600, "mode": "batch"}, "provision_seconds is 600 in mode batch"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=[words[:50] for _, words in REFUSED])
def test_what_cannot_share_a_fleet_is_refused_in_a_sentence(options: dict[str, Any], words: str) -> None:
    given = {
        "artefact": "s3://models/tiny/model.tar.gz",
        "mode": "scale-to-zero",
        "instance": "ml.c7i.xlarge",
    }
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
    with pytest.raises(ConfigError) as caught:
        rules.read(None, given | text)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


def test_the_fleet_on_the_page_fits(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/deploy.md").read_text(encoding="utf-8")
    shown = re.search(r"```yaml\n(model:.*?)```", page, re.S)
    assert shown
    file, local = tmp_path / "fleet.yaml", "{name: turbo, model: turbo,"
    assert local in shown[1]
    file.write_text(shown[1].replace(local, f"{local} artefact: s3://models/turbo/model.tar.gz,"))
    config = rules.read(file, {"artefact": "s3://models/tiny/model.tar.gz"})
    assert [each.model for each in fleet.models(config)] == ["tiny", "turbo", "base"]


def test_the_configurations_of_models_differ_in_what_is_theirs_alone() -> None:
    config = example("scale-to-zero", components=json.dumps([TURBO]), log_days="7")
    first, second = fleet.models(config)
    assert first is config
    assert (second.component, second.model, second.log_days) == ("turbo", "turbo", 7)
    assert fleet.cpus(first) + fleet.cpus(second) == 3


@pytest.mark.parametrize(
    ("old", "new", "gone"),
    [
        ((), (TURBO,), ()),
        ((TURBO,), (), ("sagerank-turbo",)),
        ((TURBO,), (TURBO | {"name": "other"},), ("sagerank-turbo",)),
        ((TURBO,), (BASE, TURBO), ()),
        ((TURBO,), (TURBO | {"model": "base", "artefact": "s3://models/base/model.tar.gz"},), ()),
        ((TURBO,), (TURBO | {"min": 1, "max": 1},), ()),
    ],
    ids=["added", "removed", "renamed", "before", "another model", "fixed"],
)
def test_models_come_go_and_change_in_place(
    old: tuple[dict[str, Any], ...], new: tuple[dict[str, Any], ...], gone: tuple[str, ...]
) -> None:
    transition = decide(of(*old).templates, of(*new).templates)
    assert (transition.refused, transition.unscaled, transition.gone) == ("", False, gone)
    before, after = named(of(*old)), named(of(*new))
    assert set(before) - set(after) == set(gone)
    was, now = (
        {each["Properties"]["InferenceComponentName"]: id for id, each in found.named(COMPONENT)}
        for found in (of(*old), of(*new))
    )
    assert all(was[name] == now[name] for name in before.keys() & after.keys())
