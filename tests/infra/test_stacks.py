"""What the stacks hold, by meaning: nothing here knows a logical id."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
import sagerank_infra.app
from aws_cdk.assertions import Match, Template
from sagerank_infra import estimate, metrics
from sagerank_infra.app import build, main
from sagerank_infra.config import PRESETS, DeployConfig
from sagerank_infra.examples import EXAMPLES, example
from sagerank_infra.role import NO_FINER_GRAIN

from .test_config import archive

__all__ = ["archive"]  # the fixture

ROOT = Path(__file__).parents[2]
SNAPSHOTS = Path(__file__).parent / "snapshots"
MODEL, CONFIG = "AWS::SageMaker::Model", "AWS::SageMaker::EndpointConfig"
ENDPOINT, COMPONENT = "AWS::SageMaker::Endpoint", "AWS::SageMaker::InferenceComponent"
TARGET, POLICY = "AWS::ApplicationAutoScaling::ScalableTarget", "AWS::ApplicationAutoScaling::ScalingPolicy"
ALARM, BUCKET = "AWS::CloudWatch::Alarm", "AWS::S3::Bucket"


@dataclass(frozen=True)
class Synthesised:
    """Templates by what they are of: network, model, endpoint, observability. assembly: the folder of all files."""

    config: DeployConfig
    assembly: Path
    templates: dict[str, dict[str, Any]]

    def __getitem__(self, stack: str) -> Template:
        return Template.from_json(self.templates[stack])

    def resources(self, kind: str) -> list[dict[str, Any]]:
        return [each for _, each in self.named(kind)]

    def named(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        every = (item for template in self.templates.values() for item in template["Resources"].items())
        return [(name, each) for name, each in every if each["Type"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        (found,) = self.resources(kind)
        return dict(found["Properties"])

    def outputs(self) -> dict[str, Any]:
        every = (template.get("Outputs", {}) for template in self.templates.values())
        return {name: each["Value"] for outputs in every for name, each in outputs.items()}


def synthesise(config: DeployConfig) -> Synthesised:
    app = cdk.App()
    build(app, config)
    folder = Path(app.synth().directory)
    found = sorted(folder.glob("*.template.json"))
    templates = {path.name.split(".")[0].rpartition("-")[2]: json.loads(path.read_text()) for path in found}
    return Synthesised(config, folder, templates)


@cache
def stacks(name: str, preset: str = "dev", **options: str) -> Synthesised:
    return synthesise(example(name, preset, **options))


EVERY = [(name, preset) for name in EXAMPLES for preset in PRESETS]
ENDPOINTS = [name for name in EXAMPLES if name != "batch"]


@pytest.fixture(autouse=True, scope="module")
def _no_network() -> Iterator[None]:
    """Synthesis asks nobody. (The CDK's own process is a child; it has no credentials and no region either.)"""
    with pytest.MonkeyPatch.context() as patch:

        def refuse(self: socket.socket, address: Any) -> None:
            raise AssertionError(f"a connection to {address}")

        patch.setattr(socket.socket, "connect", refuse)
        for name in [
            name for name in os.environ if name.startswith("AWS_") and name != "AWS_EC2_METADATA_DISABLED"
        ]:
            patch.delenv(name)
        yield


def statements(resource: dict[str, Any]) -> list[dict[str, Any]]:
    return list(resource["Properties"]["PolicyDocument"]["Statement"])


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# Of every mode with every preset.


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_a_wildcard_stands_only_where_nothing_finer_exists(name: str, preset: str) -> None:
    policies = stacks(name, preset).resources("AWS::IAM::Policy")
    assert policies
    for statement in (each for policy in policies for each in statements(policy)):
        assert statement["Effect"] == "Allow"
        assert all("*" not in action for action in listed(statement["Action"])), statement
        if "*" in listed(statement["Resource"]):
            assert set(listed(statement["Action"])) <= set(NO_FINER_GRAIN), statement


def test_the_list_of_wildcards_holds_nothing_that_is_not_used() -> None:
    used = {
        action
        for name, preset in EVERY
        for policy in stacks(name, preset).resources("AWS::IAM::Policy")
        for statement in statements(policy)
        if "*" in listed(statement["Resource"])
        for action in listed(statement["Action"])
    }
    assert used == set(NO_FINER_GRAIN)


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_no_managed_policy_and_no_secret(name: str, preset: str) -> None:
    found = stacks(name, preset)
    for role in found.resources("AWS::IAM::Role"):
        assert "ManagedPolicyArns" not in role["Properties"]
        assert "Condition" in json.dumps(
            role["Properties"]["AssumeRolePolicyDocument"]
        ) or "vpc-flow-logs" in json.dumps(role)
    text = json.dumps(found.templates)
    assert "FullAccess" not in text
    assert not re.search(r"AKIA|ASIA|BEGIN [A-Z ]*PRIVATE KEY|(?i:password|secret|api.?key|token=)", text)


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_what_holds_data_is_encrypted_and_private(name: str, preset: str) -> None:
    found = (
        stacks(name, preset, capture__percent="10") if name in ("realtime", "async") else stacks(name, preset)
    )
    found["model"].has_resource_properties("AWS::KMS::Key", {"EnableKeyRotation": True})
    for bucket in found.resources(BUCKET):
        properties = bucket["Properties"]
        (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        kept = {
            each["Prefix"]
            for each in properties["LifecycleConfiguration"]["Rules"]
            if each["ExpirationInDays"]
        }
        assert kept == {f"{prefix}/" for prefix in found_prefixes(found)}
        found["model"].has_resource_properties(
            "AWS::S3::BucketPolicy",
            {
                "PolicyDocument": {
                    "Statement": Match.array_with(
                        [
                            Match.object_like(
                                {"Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
                            )
                        ]
                    )
                }
            },
        )
    for topic in found.resources("AWS::SNS::Topic"):
        assert topic["Properties"]["KmsMasterKeyId"]
    for group in found.resources("AWS::Logs::LogGroup"):
        assert group["Properties"]["RetentionInDays"]
    if name in ENDPOINTS:
        found["model"].has_resource_properties("AWS::Logs::LogGroup", {"KmsKeyId": Match.any_value()})


def found_prefixes(found: Synthesised) -> set[str]:
    prefixes = {"input", "output"} if found.config.mode in ("async", "batch") else set()
    return prefixes | ({"capture"} if found.config.capture.percent else set())


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_the_model_has_no_network(name: str, preset: str) -> None:
    found = stacks(name, preset)
    for model in found.resources(MODEL):
        if name == "serverless":
            # What AWS does not have there must not be asked for.
            assert not {"EnableNetworkIsolation", "VpcConfig"} & set(model["Properties"])
        else:
            assert model["Properties"]["EnableNetworkIsolation"] is True
            assert len(model["Properties"]["VpcConfig"]["Subnets"]) == 2
    text = json.dumps(found.templates)
    assert not re.search("AWS::EC2::(InternetGateway|NatGateway|EIP)", text)
    assert "0.0.0.0/0" not in json.dumps(
        [g["Properties"].get("SecurityGroupIngress") for g in found.resources("AWS::EC2::SecurityGroup")]
    )
    assert {net["Properties"]["MapPublicIpOnLaunch"] for net in found.resources("AWS::EC2::Subnet")} <= {
        False
    }


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_the_preset_decides_what_outlives_the_stack(name: str, preset: str) -> None:
    found = stacks(name, preset)
    wanted = "Retain" if preset == "prod" else "Delete"
    kept = found.resources("AWS::KMS::Key") + found.resources(BUCKET)
    assert {each["DeletionPolicy"] for each in kept} == {wanted}
    # A name that SageMaker chooses: if it stayed, the next deployment would fail.
    assert {each["DeletionPolicy"] for each in found.resources("AWS::Logs::LogGroup")} <= {"Delete"}


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_tags_are_on_everything_that_costs(name: str, preset: str) -> None:
    found = stacks(name, preset)
    for kind in (MODEL, CONFIG, ENDPOINT, "AWS::KMS::Key", BUCKET, "AWS::EC2::VPCEndpoint", ALARM):
        for each in found.resources(kind):
            tags = {tag["Key"]: tag["Value"] for tag in each["Properties"]["Tags"]}
            assert tags["sagerank:name"] == "sagerank"
            assert tags["sagerank:mode"] == found.config.mode


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_the_output_names_the_cost_and_where_the_budget_ends(name: str, preset: str) -> None:
    found = stacks(name, preset)
    cost = found.outputs()["EstimatedMonthlyCost"]
    metadata = next(found.assembly.glob("*observability.metadata.json")).read_text()
    assert json.dumps(f"Estimated cost: {cost}")[1:-1] in metadata
    if name == "batch":
        assert "a transform job costs about USD" in cost
        # Of the network, in production, all the same.
        assert len(found.resources("AWS::Budgets::Budget")) == (preset == "prod")
        return
    total = re.match(r"USD ([\d.]+) a month", cost)
    assert total
    (budget,) = found.resources("AWS::Budgets::Budget")
    assert budget["Properties"]["Budget"]["BudgetLimit"]["Amount"] == pytest.approx(
        1.5 * float(total[1]), abs=0.01
    )
    assert len(budget["Properties"]["NotificationsWithSubscribers"]) == 2


def test_the_cost_is_that_of_the_instances_that_always_run() -> None:
    one, two = (
        stacks("realtime", autoscaling__min=count).outputs()["EstimatedMonthlyCost"] for count in "12"
    )
    hours = re.compile(r"ml.c7i.xlarge hours ([\d.]+)")
    first, second = (float(hours.search(text)[1]) for text in (one, two))  # type: ignore[index]
    assert second == pytest.approx(2 * first)
    assert "interface endpoints" not in one
    assert "interface endpoints" in stacks("realtime", "prod").outputs()["EstimatedMonthlyCost"]


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


# Modes.


def variant(found: Synthesised) -> dict[str, Any]:
    (only,) = found.one(CONFIG)["ProductionVariants"]
    return dict(only)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_variant_is_what_the_mode_needs(name: str) -> None:
    found, instance = variant(stacks(name)), stacks(name).config.instance
    if name == "serverless":
        assert found["ServerlessConfig"] == {"MaxConcurrency": 10, "MemorySizeInMB": 1024}
        assert not {"InstanceType", "InitialInstanceCount"} & set(found)
        return
    assert found["InstanceType"] == instance
    assert ("InferenceAmiVersion" in found) == (name in ("gpu", "marketplace"))
    assert ("ModelName" in found) == (name != "scale-to-zero")
    assert found.get("ManagedInstanceScaling") == (
        {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 4}
        if name == "scale-to-zero"
        else None
    )


@pytest.mark.parametrize(
    ("name", "file", "platform"),
    [
        ("realtime", "image/Dockerfile.cpu", "linux/amd64"),
        ("graviton", "image/Dockerfile.cpu", "linux/arm64"),
        ("gpu", "image/Dockerfile.gpu", "linux/amd64"),
        ("serverless", "image/Dockerfile.cpu", "linux/amd64"),
    ],
)
def test_the_image_is_built_for_the_instance(name: str, file: str, platform: str) -> None:
    assets = json.loads(next(stacks(name).assembly.glob("*model.assets.json")).read_text())
    (image,) = assets["dockerImages"].values()
    assert (image["source"]["dockerFile"], image["source"]["platform"]) == (file, platform)
    shipped = stacks(name).assembly / image["source"]["directory"]
    assert (shipped / "server.py").is_file()
    assert not list(shipped.rglob("__pycache__"))


def test_an_image_of_ones_own_needs_no_docker() -> None:
    uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/sagerank:1.2"
    found = stacks("realtime", image=uri)
    assert found.one(MODEL)["PrimaryContainer"]["Image"] == uri
    assets = json.loads(next(found.assembly.glob("*model.assets.json")).read_text())
    assert not assets.get("dockerImages")
    pulls = [
        s
        for p in found.resources("AWS::IAM::Policy")
        for s in statements(p)
        if "ecr:BatchGetImage" in s["Action"]
    ]
    assert ":ecr:us-east-1:123456789012:repository/team/sagerank" in json.dumps(pulls)


def test_awss_own_container_of_the_region() -> None:
    assert "763104351884.dkr.ecr.eu-west-1." in json.dumps(
        stacks("realtime", image="dlc", region="eu-west-1").one(MODEL)
    )
    assert "-gpu-" in json.dumps(stacks("gpu", image="dlc").one(MODEL)["PrimaryContainer"]["Image"])


def test_a_local_artefact_keeps_its_suffix_and_only_it_can_be_read(archive: Path) -> None:
    config = example("realtime", model="micro", artefact=str(archive))
    found = synthesise(config)
    assets = json.loads(next(found.assembly.glob("*model.assets.json")).read_text())
    (key,) = {
        d["objectKey"]
        for f in assets["files"].values()
        if f["displayName"] == "sagerank artefact"
        for d in f["destinations"].values()
    }
    (source,) = {
        f["source"]["path"] for f in assets["files"].values() if f["displayName"] == "sagerank artefact"
    }
    assert re.fullmatch(r"[0-9a-f]{64}\.tar\.gz", key)
    assert (found.assembly / source).read_bytes() == archive.read_bytes()
    assert json.dumps(found.one(MODEL)["PrimaryContainer"]["ModelDataUrl"]).endswith(f'/{key}"}}')
    assert found.outputs()["ModelDataUri"] == found.one(MODEL)["PrimaryContainer"]["ModelDataUrl"]
    reads = [
        s for p in found.resources("AWS::IAM::Policy") for s in statements(p) if "s3:GetObject" in s["Action"]
    ]
    assert len(reads) == 1
    assert f"/{key}" in json.dumps(reads[0]["Resource"])


def test_an_unpacked_artefact_is_a_prefix() -> None:
    found = stacks("realtime", artefact="s3://models/tiny/")
    source = {"CompressionType": "None", "S3DataType": "S3Prefix", "S3Uri": "s3://models/tiny/"}
    assert found.one(MODEL)["PrimaryContainer"]["ModelDataSource"] == {"S3DataSource": source}
    assert "ModelDataUrl" not in found.one(MODEL)["PrimaryContainer"]
    found["endpoint"].has_resource_properties(
        "AWS::IAM::Policy",
        {
            "PolicyDocument": {
                "Statement": Match.array_with(
                    [
                        Match.object_like(
                            {"Action": "s3:ListBucket", "Condition": {"StringLike": {"s3:prefix": "tiny/*"}}}
                        )
                    ]
                )
            }
        },
    )


def test_volumes_use_the_key_where_there_is_no_disk_of_the_instances_own() -> None:
    assert "KmsKeyId" in stacks("realtime").one(CONFIG)
    # CreateEndpointConfig fails with a key beside an NVMe disk: g5 has one.
    assert "KmsKeyId" not in stacks("gpu").one(CONFIG)


def test_an_own_key_and_awss_keys() -> None:
    arn = "arn:aws:kms:us-east-1:123456789012:key/1"
    assert stacks("realtime", encryption__key=arn).one(CONFIG)["KmsKeyId"] == arn
    assert not stacks("realtime", encryption__key="aws").resources("AWS::KMS::Key")
    assert "KmsKeyId" not in stacks("realtime", encryption__key="aws").one(CONFIG)


def test_an_existing_vpc_is_used_by_its_ids() -> None:
    found = stacks(
        "realtime",
        network__vpc="vpc-1",
        network__subnets="subnet-1,subnet-2",
        network__security_groups="sg-1",
    )
    assert "network" not in found.templates
    assert found.one(MODEL)["VpcConfig"] == {
        "Subnets": ["subnet-1", "subnet-2"],
        "SecurityGroupIds": ["sg-1"],
    }


def test_a_new_vpc_has_the_doors_that_were_asked_for() -> None:
    found = stacks("realtime", "prod")
    services = {
        json.dumps(each["Properties"]["ServiceName"]) for each in found.resources("AWS::EC2::VPCEndpoint")
    }
    for name in ("s3", "ecr.api", "ecr.dkr", "logs", "sagemaker.runtime"):
        assert any(re.search(rf"[.]{name}\"", service) for service in services), name
    assert len(stacks("realtime").resources("AWS::EC2::VPCEndpoint")) == 1
    found["network"].has_resource_properties("AWS::EC2::FlowLog", {"TrafficType": "REJECT"})


def test_a_known_account_asks_for_no_look_up() -> None:
    """The CDK would look up the zones of a VPC in it."""
    found = stacks("realtime", account="123456789012")
    manifest = json.loads((found.assembly / "manifest.json").read_text())
    assert "missing" not in manifest
    assert manifest["artifacts"]["sagerank-network"]["environment"] == "aws://123456789012/us-east-1"


def test_asynchronous_answers_go_to_s3_and_are_told() -> None:
    found = stacks("async")
    settings = found.one(CONFIG)["AsyncInferenceConfig"]
    assert settings["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 4}
    assert {"S3OutputPath", "S3FailurePath", "KmsKeyId", "NotificationConfig"} == set(
        settings["OutputConfig"]
    )
    assert {"InputPath", "OutputPath", "ErrorTopic", "SuccessTopic"} <= set(found.outputs())
    environment = found.one(MODEL)["PrimaryContainer"]["Environment"]
    assert float(environment["SAGERANK_REQUEST_SECONDS"]) == 895


def test_batch_has_a_model_and_nothing_that_runs() -> None:
    found = stacks("batch")
    assert not any(
        found.resources(kind) for kind in (ENDPOINT, CONFIG, TARGET, ALARM, "AWS::CloudWatch::Dashboard")
    )
    assert {"ModelName", "InputPath", "OutputPath"} <= set(found.outputs())
    found["observability"].has_resource_properties(
        "AWS::Events::Rule",
        {
            "EventPattern": Match.object_like(
                {"detail": {"TransformJobStatus": ["Failed"], "TransformJobName": [{"prefix": "sagerank-"}]}}
            )
        },
    )


def test_a_marketplace_package_brings_image_and_artefact() -> None:
    found = stacks("marketplace")
    container = found.one(MODEL)["PrimaryContainer"]
    assert set(container) == {"ModelPackageName"}
    assert "ecr:" not in json.dumps(found.templates)
    assert "ModelDataUri" not in found.outputs()


def test_scale_to_zero_puts_role_network_and_isolation_on_the_endpoint() -> None:
    found = stacks("scale-to-zero")
    assert {"ExecutionRoleArn", "VpcConfig", "EnableNetworkIsolation"} <= set(found.one(CONFIG))
    component = found.one(COMPONENT)
    needs = component["Specification"]["ComputeResourceRequirements"]
    assert needs["NumberOfCpuCoresRequired"] == 3  # of 4: two copies do not fit
    assert 256 < needs["MinMemoryRequiredInMb"] < 8192
    assert component["InferenceComponentName"] == found.outputs()["InferenceComponentName"]
    gpu = stacks("scale-to-zero", instance="ml.g5.xlarge").one(COMPONENT)["Specification"][
        "ComputeResourceRequirements"
    ]
    assert (gpu["NumberOfAcceleratorDevicesRequired"], "NumberOfCpuCoresRequired" in gpu) == (1, False)


def test_pools_fall_back_by_priority() -> None:
    found = variant(
        stacks(
            "realtime", pools='[{"instance": "ml.c6i.xlarge"}, {"instance": "ml.m7i.large", "priority": 3}]'
        )
    )
    assert found["InstancePools"] == [
        {"InstanceType": "ml.c7i.xlarge", "Priority": 1},
        {"InstanceType": "ml.c6i.xlarge", "Priority": 2},
        {"InstanceType": "ml.m7i.large", "Priority": 3},
    ]
    assert "InstanceType" not in found


def test_an_ab_test_splits_and_a_shadow_copies() -> None:
    other = '[{"name": "Challenger", "artefact": "s3://models/turbo.tar.gz", "weight": 0.25, "count": 2}]'
    found = stacks("realtime", variants=other)
    weights = {
        each["VariantName"]: each["InitialVariantWeight"] for each in found.one(CONFIG)["ProductionVariants"]
    }
    assert weights == {"AllTraffic": 1, "Challenger": 0.25}
    assert {each["Properties"]["PrimaryContainer"]["ModelDataUrl"] for each in found.resources(MODEL)} == {
        "s3://example-models/tiny/model.tar.gz",
        "s3://models/turbo.tar.gz",
    }
    # Either variant's failures take an update back.
    (alarm,) = [
        a["Properties"]
        for a in found.resources(ALARM)
        if a["Properties"]["AlarmName"] == "sagerank-5xx-errors"
    ]
    watched = json.dumps(alarm["Metrics"])
    assert "SUM([m0,m1])" in watched
    assert "AllTraffic" in watched
    assert "Challenger" in watched
    assert "Challenger: ml.c7i.xlarge hours" in found.outputs()["EstimatedMonthlyCost"]
    shadow = stacks("realtime", variants=other.replace('"count"', '"shadow": true, "count"')).one(CONFIG)
    assert [each["VariantName"] for each in shadow["ProductionVariants"]] == ["AllTraffic"]
    assert [each["VariantName"] for each in shadow["ShadowProductionVariants"]] == ["Challenger"]


def test_capture_is_off_unless_asked_for_then_encrypted() -> None:
    assert all(
        "DataCaptureConfig" not in stacks(name, preset).one(CONFIG)
        for name, preset in EVERY
        if name != "batch"
    )
    found = stacks("realtime", capture__percent="10").one(CONFIG)["DataCaptureConfig"]
    assert (found["InitialSamplingPercentage"], found["EnableCapture"]) == (10, True)
    assert found["KmsKeyId"]


# Scaling.


@pytest.mark.parametrize(
    ("name", "dimension", "metric"),
    [
        ("realtime", "sagemaker:variant:DesiredInstanceCount", "SageMakerVariantInvocationsPerInstance"),
        ("gpu", "sagemaker:variant:DesiredInstanceCount", "SageMakerVariantInvocationsPerInstance"),
        (
            "scale-to-zero",
            "sagemaker:inference-component:DesiredCopyCount",
            "SageMakerInferenceComponentInvocationsPerCopy",
        ),
        ("async", "sagemaker:variant:DesiredInstanceCount", "ApproximateBacklogSizePerInstance"),
    ],
)
def test_scaling_follows_the_metric_the_mode_emits(name: str, dimension: str, metric: str) -> None:
    found = stacks(name)
    target = found.one(TARGET)
    assert (target["ScalableDimension"], target["MaxCapacity"]) == (dimension, 4)
    assert "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint" in json.dumps(target["RoleARN"])
    tracking = [
        p["Properties"]
        for p in found.resources(POLICY)
        if p["Properties"]["PolicyType"] == "TargetTrackingScaling"
    ]
    (settings,) = (each["TargetTrackingScalingPolicyConfiguration"] for each in tracking)
    assert f'"{metric}"' in json.dumps(settings)
    assert (settings["ScaleInCooldown"], settings["ScaleOutCooldown"]) == (600, 120)
    assert settings["TargetValue"] > 0


@pytest.mark.parametrize(
    ("name", "metric"),
    [("async", "HasBacklogWithoutCapacity"), ("scale-to-zero", "NoCapacityInvocationFailures")],
)
def test_the_way_up_from_zero_is_a_step(name: str, metric: str) -> None:
    found = stacks(name)
    assert found.one(TARGET)["MinCapacity"] == 0
    ((step_id, step),) = [
        (id, p) for id, p in found.named(POLICY) if p["Properties"]["PolicyType"] == "StepScaling"
    ]
    (adjustment,) = step["Properties"]["StepScalingPolicyConfiguration"]["StepAdjustments"]
    assert adjustment == {"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}
    (alarm,) = [
        a["Properties"] for a in found.resources(ALARM) if a["Properties"].get("MetricName") == metric
    ]
    assert alarm["AlarmActions"] == [{"Ref": step_id}]
    assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (1, 1)


def test_serverless_scales_its_warm_capacity_only() -> None:
    assert not stacks("serverless").resources(TARGET)
    found = stacks("serverless", serverless__provisioned="2")
    assert found.one(TARGET)["ScalableDimension"] == "sagemaker:variant:DesiredProvisionedConcurrency"
    assert "SageMakerVariantProvisionedConcurrencyUtilization" in json.dumps(found.one(POLICY))


def test_a_fixed_fleet_is_not_scaled_and_schedules_are_kept() -> None:
    assert not stacks("realtime", autoscaling__max="1").resources(TARGET)
    night = (
        '[{"name": "night", "cron": "cron(0 22 * * ? *)", "timezone": "Europe/Berlin", "min": 1, "max": 2}]'
    )
    (action,) = stacks("realtime", autoscaling__schedules=night).one(TARGET)["ScheduledActions"]
    assert action["ScalableTargetAction"] == {"MinCapacity": 1, "MaxCapacity": 2}
    assert (action["Schedule"], action["Timezone"]) == ("cron(0 22 * * ? *)", "Europe/Berlin")


def test_the_target_follows_the_estimated_speed() -> None:
    def rate(**options: str) -> float:
        policy = stacks("realtime", **options).one(POLICY)["TargetTrackingScalingPolicyConfiguration"]
        return float(policy["TargetValue"])

    assert rate(instance="ml.c7i.4xlarge") > 3 * rate()
    assert rate(traffic__documents="50") == pytest.approx(2 * rate(), rel=0.1)
    assert rate(autoscaling__target="42") == 42


# Alarms, dashboard.


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_alarm_is_heard(name: str) -> None:
    found = stacks(name)
    by_name = {alarm["Properties"]["AlarmName"]: alarm["Properties"] for alarm in found.resources(ALARM)}
    wanted = {"p99-latency", "5xx-errors"}
    if name != "marketplace":
        wanted.add("golden-pairs")
    if name != "serverless":
        wanted |= {"memoryutilization", "diskutilization"}
    if name in ("gpu", "marketplace"):
        wanted.add("gpumemoryutilization")
    if name in ("realtime", "graviton", "gpu", "marketplace"):
        wanted.add("idle")
    if name == "async":
        wanted.add("queue")
    silent = {"waiting-at-zero"} if name in ("async", "scale-to-zero") else set()
    assert {each.removeprefix("sagerank-") for each in by_name} == wanted | silent
    for each in wanted:
        assert "Topic" in json.dumps(by_name[f"sagerank-{each}"]["AlarmActions"])


@pytest.mark.parametrize("name", ENDPOINTS)
def test_nothing_looks_at_a_metric_the_mode_does_not_emit(name: str) -> None:
    text = json.dumps(stacks(name).templates)
    absent = {
        "async": [
            "OverheadLatency",
            '"Invocations"',
            r"\"Invocations\"",
            '"InvocationsPerInstance',
            "VariantInvocationsPerInstance",
        ],
        "serverless": ["InvocationsPerInstance", "CPUUtilization", "Backlog"],
        "scale-to-zero": ["InvocationsPerInstance", "Backlog"],
    }.get(name, ["Backlog", "PerCopy", "ModelSetupTime", "NoCapacity"])
    assert not [metric for metric in absent if metric in text]
    if name == "scale-to-zero":
        dimensions = [
            a["Properties"]["Dimensions"]
            for a in stacks(name).resources(ALARM)
            if a["Properties"].get("Namespace") == "AWS/SageMaker"
        ]
        assert all(
            each == [{"Name": "InferenceComponentName", "Value": "sagerank-component"}] for each in dimensions
        )


def test_latency_is_compared_in_microseconds() -> None:
    found = stacks("realtime", alarms__p99_ms="1500")
    found["endpoint"].has_resource_properties(
        ALARM, {"MetricName": "ModelLatency", "ExtendedStatistic": "p99", "Threshold": 1_500_000}
    )


def test_expected_traffic_does_not_raise_the_latency_alarm() -> None:
    """A larger model on the same machine is slower by its nature, and must not take its own updates back."""

    def limit(**options: str) -> float:
        found = stacks("realtime", **options)
        (alarm,) = [
            a["Properties"]
            for a in found.resources(ALARM)
            if a["Properties"]["AlarmName"] == "sagerank-p99-latency"
        ]
        assert alarm["Threshold"] >= 3e6 * estimate._pace(found.config, "alarms.p99_ms").high - 1e5
        return float(alarm["Threshold"])

    assert limit(model="base") > 5 * limit()
    assert limit(traffic__documents="1") == 2_000_000


def test_golden_pairs_are_read_from_the_servers_log() -> None:
    found = stacks("realtime")
    found["endpoint"].has_resource_properties(
        "AWS::Logs::MetricFilter",
        {
            "FilterPattern": Match.string_like_regexp('event = "drifted"'),
            "MetricTransformations": [Match.object_like({"MetricName": "GoldenFailures"})],
        },
    )
    found["endpoint"].has_resource_properties(
        ALARM, {"MetricName": "GoldenFailures", "Namespace": metrics.namespace(found.config)}
    )
    groups = [
        g["Properties"].get("LogGroupName") for g in stacks("scale-to-zero").resources("AWS::Logs::LogGroup")
    ]
    assert "/aws/sagemaker/InferenceComponents/sagerank-component" in groups


def test_the_idle_alarm_fires_on_silence() -> None:
    found = stacks("realtime", alarms__idle_hours="6")
    found["observability"].has_resource_properties(
        ALARM,
        {
            "AlarmName": "sagerank-idle",
            "TreatMissingData": "breaching",
            "EvaluationPeriods": 6,
            "Period": 3600,
            "ComparisonOperator": "LessThanThreshold",
        },
    )
    names = [
        a["Properties"]["AlarmName"] for a in stacks("realtime", alarms__idle_hours="0").resources(ALARM)
    ]
    assert "sagerank-idle" not in names


def test_alarms_and_budgets_may_publish_and_people_subscribe() -> None:
    found = stacks("realtime", alarms__email="oncall@example.com")
    found["model"].has_resource_properties(
        "AWS::SNS::Subscription", {"Protocol": "email", "Endpoint": "oncall@example.com"}
    )
    services = ["budgets.amazonaws.com", "cloudwatch.amazonaws.com", "events.amazonaws.com"]
    allowed = Match.object_like(
        {"Effect": "Allow", "Action": "sns:Publish", "Principal": {"Service": services}}
    )
    found["model"].has_resource_properties(
        "AWS::SNS::TopicPolicy", {"PolicyDocument": {"Statement": Match.array_with([allowed])}}
    )
    for policy in found.resources("AWS::KMS::Key"):
        principals = json.dumps([s["Principal"] for s in policy["Properties"]["KeyPolicy"]["Statement"]])
        assert all(service in principals for service in services)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_dashboard_shows_what_the_mode_has(name: str) -> None:
    text = json.dumps(stacks(name).one("AWS::CloudWatch::Dashboard"))
    shown = ["Latency", "Requests and errors"]
    shown += [] if name == "serverless" else ["Utilisation"]
    shown += [] if name == "marketplace" else ["padding saved", "tokens/s", "Cost an hour"]
    assert not [title for title in shown if title not in text]
    assert ("Queue depth" in text) == (name == "async")
    assert ("GPUUtilization" in text) == (name in ("gpu", "marketplace"))
    assert ("cold start" in text) == (name == "serverless")


# Updates.


SIZES = {"all-at-once": {}, "canary": {"CanarySize": 50}, "linear": {"LinearStepSize": 50}, "rolling": {}}


@pytest.mark.parametrize(
    ("mode", "policy"),
    [("serverless", "all-at-once"), *((mode, policy) for mode in ("realtime", "async") for policy in SIZES)],
)
def test_an_update_is_watched_and_taken_back(mode: str, policy: str) -> None:
    fleet = {} if mode == "serverless" else {"autoscaling__min": "2"}
    found = stacks(mode, rollout__policy=policy, rollout__wait_seconds="120", **fleet)
    settings = found.one(ENDPOINT)["DeploymentConfig"]
    alarms = {
        id
        for id, alarm in found.named(ALARM)
        if id in found.templates["endpoint"]["Resources"]
        and "waiting" not in alarm["Properties"]["AlarmName"]
    }
    assert {each["AlarmName"]["Ref"] for each in settings["AutoRollbackConfiguration"]["Alarms"]} == alarms
    assert len(alarms) == 3
    if policy == "rolling":
        update = settings["RollingUpdatePolicy"]
        assert update["MaximumBatchSize"] == {"Type": "CAPACITY_PERCENT", "Value": 50}
        assert update["WaitIntervalInSeconds"] == 120
    else:
        update = settings["BlueGreenUpdatePolicy"]
        routing = update["TrafficRoutingConfiguration"]
        assert (routing["Type"], routing["WaitIntervalInSeconds"]) == (policy.replace("-", "_").upper(), 120)
        for name, value in SIZES[policy].items():
            assert routing[name] == {"Type": "CAPACITY_PERCENT", "Value": value}
        assert update["TerminationWaitInSeconds"] == 120
    assert update["MaximumExecutionTimeoutInSeconds"] == 3600


def test_the_other_modes_are_updated_as_aws_can() -> None:
    assert "DeploymentConfig" not in stacks("marketplace").one(ENDPOINT)
    assert "DeploymentConfig" not in stacks("scale-to-zero").one(ENDPOINT)
    settings = stacks("scale-to-zero").one(COMPONENT)["DeploymentConfig"]
    assert settings["RollingUpdatePolicy"]["MaximumBatchSize"] == {"Type": "COPY_COUNT", "Value": 1}
    assert len(settings["AutoRollbackConfiguration"]["Alarms"]) == 3
    assert (
        "AutoRollbackConfiguration"
        not in stacks("realtime", rollout__rollback="false").one(ENDPOINT)["DeploymentConfig"]
    )


def test_prod_starts_with_a_canary_of_one_instance_of_two() -> None:
    found = stacks("realtime", "prod")
    assert variant(found)["InitialInstanceCount"] == 2
    routing = found.one(ENDPOINT)["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert (routing["Type"], routing["CanarySize"]["Value"]) == ("CANARY", 50)


def references(value: Any) -> set[str]:
    """Logical ids that a template's value refers to."""
    if isinstance(value, list):
        return set().union(*map(references, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    own = {value["Ref"]} if isinstance(value.get("Ref"), str) else set()
    if isinstance(value.get("Fn::GetAtt"), list):
        own.add(value["Fn::GetAtt"][0])
    return own.union(*map(references, value.values()))


@pytest.mark.parametrize("name", ["realtime", "serverless", "async"])
def test_another_model_replaces_before_it_deletes(name: str) -> None:
    """CloudFormation makes a replacement before what refers to it is updated, and deletes the old one when all is done. It
    replaces a model and a configuration on any change, if they have no names; the endpoint is changed in place.
    """
    before, after = stacks(name), stacks(name, artefact="s3://example-models/tiny/other.tar.gz")
    old, new = before.templates["endpoint"]["Resources"], after.templates["endpoint"]["Resources"]
    changed = {id for id in old.keys() & new.keys() if old[id] != new[id]}
    ((model, created),) = after.named(MODEL)
    ((configuration, configured),) = after.named(CONFIG)
    ((endpoint, served),) = after.named(ENDPOINT)
    assert changed == {model}
    assert "ModelName" not in created["Properties"]
    assert "EndpointConfigName" not in configured["Properties"]
    # The chain along which replacement runs.
    assert model in references(configured["Properties"]["ProductionVariants"])
    assert references(served["Properties"]["EndpointConfigName"]) == {configuration}
    assert served["Properties"]["EndpointName"] == old[endpoint]["Properties"]["EndpointName"] == "sagerank"
    # The right to read the new artefact is another resource, made before the model; the old one stays until the end.
    ((came, _),) = [(id, each) for id, each in new.items() if id not in old]
    ((went, _),) = [(id, each) for id, each in old.items() if id not in new]
    assert old[went]["Type"] == new[came]["Type"] == "AWS::IAM::Policy"
    assert came in listed(created["DependsOn"])
    # And what other stacks import does not change, or CloudFormation would refuse.
    assert before.templates["model"].get("Outputs") == after.templates["model"].get("Outputs")
    assert before.templates.get("network") == after.templates.get("network")


@pytest.mark.parametrize("name", ["realtime", "marketplace", "async"])
def test_an_update_keeps_what_scaling_started_but_not_the_weights(name: str) -> None:
    endpoint = stacks(name).one(ENDPOINT)
    assert endpoint["RetainAllVariantProperties"] is True
    assert endpoint["ExcludeRetainedVariantProperties"] == [{"VariantPropertyType": "DesiredWeight"}]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_two_synths_are_equal_to_the_byte(archive: Path, tmp_path: Path) -> None:
    """So that a second deployment of the same is no change, templates and assets alike; in another process, too."""
    options = [
        "-c",
        "model=micro",
        "-c",
        "mode=realtime",
        "-c",
        "instance=ml.c7i.large",
        "-c",
        f"artefact={archive}",
    ]
    assert main([*options, "--output", str(tmp_path / "one")]) == 0
    code = f"import sys; from sagerank_infra.app import main; sys.exit(main({[*options, '--output', str(tmp_path / 'two')]!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_the_bootstrap_rule_can_be_left_out() -> None:
    assert "Rules" in stacks("realtime").templates["endpoint"]
    assert not {"Rules", "Parameters"} & set(stacks("realtime", bootstrap_rule="false").templates["endpoint"])


# Other people's rules.


def test_one_command_writes_every_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make synth`, with one mode in place of all, which the tests above synthesise."""
    monkeypatch.setattr(sagerank_infra.app, "EXAMPLES", {"serverless": EXAMPLES["serverless"]})
    assert main(["--every", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["serverless-dev", "serverless-prod"]
    assert files(tmp_path / "serverless-prod").keys() == files(stacks("serverless", "prod").assembly).keys()


def test_cfn_lint_is_clean() -> None:
    # The presets differ in values, and prod has all that dev has.
    folders = [stacks(name, "prod").assembly for name in EXAMPLES]
    templates = [str(path) for folder in folders for path in sorted(folder.glob("*.template.json"))]
    assert len(templates) == 4 * len(EXAMPLES) - 1  # serverless has no network
    # W3005: DependsOn beside a reference, which the CDK writes for safety.
    done = subprocess.run(
        [sys.executable, "-c", "from cfnlint.runner import main; main()", "-i", "W3005", "-t", *templates],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


_NAG = """
import sys
import aws_cdk as cdk
from aws_cdk import aws_s3
from cdk_nag import AwsSolutionsChecks
from sagerank_infra.app import build
from sagerank_infra.examples import EXAMPLES, example

app = cdk.App(outdir=sys.argv[1], context={"@aws-cdk/core:validateAgainstDefaultRules": True})
for name in EXAMPLES:
    options = {"capture__percent": "5"} if name in ("realtime", "async") else {}
    build(app, example(name, "prod", name=name, **options))
build(app, example("realtime", name="unpacked", artefact="s3://models/tiny/", account="123456789012"))
bad = cdk.Stack(app, "bad")
aws_s3.Bucket(bad, "Bucket")
cdk.CfnResource(bad, "Endpoint", type="AWS::SageMaker::EndpointConfig", properties={"ProductionVariants": [{"VariantName": "-"}]})
cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
app.synth()
"""


def test_cdk_nag_and_the_cdks_own_validation_find_nothing(tmp_path: Path) -> None:
    """The one run with validation on. A stack that is bad on purpose shows that both look."""
    environ = {name: text for name, text in os.environ.items() if name != "CDK_VALIDATION"}
    command = [sys.executable, "-c", _NAG, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=ROOT)
    report = json.loads((tmp_path / "validation-report.json").read_text())
    found = {
        (plugin["pluginName"], violation["ruleName"], where.get("constructPath", ""))
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for where in violation["violatingConstructs"]
    }
    assert done.returncode != 0
    assert {finding for finding in found if not finding[2].startswith("bad/")} == set()
    assert len({plugin for plugin, _, _ in found}) == 2, found


def outline(found: Synthesised) -> dict[str, Any]:
    """The endpoint's stack in full, of the others what there is how often. Asset hashes and tags are left out."""
    counts = {}
    for stack, template in found.templates.items():
        kinds = [each["Type"] for each in template["Resources"].values()]
        counts[stack] = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    resources = sorted(
        found.templates["endpoint"]["Resources"].values(), key=lambda each: (each["Type"], json.dumps(each))
    )
    for each in resources:
        each.get("Properties", {}).pop("Tags", None)
    text = json.dumps(
        {"resources": counts, "endpoint": resources, "cost": found.outputs()["EstimatedMonthlyCost"]}
    )
    text = re.sub(r"[0-9a-f]{64}", "HASH", text)
    blanked: dict[str, Any] = json.loads(re.sub(r"(?<=[A-Za-z])[0-9A-F]{8}(?=[A-Z\"]|$)", "", text))
    return blanked


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_templates_are_those_of_the_snapshot(name: str) -> None:
    """After a change that was meant: UPDATE_SNAPSHOTS=1 python -m pytest tests/test_infra_stacks.py -k snapshot"""
    shown = json.dumps(outline(synthesise(example(name, "prod"))), indent=1) + "\n"
    path = SNAPSHOTS / f"{name}.json"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown)
    assert shown == path.read_text()
