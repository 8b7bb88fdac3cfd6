"""The local AWS where it differs from moto, and the other tests would not notice."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import boto3
import pytest
from botocore.exceptions import ClientError

from sagerank.models.build import archive
from sagerank_infra.reranker import Reranker

from .infra.conftest import synthesise
from .infra.synth import example
from .local_aws.launch import REGION, running
from .local_aws.place import Place

_ROLE = "arn:aws:iam::123456789012:role/any"


def _template(instance: str, count: int = 1, scaled: bool = False, **endpoint: Any) -> str:
    variant = {
        "VariantName": endpoint.pop("variant", "AllTraffic"),
        "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]},
        "InstanceType": instance,
        "InitialInstanceCount": count,
    }
    container = {"Image": "any", "ModelDataUrl": "s3://artefacts/model.tar.gz", "Environment": {}}
    resources: dict[str, Any] = {
        # The endpoint first: what it refers to is to be changed before it all the same.
        "Endpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Properties": {
                "EndpointName": "changed",
                "EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
                **endpoint,
            },
        },
        "Config": {"Type": "AWS::SageMaker::EndpointConfig", "Properties": {"ProductionVariants": [variant]}},
        "Model": {
            "Type": "AWS::SageMaker::Model",
            "Properties": {"ExecutionRoleArn": _ROLE, "PrimaryContainer": container},
        },
    }
    if scaled:
        resources["Target"] = {
            "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
            "DependsOn": ["Endpoint"],
            "Properties": {
                "MinCapacity": 1,
                "MaxCapacity": 2,
                "ResourceId": "endpoint/changed/variant/AllTraffic",
                "RoleARN": _ROLE,
                "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
                "ServiceNamespace": "sagemaker",
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
            for service in (
                "application-autoscaling",
                "cloudformation",
                "iam",
                "s3",
                "sagemaker",
                "sagemaker-runtime",
                "ssm",
            )
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


def test_metrics_of_instances_are_switched_on_in_place_and_off_again(aws: Mapping[str, Any]) -> None:
    def deployed(**options: str) -> dict[str, str]:
        given = {"model": "micro", "artefact": "s3://artefacts/model.tar.gz", "bootstrap_rule": "false"}
        found = synthesise(example("realtime", network__vpc="none", **given, **options)).templates
        return {f"sagerank-{part}": json.dumps(found[part]) for part in ("model", "endpoint")}

    def enhanced() -> dict[str, Any]:
        name = aws["sagemaker"].describe_endpoint(EndpointName="sagerank")["EndpointConfigName"]
        return dict(aws["sagemaker"].describe_endpoint_config(EndpointConfigName=name)["MetricsConfig"])

    off: dict[str, Any] = dict.fromkeys(("EnableEnhancedMetrics", "EnableDetailedObservability"), False)
    off |= {"MetricPublishFrequencyInSeconds": 60}
    for stack, template in deployed().items():
        aws["cloudformation"].create_stack(StackName=stack, TemplateBody=template)
    assert enhanced() == off
    on = deployed(metrics__enhanced="true", metrics__detailed="true", metrics__seconds="10")
    for templates, wanted in (
        (on, {**dict.fromkeys(off, True), "MetricPublishFrequencyInSeconds": 10}),
        (deployed(), off),
    ):
        _updated(aws, "sagerank-endpoint", templates["sagerank-endpoint"])
        assert enhanced() == wanted
    for part in ("endpoint", "model"):
        aws["cloudformation"].delete_stack(StackName=f"sagerank-{part}")


def test_parameters_and_policies_come_with_tags_and_go_unless_somebody_has_the_policy(
    aws: Mapping[str, Any],
) -> None:
    allowed = {"Effect": "Allow", "Action": "sagemaker:InvokeEndpoint", "Resource": "*"}
    document = {"Version": "2012-10-17", "Statement": [allowed]}
    resources = {
        "Caller": {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": document}},
        "Parameter": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {
                "Name": "/sagerank/x/caller-policy",
                "Type": "String",
                "Value": {"Ref": "Caller"},
                "Tags": {"sagerank:name": "x"},
            },
        },
    }
    formation, iam, ssm = aws["cloudformation"], aws["iam"], aws["ssm"]
    formation.create_stack(StackName="p", TemplateBody=json.dumps({"Resources": resources}))
    arn = ssm.get_parameter(Name="/sagerank/x/caller-policy")["Parameter"]["Value"]
    assert iam.get_policy(PolicyArn=arn)["Policy"]["Arn"] == arn
    told = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId="/sagerank/x/caller-policy")
    assert told["TagList"] == [{"Key": "sagerank:name", "Value": "x"}]

    trust = {"Version": "2012-10-17", "Statement": []}
    iam.create_role(RoleName="somebody", AssumeRolePolicyDocument=json.dumps(trust))
    iam.attach_role_policy(RoleName="somebody", PolicyArn=arn)
    with pytest.raises(ClientError, match="Cannot delete a policy attached to entities"):
        formation.delete_stack(StackName="p")
    iam.detach_role_policy(RoleName="somebody", PolicyArn=arn)
    formation.delete_stack(StackName="p")
    assert iam.list_policies(Scope="Local")["Policies"] == []
    assert ssm.describe_parameters()["Parameters"] == []


def test_a_reranker_in_a_stack_of_somebodys_comes_answers_and_goes(
    aws: Mapping[str, Any], tmp_path: Path
) -> None:
    """All parts in one stack, in which only references and dependencies say what comes first."""
    app = cdk.App(outdir=str(tmp_path))
    theirs = cdk.Stack(
        app, "theirs", synthesizer=cdk.DefaultStackSynthesizer(generate_bootstrap_version_rule=False)
    )
    Reranker(theirs, "One", model="micro", mode="serverless", artefact="s3://artefacts/model.tar.gz")
    app.synth()
    template = (tmp_path / "theirs.template.json").read_text(encoding="utf-8")
    aws["cloudformation"].create_stack(StackName="theirs", TemplateBody=template)

    (stack,) = aws["cloudformation"].describe_stacks(StackName="theirs")["Stacks"]
    (name,) = (
        each["OutputValue"] for each in stack["Outputs"] if "EndpointEndpointName" in each["OutputKey"]
    )
    told = aws["ssm"].get_parameters_by_path(Path=f"/sagerank/{name}/")["Parameters"]
    facts = {each["Name"].rpartition("/")[2]: each["Value"] for each in told}
    assert facts.keys() == {"endpoint-name", "endpoint-arn", "caller-policy", "role", "key"}
    assert facts["endpoint-name"] == name
    described = aws["sagemaker"].describe_endpoint(EndpointName=name)
    assert facts["endpoint-arn"] == described["EndpointArn"]
    policy = aws["iam"].get_policy(PolicyArn=facts["caller-policy"])["Policy"]
    version = aws["iam"].get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])[
        "PolicyVersion"
    ]
    (statement,) = version["Document"]["Statement"]
    assert statement["Resource"] == facts["endpoint-arn"]

    body = json.dumps({"query": "rain", "documents": ["sun", "rain falls"]})
    answer = aws["sagemaker-runtime"].invoke_endpoint(
        EndpointName=name, ContentType="application/json", Body=body
    )
    assert json.load(answer["Body"])["results"][0]["index"] == 1
    aws["cloudformation"].delete_stack(StackName="theirs")
    assert aws["sagemaker"].list_endpoints()["Endpoints"] == []
    assert aws["ssm"].describe_parameters()["Parameters"] == []
    assert aws["iam"].list_policies(Scope="Local")["Policies"] == []


def _updated(aws: Mapping[str, Any], stack: str, template: str) -> tuple[str, str]:
    """The status of a stack after an update, and the reason of its last event."""
    aws["cloudformation"].update_stack(StackName=stack, TemplateBody=template)
    (found,) = aws["cloudformation"].describe_stacks(StackName=stack)["Stacks"]
    events = aws["cloudformation"].describe_stack_events(StackName=stack)["StackEvents"]
    return found["StackStatus"], events[0].get("ResourceStatusReason", "")


def _variant(aws: Mapping[str, Any]) -> tuple[str, int]:
    """Instance type and count that the endpoint runs."""
    found = aws["sagemaker"].describe_endpoint(EndpointName="changed")
    name = found["EndpointConfigName"]
    (variant,) = aws["sagemaker"].describe_endpoint_config(EndpointConfigName=name)["ProductionVariants"]
    return variant["InstanceType"], found["ProductionVariants"][0]["DesiredInstanceCount"]


@pytest.fixture
def stack(aws: Mapping[str, Any]) -> Iterator[str]:
    yield "u"
    aws["cloudformation"].delete_stack(StackName="u")


def test_a_scaled_variant_keeps_its_instance_type_until_its_target_is_gone(
    aws: Mapping[str, Any], stack: str
) -> None:
    create = aws["cloudformation"].create_stack
    create(StackName=stack, TemplateBody=_template("ml.c7i.large", scaled=True))
    status, why = _updated(aws, stack, _template("ml.c7i.xlarge", scaled=True))
    assert status == "UPDATE_ROLLBACK_COMPLETE"
    assert "registered as a scalable target" in why
    assert _variant(aws)[0] == "ml.c7i.large"
    # The template with the target gone changes nothing else.
    assert _updated(aws, stack, _template("ml.c7i.large"))[0] == "UPDATE_COMPLETE"
    assert _updated(aws, stack, _template("ml.c7i.xlarge", scaled=True))[0] == "UPDATE_COMPLETE"
    assert _variant(aws)[0] == "ml.c7i.xlarge"
    targets = aws["application-autoscaling"].describe_scalable_targets(ServiceNamespace="sagemaker")
    assert len(targets["ScalableTargets"]) == 1


def test_counts_and_weights_are_retained_unless_they_are_excluded(aws: Mapping[str, Any], stack: str) -> None:
    aws["cloudformation"].create_stack(StackName=stack, TemplateBody=_template("ml.c7i.large", 1))
    retain: dict[str, Any] = {"RetainAllVariantProperties": True}
    _updated(aws, stack, _template("ml.c7i.large", 3, **retain))
    assert _variant(aws)[1] == 1
    retain["ExcludeRetainedVariantProperties"] = [{"VariantPropertyType": "DesiredInstanceCount"}]
    _updated(aws, stack, _template("ml.c7i.large", 4, **retain))
    assert _variant(aws)[1] == 4
    _updated(aws, stack, _template("ml.c7i.large", 2))
    assert _variant(aws)[1] == 2


def _shifted(kind: str, wait: int = 60, timeout: int = 600) -> dict[str, Any]:
    routing = {"Type": kind, "WaitIntervalInSeconds": wait}
    if kind != "ALL_AT_ONCE":
        size = "CanarySize" if kind == "CANARY" else "LinearStepSize"
        routing[size] = {"Type": "CAPACITY_PERCENT", "Value": 25}
    return {
        "DeploymentConfig": {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": routing,
                "MaximumExecutionTimeoutInSeconds": timeout,
            }
        }
    }


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"variant": "Other", **_shifted("CANARY")}, "CANARY does not support"),
        ({"variant": "Other", **_shifted("ALL_AT_ONCE")}, ""),
        (_shifted("CANARY", 600), "must be larger than the total waiting time, 600"),
        (_shifted("LINEAR", 150), "must be larger than the total waiting time, 600"),
        (_shifted("LINEAR", 149), ""),
    ],
)
def test_traffic_is_shifted_between_the_same_variants_within_the_time(
    aws: Mapping[str, Any], stack: str, change: dict[str, Any], why: str
) -> None:
    aws["cloudformation"].create_stack(StackName=stack, TemplateBody=_template("ml.c7i.large"))
    status, said = _updated(aws, stack, _template("ml.c7i.large", 2, **change))
    assert (status, why in said) == (f"UPDATE_{'ROLLBACK_' if why else ''}COMPLETE", True)


def _pair(value: str, *, weak: bool = False, exported: bool = True) -> tuple[str, str]:
    """The templates of a stack with a bucket and one that wants its name."""
    output = {"Value": {"Ref": value}, **({"Export": {"Name": "p:Bucket"}} if exported else {})}
    named = {"StackName": "p", "OutputName": "Bucket", "Region": REGION}
    reference = {"Fn::GetStackOutput": named} if weak else {"Fn::ImportValue": "p:Bucket"}
    producer = {"Resources": {value: {"Type": "AWS::S3::Bucket"}}, "Outputs": {"Bucket": output}}
    policy = {"Type": "AWS::S3::BucketPolicy", "Properties": {"Bucket": reference, "PolicyDocument": {}}}
    return json.dumps(producer), json.dumps({"Resources": {"Policy": policy}})


def test_an_export_stays_while_it_is_imported_and_an_output_may_go(aws: Mapping[str, Any]) -> None:
    formation = aws["cloudformation"]
    for name, template in zip("pc", _pair("One"), strict=True):
        formation.create_stack(StackName=name, TemplateBody=template)
    in_use = "Export p:Bucket cannot be {} as it is in use by c"
    assert _updated(aws, "p", _pair("Two")[0]) == ("UPDATE_ROLLBACK_COMPLETE", in_use.format("updated"))
    gone = _pair("One", exported=False)[0]
    assert _updated(aws, "p", gone) == ("UPDATE_ROLLBACK_COMPLETE", in_use.format("deleted"))
    assert len(formation.list_exports()["Exports"]) == 1
    assert _updated(aws, "c", _pair("One", weak=True)[1])[0] == "UPDATE_COMPLETE"
    assert _updated(aws, "p", _pair("Two", exported=False)[0])[0] == "UPDATE_COMPLETE"
    assert formation.list_exports()["Exports"] == []
    for name in "cp":
        formation.delete_stack(StackName=name)
    assert aws["s3"].list_buckets()["Buckets"][0]["Name"] == "artefacts"


def test_a_tagged_bucket_without_a_name_is_changed(aws: Mapping[str, Any]) -> None:
    def template(days: int) -> str:
        rule = {"Id": "input", "Prefix": "input/", "Status": "Enabled", "ExpirationInDays": days}
        facts = {
            "LifecycleConfiguration": {"Rules": [rule]},
            "Tags": [{"Key": "sagerank:name", "Value": "b"}],
        }
        return json.dumps({"Resources": {"Data": {"Type": "AWS::S3::Bucket", "Properties": facts}}})

    aws["cloudformation"].create_stack(StackName="b", TemplateBody=template(30))
    assert _updated(aws, "b", template(5))[0] == "UPDATE_COMPLETE"
    aws["cloudformation"].delete_stack(StackName="b")


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
