"""From every configuration to every other: it works, it works while nothing scales, or it is refused; and the local AWS agrees."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache, reduce
from typing import Any

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from sagerank.operate.stacks import PARTS
from sagerank.operate.transitions import Transition, decide, retained
from sagerank.operate.unscaled import back, is_off, without

from ..local_aws import refusals
from ..local_aws.updates import REPLACED
from .conftest import new_app, stacks, synthesise
from .synth import example

KEY = "arn:aws:kms:us-east-1:123456789012:key/mine"
VPC = {"network__vpc": "vpc-1", "network__subnets": "subnet-1", "network__security_groups": "sg-1"}
FLEET = '[{"name": "turbo", "artefact": "s3://example-models/turbo/model.tar.gz"}]'
FIXED = {"autoscaling__min": "2", "autoscaling__max": "2"}


def _beside(**variant: str) -> dict[str, str]:
    facts = {"name": "B", "weight": "1", "count": "1", **variant}
    return {
        "variants": f"[{{{', '.join(f'{chr(34)}{k}{chr(34)}: {chr(34)}{v}{chr(34)}' for k, v in facts.items())}}}]"
    }


# Short names, and the example with preset and options that they stand for.
CONFIGS: dict[str, tuple[str, str, dict[str, str]]] = {
    "realtime": ("realtime", "dev", {}),
    "prod": ("realtime", "prod", {}),
    "larger": ("realtime", "dev", {"instance": "ml.c7i.2xlarge"}),
    "graviton": ("graviton", "dev", {}),
    "gpu": ("gpu", "dev", {}),
    "another gpu": ("gpu", "dev", {"instance": "ml.g6.xlarge"}),
    "gpu prod": ("gpu", "prod", {}),
    "pools": ("realtime", "dev", {"pools": '[{"instance": "ml.c6i.xlarge"}]'}),
    "capture": ("realtime", "dev", {"capture__percent": "10"}),
    "enhanced": ("realtime", "dev", {"metrics__enhanced": "true", "metrics__seconds": "10"}),
    "aws key": ("realtime", "dev", {"encryption__key": "aws"}),
    "own key": ("realtime", "dev", {"encryption__key": KEY}),
    "kept": ("realtime", "dev", {"removal": "retain"}),
    "three zones": ("realtime", "dev", {"network__zones": "3"}),
    "cidr": ("realtime", "dev", {"network__cidr": "10.90.0.0/22"}),
    "no vpc": ("realtime", "dev", {"network__vpc": "none"}),
    "own vpc": ("realtime", "dev", VPC),
    "doors": ("realtime", "dev", VPC | {"network__endpoints": "runtime", "network__callers": "10.0.0.0/16"}),
    "dlc": ("realtime", "dev", {"image": "dlc", "artefact": "s3://example-models/tiny/code.tar.gz"}),
    "ecr": ("realtime", "dev", {"image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1", "image_architecture": "amd64"}),
    "fixed": ("realtime", "dev", FIXED),
    "fixed larger": ("realtime", "dev", {**FIXED, "instance": "ml.c7i.2xlarge"}),
    "fixed fewer": ("realtime", "dev", {"autoscaling__min": "1", "autoscaling__max": "1"}),
    "B": ("realtime", "dev", _beside()),
    "two of B": ("realtime", "dev", _beside(count="2")),
    "B larger": ("realtime", "dev", _beside(instance="ml.c7i.2xlarge")),
    "C": ("realtime", "dev", _beside(name="C")),
    "shadow": ("realtime", "dev", _beside(shadow="true")),
    "two shadows": ("realtime", "dev", _beside(shadow="true", count="2")),
    "canary B": ("realtime", "prod", _beside()),
    "linear": ("realtime", "prod", {"rollout__policy": "linear", "rollout__timeout_seconds": "7200"}),
    "rolling": ("realtime", "prod", {"rollout__policy": "rolling", "rollout__timeout_seconds": "7200"}),
    "serverless": ("serverless", "dev", {}),
    "serverless prod": ("serverless", "prod", {}),
    "more memory": ("serverless", "dev", {"serverless__memory_mb": "4096"}),
    "warm": ("serverless", "dev", {"serverless__provisioned": "2", "autoscaling__max": "4"}),
    "async": ("async", "dev", {}),
    "async prod": ("async", "prod", {}),
    "async gpu": ("async", "dev", {"instance": "ml.g5.xlarge"}),
    "scale-to-zero": ("scale-to-zero", "dev", {}),
    "scale-to-zero prod": ("scale-to-zero", "prod", {}),
    "scale-to-zero larger": ("scale-to-zero", "dev", {"instance": "ml.c7i.2xlarge"}),
    "fleet": ("scale-to-zero", "dev", {"components": FLEET}),
    "another fleet": ("scale-to-zero", "dev", {"components": FLEET.replace("turbo", "other")}),
    "fleet pools": ("scale-to-zero", "dev", {"pools": '[{"instance": "ml.c6i.xlarge"}]'}),
    "batch": ("batch", "dev", {}),
    "batch larger": ("batch", "dev", {"instance": "ml.c7i.2xlarge"}),
    "marketplace": ("marketplace", "dev", {}),
}  # fmt: skip

IN_PLACE, UNSCALED = "in place", "unscaled"
# What a page can promise: pairs, and what comes of them, with words of the sentence where it is refused.
EXPECTED = [
    ("realtime", "prod", IN_PLACE),
    ("prod", "realtime", IN_PLACE),
    ("realtime", "larger", UNSCALED),
    ("realtime", "graviton", UNSCALED),
    ("graviton", "realtime", UNSCALED),
    ("realtime", "gpu", UNSCALED),
    ("gpu", "realtime", UNSCALED),
    ("gpu", "another gpu", UNSCALED),
    ("prod", "gpu prod", UNSCALED),
    ("realtime", "pools", UNSCALED),
    ("realtime", "fixed larger", UNSCALED),
    ("fixed", "fixed larger", IN_PLACE),
    ("fixed", "larger", IN_PLACE),
    ("async", "async gpu", UNSCALED),
    ("async gpu", "async", UNSCALED),
    ("scale-to-zero", "scale-to-zero larger", "instance: ml.c7i.xlarge would be ml.c7i.2xlarge"),
    ("batch", "batch larger", IN_PLACE),
    ("realtime", "serverless", "the endpoint is real-time and would be serverless"),
    ("serverless", "realtime", "the endpoint is serverless and would be real-time"),
    ("realtime", "async", "the endpoint is real-time and would be asynchronous"),
    ("async", "realtime", "the endpoint is asynchronous and would be real-time"),
    ("realtime", "scale-to-zero", "the endpoint is real-time and would be of inference components"),
    ("scale-to-zero", "async", "the endpoint is of inference components and would be asynchronous"),
    ("realtime", "batch", "mode batch has no endpoint, and this one answers"),
    ("serverless", "batch", "mode batch has no endpoint"),
    ("batch", "realtime", IN_PLACE),
    ("batch", "serverless", IN_PLACE),
    ("batch", "async", IN_PLACE),
    ("batch", "scale-to-zero", IN_PLACE),
    ("marketplace", "realtime", UNSCALED),
    ("realtime", "enhanced", IN_PLACE),
    ("enhanced", "larger", UNSCALED),
    ("realtime", "capture", IN_PLACE),
    ("capture", "realtime", IN_PLACE),
    ("realtime", "aws key", "encryption.key: the deployment's own key would be deleted"),
    ("realtime", "own key", "encryption.key: the deployment's own key would be deleted"),
    ("realtime", "kept", IN_PLACE),
    ("kept", "aws key", IN_PLACE),
    ("prod", "own key", IN_PLACE),
    ("aws key", "realtime", IN_PLACE),
    ("aws key", "own key", IN_PLACE),
    ("own key", "aws key", IN_PLACE),
    ("realtime", "three zones", "network.zones and network.cidr: instances stand"),
    ("three zones", "realtime", "network.zones and network.cidr: instances stand"),
    ("realtime", "cidr", "network.zones and network.cidr: instances stand"),
    ("realtime", "no vpc", IN_PLACE),
    ("no vpc", "realtime", IN_PLACE),
    ("realtime", "own vpc", IN_PLACE),
    ("own vpc", "doors", IN_PLACE),
    ("doors", "own vpc", IN_PLACE),
    ("realtime", "dlc", IN_PLACE),
    ("dlc", "realtime", IN_PLACE),
    ("realtime", "ecr", IN_PLACE),
    ("ecr", "realtime", IN_PLACE),
    ("fixed", "fixed fewer", IN_PLACE),
    ("realtime", "fixed", IN_PLACE),
    ("fixed", "realtime", IN_PLACE),
    ("realtime", "B", IN_PLACE),
    ("B", "realtime", IN_PLACE),
    ("B", "C", IN_PLACE),
    ("B", "two of B", IN_PLACE),
    ("B", "B larger", IN_PLACE),
    ("B", "shadow", IN_PLACE),
    ("shadow", "two shadows", "variants: SageMaker keeps the instances of the shadow B"),
    ("prod", "canary B", "rollout.policy canary shifts traffic between variants of the same names, and B"),
    ("B", "prod", "rollout.policy canary shifts traffic between variants of the same names, and B"),
    ("B", "linear", "rollout.policy linear"),
    ("B", "rolling", "rollout.policy rolling"),
    ("prod", "linear", IN_PLACE),
    ("prod", "rolling", IN_PLACE),
    ("serverless", "serverless prod", IN_PLACE),
    ("serverless", "more memory", IN_PLACE),
    ("serverless", "warm", IN_PLACE),
    ("warm", "serverless", UNSCALED),
    ("async", "async prod", IN_PLACE),
    ("scale-to-zero", "scale-to-zero prod", IN_PLACE),
    ("scale-to-zero", "fleet", IN_PLACE),
    ("fleet", "scale-to-zero", IN_PLACE),
    ("fleet", "another fleet", IN_PLACE),
    ("fleet", "realtime", "the endpoint is of inference components and would be real-time"),
    ("scale-to-zero", "fleet pools", "instance: ml.c7i.xlarge would be ml.c7i.xlarge ml.c6i.xlarge"),
]  # fmt: skip


@cache
def templates(config: str) -> Mapping[str, Any]:
    name, preset, options = CONFIGS[config]
    return stacks(name, preset, **options).templates


def outcome(transition: Transition) -> str:
    return transition.refused or (UNSCALED if transition.unscaled else IN_PLACE)


@pytest.mark.parametrize(
    ("old", "new", "expected"), EXPECTED, ids=[f"{old}-{new}" for old, new, _ in EXPECTED]
)
def test_every_kind_of_change_is_decided(old: str, new: str, expected: str) -> None:
    found = outcome(decide(templates(old), templates(new)))
    assert expected in found
    assert (found in (IN_PLACE, UNSCALED)) == (expected in (IN_PLACE, UNSCALED))


@pytest.mark.parametrize("old", CONFIGS)
def test_no_cell_is_unknown_and_the_local_aws_agrees(old: str) -> None:
    assert decide(templates(old), templates(old)) == Transition()
    assert decide({}, templates(old)) == Transition()
    for new in CONFIGS.keys() - {old}:
        transition = decide(templates(old), templates(new))
        if transition.refused:
            assert re.fullmatch(r"[^.].*: .+[^.]\.", transition.refused), transition.refused
            assert transition == Transition(refused=transition.refused)
        else:
            _carry(templates(old), templates(new), transition)


def _carry(old: Mapping[str, Any], new: Mapping[str, Any], transition: Transition) -> None:
    """Stack after stack, as `cdk deploy` would: the local AWS has nothing against it."""
    deployed = dict(old)
    if transition.unscaled:
        assert _refused(old["endpoint"], new["endpoint"]) or "ServerlessConfig" in str(old["endpoint"])
        deployed["endpoint"] = without(old["endpoint"], {})
        assert is_off(deployed["endpoint"])
    for part in [part for part in PARTS if part in new]:
        before = deployed.get(part, {"Resources": {}})
        assert refusals.export(part, before, new[part], deployed) == ""
        if part == "endpoint":
            assert _refused(before, new[part]) == ""
        _assert_replaceable(_meant(before["Resources"], old), _meant(new[part]["Resources"], new))
        deployed[part] = new[part]
        outputs = {each for template in deployed.values() for each in template.get("Outputs", {})}
        assert _outputs(new[part]) <= outputs


def _refused(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What UpdateEndpoint says to the update from one endpoint stack to another."""

    def properties(template: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
        return [
            each["Properties"] for each in template["Resources"].values() if each["Type"] == f"AWS::{kind}"
        ]

    endpoints = properties(old, "SageMaker::Endpoint")
    if not endpoints:
        return ""
    targets = {each["ResourceId"] for each in properties(old, "ApplicationAutoScaling::ScalableTarget")}
    ((was,), (wanted,)) = (properties(each, "SageMaker::EndpointConfig") for each in (old, new))
    (endpoint,) = properties(new, "SageMaker::Endpoint")
    return refusals.update(was, wanted, endpoint.get("DeploymentConfig"), targets, endpoint["EndpointName"])


def _outputs(node: Any) -> set[str]:
    """Outputs of other stacks that a template refers to."""
    if isinstance(node, dict):
        own = {node["Fn::GetStackOutput"]["OutputName"]} if "Fn::GetStackOutput" in node else set()
        return own.union(*map(_outputs, node.values()))
    return set().union(*map(_outputs, node)) if isinstance(node, list) else set()


def _meant(node: Any, stacks: Mapping[str, Any]) -> Any:
    """With what references to other stacks stand for, in either form: the same value is no change."""
    if isinstance(node, list):
        return [_meant(each, stacks) for each in node]
    if not isinstance(node, dict):
        return node
    outputs = [item for template in stacks.values() for item in template.get("Outputs", {}).items()]
    if "Fn::ImportValue" in node:
        return next(
            o["Value"] for _, o in outputs if o.get("Export", {}).get("Name") == node["Fn::ImportValue"]
        )
    if "Fn::GetStackOutput" in node:
        return next(o["Value"] for name, o in outputs if name == node["Fn::GetStackOutput"]["OutputName"])
    return {key: _meant(each, stacks) for key, each in node.items()}


@cache
def _create_only(kind: str) -> list[list[str]]:
    """Properties that CloudFormation changes by making another resource."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    return [path.split("/")[2:] for path in schema.get("createOnlyProperties", ())]


def _at(properties: Mapping[str, Any], path: list[str]) -> Any:
    return reduce(lambda node, name: node.get(name, {}), path, properties)


def _assert_replaceable(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Only what has no name, and what is no data, is replaced; what holds data goes only where it is kept."""
    for id in old.keys() & new.keys():
        kind = old[id]["Type"]
        before, after = (each[id].get("Properties", {}) for each in (old, new))
        assert kind == new[id]["Type"]
        if kind not in REPLACED:
            assert [path for path in _create_only(kind) if _at(before, path) != _at(after, path)] == [], id
    for id in old.keys() - new.keys():
        if old[id]["Type"] in ("AWS::KMS::Key", "AWS::S3::Bucket"):
            assert old[id]["DeletionPolicy"] == "Retain"


@pytest.mark.parametrize("config", ["realtime", "async", "warm", "scale-to-zero", "prod"])
def test_what_scaling_was_can_be_put_back_whatever_has_changed_around_it(config: str) -> None:
    """After an update that failed at the endpoint, when the other stacks are the new ones."""
    before = templates(config)["endpoint"]
    assert back(without(before, {})) == before
    outputs = {
        f"sagerank-{part}": {name: f"value of {name}" for name in template.get("Outputs", {})}
        for part, template in templates(config).items()
    }
    off = without(before, outputs)
    assert "ApplicationAutoScaling" not in str(off["Resources"])
    assert ("sagerank-waiting-at-zero" in str(before)) == (config in ("async", "scale-to-zero"))
    assert "sagerank-waiting-at-zero" not in str(off["Resources"])
    assert _outputs(before) != set() == _outputs(back(off))
    assert "value of PublishOutputFnGetAttRole" in str(back(off))


def test_counts_that_sagemaker_keeps_are_those_of_variants_beside_a_scaled_one() -> None:
    assert retained(templates("two of B")) == {"B": 2}
    # Nothing is retained of a fixed fleet, and what SageMaker or a target scales has no count of ours.
    for config in ("fixed", "realtime", "serverless", "warm", "scale-to-zero", "async"):
        assert retained(templates(config)) == {}


def test_a_stack_that_is_not_needed_any_more_is_named() -> None:
    assert decide(templates("realtime"), templates("no vpc")).abandoned == ("network",)
    assert decide(templates("no vpc"), templates("realtime")).abandoned == ()


@cache
def imported(preset: str) -> Mapping[str, Any]:
    """As version 0.6 wrote them: what another stack needs is imported, and cannot change or go."""
    app = new_app(context={"@aws-cdk/core:defaultCrossStackReferences": "strong"})
    return synthesise(example("realtime", preset), app).templates


def test_a_deployment_of_an_earlier_version_is_updated_in_place() -> None:
    for preset, new in (
        ("dev", "realtime"),
        ("dev", "gpu"),
        ("dev", "capture"),
        ("prod", "prod"),
        ("dev", "no vpc"),
    ):
        old = imported(preset)
        assert "Fn::ImportValue" in str(old["endpoint"])
        transition = decide(old, templates(new))
        assert transition.refused == ""
        _carry(old, templates(new), transition)


def test_what_an_earlier_version_imports_is_loosened_first() -> None:
    refused = decide(imported("prod"), templates("own key")).refused
    assert "ExportsOutputFnGetAttKey" in refused
    assert "deploy once with the options that it has" in refused
    assert refusals.export(
        "model", imported("prod")["model"], templates("own key")["model"], imported("prod")
    )
    assert decide(templates("prod"), templates("own key")).refused == ""


def test_what_another_version_calls_otherwise_is_not_taken_over() -> None:
    old = {part: json.loads(json.dumps(template)) for part, template in templates("realtime").items()}
    resources = old["endpoint"]["Resources"]
    resources["Renamed"] = resources.pop("Endpoint")
    assert (
        "sagerank (AWS::SageMaker::Endpoint) was made by another version"
        in decide(old, templates("realtime")).refused
    )
