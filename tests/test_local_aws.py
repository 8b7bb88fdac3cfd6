"""The local AWS where it differs from moto, and the other tests would not notice."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from sagerank.models.build import archive

from .local_aws.launch import REGION, running
from .local_aws.place import Place

_ROLE = "arn:aws:iam::123456789012:role/any"


def _template(instance: str) -> str:
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]},
        "InstanceType": instance,
        "InitialInstanceCount": 1,
    }
    container = {"Image": "any", "ModelDataUrl": "s3://artefacts/model.tar.gz", "Environment": {}}
    resources: dict[str, Any] = {
        # The endpoint first: what it refers to is to be changed before it all the same.
        "Endpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Properties": {
                "EndpointName": "changed",
                "EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
            },
        },
        "Config": {"Type": "AWS::SageMaker::EndpointConfig", "Properties": {"ProductionVariants": [variant]}},
        "Model": {
            "Type": "AWS::SageMaker::Model",
            "Properties": {"ExecutionRoleArn": _ROLE, "PrimaryContainer": container},
        },
    }
    return json.dumps({"Parameters": {"Version": {"Type": "String", "Default": "1"}}, "Resources": resources})


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """Clients of a local AWS whose endpoints are processes, with micro in a bucket."""
    folder = tmp_path_factory.mktemp("aws")
    archive("micro", folder / "model.tar.gz")
    with running(folder / "log") as environment:
        session = boto3.Session("local", "local", region_name=REGION)
        aws = {
            service: session.client(service, endpoint_url=environment["AWS_ENDPOINT_URL"])
            for service in ("cloudformation", "s3", "sagemaker")
        }
        aws["s3"].create_bucket(Bucket="artefacts")
        aws["s3"].upload_file(str(folder / "model.tar.gz"), "artefacts", "model.tar.gz")
        yield aws


def test_a_stacks_update_replaces_the_configuration_and_updates_the_endpoint(aws: Mapping[str, Any]) -> None:
    aws["cloudformation"].create_stack(StackName="s", TemplateBody=_template("ml.c7i.large"))
    before = aws["sagemaker"].describe_endpoint(EndpointName="changed")

    aws["cloudformation"].update_stack(
        StackName="s",
        TemplateBody=_template("ml.c7i.xlarge"),
        Parameters=[{"ParameterKey": "Version", "UsePreviousValue": True}],  # as the CDK does
    )
    after = aws["sagemaker"].describe_endpoint(EndpointName="changed")
    assert after["EndpointStatus"] == "InService"
    assert after["EndpointConfigName"] != before["EndpointConfigName"]
    (config,) = aws["sagemaker"].list_endpoint_configs()["EndpointConfigs"]
    assert config["EndpointConfigName"] == after["EndpointConfigName"]
    variants = aws["sagemaker"].describe_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
    assert variants["ProductionVariants"][0]["InstanceType"] == "ml.c7i.xlarge"
    aws["cloudformation"].delete_stack(StackName="s")
    assert aws["sagemaker"].list_endpoints()["Endpoints"] == []


def test_a_model_needs_an_artefact_and_an_endpoint_one_that_can_be_unpacked(aws: Mapping[str, Any]) -> None:
    sagemaker = aws["sagemaker"]
    model: dict[str, Any] = {
        "ModelName": "text",
        "ExecutionRoleArn": _ROLE,
        "PrimaryContainer": {"Image": "any", "ModelDataUrl": "s3://artefacts/text.tar.gz"},
    }
    with pytest.raises(ClientError, match=r"Could not find model data at s3://artefacts/text\.tar\.gz\."):
        sagemaker.create_model(**model)
    aws["s3"].put_object(Bucket="artefacts", Key="text.tar.gz", Body=b"no archive")
    sagemaker.create_model(**model)
    variant = {
        "VariantName": "All",
        "ModelName": "text",
        "InstanceType": "ml.c7i.large",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName="text", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="text", EndpointConfigName="text")
    while (found := sagemaker.describe_endpoint(EndpointName="text"))["EndpointStatus"] == "Creating":
        time.sleep(0.05)
    assert found["EndpointStatus"] == "Failed"
    assert found["FailureReason"] == (
        'Failed to extract model data archive for container "container_1" from URL "s3://artefacts/text.tar.gz". '
        "Please ensure that the object located at the URL is a valid tar.gz archive."
    )


def test_an_image_of_the_machine_has_to_be_one_that_sagemaker_has(aws: Mapping[str, Any]) -> None:
    variant = {
        "VariantName": "All",
        "InstanceType": "ml.g5.xlarge",
        "InitialInstanceCount": 1,
        "InferenceAmiVersion": "al2023-ami-sagemaker-inference-gpu-4-2",
    }
    with pytest.raises(
        ClientError, match="'al2023-ami-sagemaker-inference-gpu-4-2'.*Member must satisfy enum"
    ):
        aws["sagemaker"].create_endpoint_config(EndpointConfigName="ami", ProductionVariants=[variant])


def test_a_place_has_what_its_instance_has_and_no_more_processors_than_there_are() -> None:
    cores = len(os.sched_getaffinity(0))
    large = Place.of_variant("e", {"VariantName": "All", "InstanceType": "ml.c7i.large"})
    assert (large.limits.memory_mb, large.limits.cpus) == (4096, min(2, cores))
    huge = Place.of_variant(
        "e", {"VariantName": "All", "InstancePools": [{"InstanceType": "ml.c7g.16xlarge"}]}
    )
    assert (huge.architecture, huge.limits.memory_mb) == ("arm64", 131_072)
    assert huge.limits.cpus == min(64, cores)
    serverless = Place.of_variant("e", {"VariantName": "All", "ServerlessConfig": {"MemorySizeInMB": 1024}})
    assert (serverless.limits.memory_mb, serverless.limits.cpus, serverless.architecture) == (
        1024,
        0.5,
        "amd64",
    )
    needs = {"NumberOfCpuCoresRequired": 1, "MinMemoryRequiredInMb": 512}
    part = Place.of_component(
        "part", {"InstanceType": "ml.c7i.large"}, {"ComputeResourceRequirements": needs}
    )
    assert (part.limits.cpus, part.limits.memory_mb) == (1, 4096)
