"""`sagerank destroy`: `cdk destroy`, and then the proof that nothing is left but what was to be kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import OperateError, assembly, tools
from .account import Account, absent, look_up
from .stacks import Resource, Stack, find, last, names, require_settled, resources_of


@dataclass(frozen=True, slots=True)
class Doomed:
    """What a deployment has: its stacks, their resources, and objects in buckets that go with them."""

    name: str
    stacks: Mapping[str, Stack]
    resources: tuple[Resource, ...]
    objects: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Left:
    """What remains: kept by its deletion policy, left behind although it should be gone, and of types that are not looked up."""

    kept: tuple[str, ...]
    left: tuple[str, ...]
    unchecked: tuple[str, ...]


def survey(account: Account, name: str) -> Doomed:
    """Find what a deployment has. Raises OperateError where no stack has the name, or one is still being changed."""
    deployed = find(account, name)
    if not deployed:
        raise OperateError(
            f"There is no deployment {name} in {account.region}: no stack {name}-model or {name}-endpoint exists. Give --name and --region as at `sagerank deploy`."
        )
    require_settled(deployed)
    resources = tuple(resource for stack in deployed.values() for resource in resources_of(account, stack))
    buckets = [item.id for item in resources if item.type == "AWS::S3::Bucket" and not item.kept]
    return Doomed(
        name, deployed, resources, {bucket: sum(1 for _ in _objects(account, bucket)) for bucket in buckets}
    )


def require_unprotected(doomed: Doomed) -> None:
    """Raise OperateError where a stack has termination protection."""
    protected = [stack.name for stack in doomed.stacks.values() if stack.protected]
    if protected:
        raise OperateError(
            f"{', '.join(protected)} {'is' if len(protected) == 1 else 'are'} protected from deletion, as preset prod has it: give --unprotect to turn that off and delete."
        )


def _unprotect(account: Account, doomed: Doomed) -> None:
    for stack in doomed.stacks.values():
        if stack.protected:
            account.client("cloudformation").update_termination_protection(
                StackName=stack.name, EnableTerminationProtection=False
            )


def destroy(account: Account, doomed: Doomed) -> None:
    """Turn protection off, run `cdk destroy`, first for what writes to the buckets, and empty those that go in between."""
    tools.cdk()  # before anything is changed
    _unprotect(account, doomed)
    writers = ("endpoint", "observability")
    first = [stack for part, stack in doomed.stacks.items() if part in writers]
    if first:
        assembly.destroy(account, first)
    for bucket in doomed.objects:
        _empty(account, bucket)
    if rest := [stack for part, stack in doomed.stacks.items() if part not in writers]:
        assembly.destroy(account, rest)


def _objects(account: Account, bucket: str) -> Any:
    from botocore.exceptions import ClientError

    try:
        yield from account.pages("s3", "list_objects_v2", "Contents", Bucket=bucket)
    except ClientError as error:
        if not absent(error):
            raise


def _empty(account: Account, bucket: str) -> None:
    """Delete a bucket's objects, so that it can be deleted; ours have no versions."""
    batch: list[dict[str, str]] = []
    for stored in _objects(account, bucket):
        batch.append({"Key": stored["Key"]})
        if len(batch) == 1000:
            account.client("s3").delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
            batch = []
    if batch:
        account.client("s3").delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})


def left(account: Account, doomed: Doomed) -> Left:
    """Look every resource up by its service, and what SageMaker and Application Auto Scaling made by themselves."""
    kept: list[str] = []
    behind: list[str] = []
    unchecked: set[str] = set()
    for resource in doomed.resources:
        if resource.type in _GOES_WITH:
            continue
        exists = _LOOKUPS.get(resource.type)
        if exists is None:
            unchecked.add(resource.type)
        elif look_up(exists, account, resource.id):
            (kept if resource.kept else behind).append(f"{resource.type} {resource.id}")
    behind += [f"stack {stack.name} ({stack.status})" for stack in find(account, doomed.name).values()]
    components = names(doomed.resources, "AWS::SageMaker::InferenceComponent")
    # SageMaker makes them where they are not there.
    groups = [f"/aws/sagemaker/Endpoints/{doomed.name}"]
    groups += [f"/aws/sagemaker/InferenceComponents/{component}" for component in components]
    known = {item.id for item in doomed.resources if item.type == "AWS::Logs::LogGroup"}
    for group in groups:
        for found in account.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=group):
            if found["logGroupName"] == group and group not in known:
                behind.append(f"log group {group}")
    # Alarms of a target-tracking policy are Application Auto Scaling's own, and go with it.
    scaled = [f"endpoint/{doomed.name}/", *(f"inference-component/{component}/" for component in components)]
    for where in scaled:
        tracking = f"TargetTracking-{where}"
        for alarm in account.pages("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNamePrefix=tracking):
            behind.append(f"alarm {alarm['AlarmName']}")
    return Left(tuple(kept), tuple(behind), tuple(sorted(unchecked)))


def _key(account: Account, id: str) -> bool:
    # A key cannot go at once: it waits, unusable and free of charge.
    return str(account.client("kms").describe_key(KeyId=id)["KeyMetadata"]["KeyState"]) not in (
        "PendingDeletion",
        "PendingReplicaDeletion",
    )


def _named(
    service: str, operation: str, argument: str, *, by_arn: bool = False
) -> Callable[[Account, str], object]:
    """A lookup that fails where nothing has the name."""

    def look(account: Account, id: str) -> object:
        return getattr(account.client(service), operation)(**{argument: last(id) if by_arn else id})

    return look


def _listed(service: str, operation: str, argument: str, answer: str) -> Callable[[Account, str], object]:
    """A lookup of a list of one, which may be answered with an empty list."""

    def look(account: Account, id: str) -> object:
        return getattr(account.client(service), operation)(**{argument: [id]})[answer]

    return look


# A part of another resource, which is looked up: role, topic, bucket, log group, subnet, scaling target, key.
_GOES_WITH = frozenset(
    {
        "AWS::IAM::Policy",
        "AWS::SNS::TopicPolicy",
        "AWS::SNS::Subscription",
        "AWS::S3::BucketPolicy",
        "AWS::Logs::MetricFilter",
        "AWS::EC2::SubnetRouteTableAssociation",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::EC2::SecurityGroupEgress",
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        "AWS::KMS::Alias",
    }
)
_LOOKUPS: Mapping[str, Callable[[Account, str], object]] = {
    "AWS::SageMaker::Endpoint": _named("sagemaker", "describe_endpoint", "EndpointName", by_arn=True),
    "AWS::SageMaker::EndpointConfig": _named(
        "sagemaker", "describe_endpoint_config", "EndpointConfigName", by_arn=True
    ),
    "AWS::SageMaker::Model": _named("sagemaker", "describe_model", "ModelName", by_arn=True),
    "AWS::SageMaker::InferenceComponent": _named(
        "sagemaker", "describe_inference_component", "InferenceComponentName", by_arn=True
    ),
    "AWS::S3::Bucket": _named("s3", "head_bucket", "Bucket"),
    "AWS::KMS::Key": _key,
    "AWS::IAM::Role": _named("iam", "get_role", "RoleName"),
    "AWS::IAM::ManagedPolicy": _named("iam", "get_policy", "PolicyArn"),
    "AWS::SSM::Parameter": _named("ssm", "get_parameter", "Name"),
    "AWS::SNS::Topic": _named("sns", "get_topic_attributes", "TopicArn"),
    "AWS::CloudWatch::Alarm": _listed("cloudwatch", "describe_alarms", "AlarmNames", "MetricAlarms"),
    "AWS::CloudWatch::Dashboard": _named("cloudwatch", "get_dashboard", "DashboardName"),
    "AWS::Logs::LogGroup": lambda account, id: any(
        group["logGroupName"] == id
        for group in account.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=id)
    ),
    "AWS::EC2::VPC": _listed("ec2", "describe_vpcs", "VpcIds", "Vpcs"),
    "AWS::EC2::Subnet": _listed("ec2", "describe_subnets", "SubnetIds", "Subnets"),
    "AWS::EC2::SecurityGroup": _listed("ec2", "describe_security_groups", "GroupIds", "SecurityGroups"),
    "AWS::EC2::RouteTable": _listed("ec2", "describe_route_tables", "RouteTableIds", "RouteTables"),
    "AWS::EC2::FlowLog": _listed("ec2", "describe_flow_logs", "FlowLogIds", "FlowLogs"),
    "AWS::EC2::VPCEndpoint": lambda account, id: [
        endpoint
        for endpoint in account.client("ec2").describe_vpc_endpoints(VpcEndpointIds=[id])["VpcEndpoints"]
        if endpoint["State"].lower() not in ("deleting", "deleted")
    ],
    "AWS::Events::Rule": _named("events", "describe_rule", "Name", by_arn=True),
    "AWS::ApplicationAutoScaling::ScalableTarget": lambda account, id: account.client(
        "application-autoscaling"
    ).describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[id.split("|")[0]])[
        "ScalableTargets"
    ],
    "AWS::Budgets::Budget": lambda account, id: account.client("budgets").describe_budget(
        AccountId=account.number, BudgetName=id
    )["Budget"],
}
