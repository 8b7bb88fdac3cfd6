"""The endpoint and its configuration in each mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aws_cdk.assertions import Match

from sagerank.models.build import MICRO
from sagerank_cost import memory
from sagerank_cost.models import choice
from sagerank_inference.archive import manifest_sha256, pack
from sagerank_inference.artefact import Manifest
from sagerank_infra import rules
from sagerank_infra.config import ConfigError
from sagerank_infra.instances import hardware

from .conftest import (
    ALARM,
    COMPONENT,
    CONFIG,
    ENDPOINT,
    EVERY,
    MODEL,
    TARGET,
    listed,
    stacks,
    synthesise,
    variant,
)
from .synth import EXAMPLES, example


def test_volumes_use_the_key_where_there_is_no_disk_of_the_instances_own() -> None:
    assert "KmsKeyId" in stacks("realtime").one(CONFIG)
    # CreateEndpointConfig fails with a key beside an NVMe disk: g5 has one.
    assert "KmsKeyId" not in stacks("gpu").one(CONFIG)


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
    assert component["InferenceComponentName"] == found.outputs()["InferenceComponentName"]
    gpu = stacks("scale-to-zero", instance="ml.g5.xlarge").one(COMPONENT)["Specification"][
        "ComputeResourceRequirements"
    ]
    assert (gpu["NumberOfAcceleratorDevicesRequired"], "NumberOfCpuCoresRequired" in gpu) == (1, False)


@pytest.mark.parametrize("instance", ["ml.c7i.large", "ml.m5.large", "ml.c7i.xlarge", "ml.c8g.4xlarge"])
def test_no_two_copies_share_an_instance(instance: str) -> None:
    """Nor does one ask for all of it: SageMaker's agents run there too."""
    component = stacks("scale-to-zero", instance=instance).one(COMPONENT)
    cores = component["Specification"]["ComputeResourceRequirements"]["NumberOfCpuCoresRequired"]
    assert hardware(instance).vcpu / 2 < cores < hardware(instance).vcpu


@pytest.mark.parametrize(
    ("instance", "precision"),
    [
        ("ml.c7i.large", "fp32"),
        ("ml.c7i.4xlarge", "int8"),
        ("ml.c8g.4xlarge", "bf16"),
        ("ml.g5.xlarge", "bf16"),
    ],
)
def test_a_component_asks_for_the_memory_that_fit_promises(instance: str, precision: str) -> None:
    component = stacks("scale-to-zero", instance=instance, precision=precision).one(COMPONENT)
    asked = component["Specification"]["ComputeResourceRequirements"]["MinMemoryRequiredInMb"]
    machine = hardware(instance)
    promised = memory.promised_mb(choice("tiny"), precision, 8192, cores=machine.cores)
    if machine.gpu:
        promised = memory.GPU_HOST_MB
    server = memory.SERVER_MB + (0 if machine.gpu else memory.CACHE_MB)
    assert asked - 1 < (promised + server) / 1.048576 <= asked, "of MB that are 2^20 bytes"
    assert asked < 1024 * machine.memory_gib


def test_capture_is_off_unless_asked_for_then_encrypted() -> None:
    assert all(
        "DataCaptureConfig" not in stacks(name, preset).one(CONFIG)
        for name, preset in EVERY
        if name != "batch"
    )
    found = stacks("realtime", capture__percent="10").one(CONFIG)["DataCaptureConfig"]
    assert (found["InitialSamplingPercentage"], found["EnableCapture"]) == (10, True)
    assert found["KmsKeyId"]


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


def test_a_fixed_fleet_is_what_the_configuration_says() -> None:
    """SageMaker would keep the old count, in silence."""
    fixed = stacks("realtime", autoscaling__min="3", autoscaling__max="3")
    assert "RetainAllVariantProperties" not in fixed.one(ENDPOINT)
    assert variant(fixed)["InitialInstanceCount"] == 3


def test_each_artefact_is_pinned_in_the_template_by_its_manifest(archive: Path, tmp_path: Path) -> None:
    """Of a local archive by its own, also a variant's; of one in S3 by what was given, and by nothing where nothing was."""
    files = {name: MICRO / name for name in (*Manifest.read(MICRO).files, "manifest.json")}
    other = json.loads((MICRO / "manifest.json").read_text()) | {"model": "other"}
    pack({**files, "manifest.json": json.dumps(other).encode()}, tmp_path / "model.tar.gz")
    variants = [
        {"name": "Own", "weight": 1, "artefact": str(tmp_path / "model.tar.gz")},
        {"name": "Same", "weight": 1},
        {"name": "Stored", "weight": 1, "artefact": "s3://models/model.tar.gz", "artefact_sha256": "e" * 64},
        {"name": "Any", "weight": 1, "artefact": "s3://models/model.tar.gz"},
    ]
    options = {"artefact": str(archive), "model": "micro", "variants": json.dumps(variants)}
    found = {
        name: each["Properties"]["PrimaryContainer"]["Environment"].get("SAGERANK_MANIFEST_SHA256")
        for name, each in synthesise(example("realtime", **options)).named(MODEL)
    }
    own = manifest_sha256(archive)
    assert found == {
        "Model": own,
        "ModelOwn": manifest_sha256(tmp_path / "model.tar.gz"),
        "ModelSame": own,
        "ModelStored": "e" * 64,
        "ModelAny": None,
    }


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"artefact_sha256": "f" * 64}, "and the manifest of .* has [0-9a-f]{64}: it is another artefact"),
        ({"artefact_sha256": "F" * 64}, "give the 64 hexadecimal digits that `sagerank build` prints"),
        ({"settings.manifest_sha256": "f" * 64}, "give artefact_sha256"),
        (
            {"variants": json.dumps([{"name": "B", "weight": 1, "artefact_sha256": "f" * 64}])},
            r"variants\[0\].artefact_sha256 is .*, and there is no variants\[0\].artefact: leave it out",
        ),
    ],
)
def test_a_pin_that_does_not_fit_is_one_sentence(
    options: dict[str, str], sentence: str, archive: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        rules.read(None, {"model": "micro", "instance": "ml.c7i.large", "artefact": str(archive), **options})


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_server_keeps_scores_where_callers_wait_for_our_cpu_image(name: str) -> None:
    config = example(name)
    kept = config.mode in memory.CACHED and name != "gpu"
    expected = f"{memory.CACHE_MB:.0f}" if kept else None
    found = stacks(name)
    if config.traits.own_container:
        variables = found.one(MODEL)["PrimaryContainer"].get("Environment", {})
        assert variables.get("SAGERANK_CACHE_MB") == expected
        chosen = stacks(name, settings__cache_mb="0").one(MODEL)["PrimaryContainer"]["Environment"]
        assert chosen["SAGERANK_CACHE_MB"] == "0"
    if config.instance:
        assert memory.cache_mb(config.mode, hardware(config.instance)) == (memory.CACHE_MB if kept else 0)


def test_an_image_of_somebody_elses_is_told_nothing_of_it() -> None:
    address = "123456789012.dkr.ecr.us-east-1.amazonaws.com/reranker-amd64:1"
    variables = stacks("realtime", image=address, region="us-east-1").one(MODEL)["PrimaryContainer"]
    assert "SAGERANK_CACHE_MB" not in variables["Environment"]


def test_scores_that_are_kept_count_as_memory() -> None:
    with pytest.raises(ConfigError, match=r"lower settings.max_tokens or settings.cache_mb, which is 4000"):
        example("realtime", instance="ml.c7i.large", settings__cache_mb="4000")
    with pytest.raises(ConfigError, match="SAGERANK_CACHE_MB is 5000: give at most 4096"):
        example("realtime", settings__cache_mb="5000")
    with pytest.raises(ConfigError, match="serverless.memory_mb is 1024: tiny needs"):
        example("serverless", serverless__memory_mb="1024", settings__cache_mb="500")
    asked = [
        stacks("scale-to-zero", settings__cache_mb=megabytes).one(COMPONENT)["Specification"][
            "ComputeResourceRequirements"
        ]["MinMemoryRequiredInMb"]
        for megabytes in ("0", "32", "132")
    ]
    assert asked[1] - asked[0] == pytest.approx(32 / 1.048576, abs=1)
    assert asked[2] - asked[0] == pytest.approx(132 / 1.048576, abs=1)
