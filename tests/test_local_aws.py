"""The local AWS where it differs from moto, and the other tests would not notice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3

from sagerank.models.build import archive

from .local_aws.launch import REGION, running

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


def test_a_stacks_update_replaces_the_configuration_and_updates_the_endpoint(tmp_path: Path) -> None:
    archive("micro", tmp_path / "model.tar.gz")
    with running(tmp_path / "log") as environment:
        session = boto3.Session("local", "local", region_name=REGION)
        aws = {
            service: session.client(service, endpoint_url=environment["AWS_ENDPOINT_URL"])
            for service in ("cloudformation", "s3", "sagemaker")
        }
        aws["s3"].create_bucket(Bucket="artefacts")
        aws["s3"].upload_file(str(tmp_path / "model.tar.gz"), "artefacts", "model.tar.gz")
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
