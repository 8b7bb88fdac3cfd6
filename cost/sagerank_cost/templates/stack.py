"""What one template costs: each of its resources has a price, costs nothing, is billed by use, or is an unknown line."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from .. import CostError
from ..bill import SELLERS_CHARGE
from ..lines import Statement
from .endpoints import ENDPOINTS, add_endpoints
from .intrinsics import Resource, Values, plain, resources
from .usage import Usage

# Types, and services as a whole (those that end in ::), that cost nothing by themselves, or whose cost is another item's.
_FREE = frozenset(
    {
        "AWS::ApplicationAutoScaling::",
        "AWS::Budgets::",
        "AWS::CDK::",
        "AWS::CloudFormation::WaitCondition",
        "AWS::CloudFormation::WaitConditionHandle",
        "AWS::EC2::DHCPOptions",
        "AWS::EC2::EIPAssociation",
        "AWS::EC2::EgressOnlyInternetGateway",
        "AWS::EC2::InternetGateway",
        "AWS::EC2::LaunchTemplate",
        "AWS::EC2::NetworkAcl",
        "AWS::EC2::NetworkAclEntry",
        "AWS::EC2::Route",
        "AWS::EC2::RouteTable",
        "AWS::EC2::SecurityGroup",
        "AWS::EC2::SecurityGroupEgress",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::EC2::Subnet",
        "AWS::EC2::SubnetNetworkAclAssociation",
        "AWS::EC2::SubnetRouteTableAssociation",
        "AWS::EC2::VPC",
        "AWS::EC2::VPCCidrBlock",
        "AWS::EC2::VPCDHCPOptionsAssociation",
        "AWS::EC2::VPCGatewayAttachment",
        "AWS::IAM::",
        "AWS::KMS::Alias",
        "AWS::Lambda::Permission",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::Subscription",
        "AWS::SNS::TopicInlinePolicy",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::QueuePolicy",
        "AWS::SSM::Parameter",
        "AWS::SageMaker::ModelPackage",
        "AWS::SageMaker::ModelPackageGroup",
        "AWS::SageMaker::InferenceComponent",  # runs on its endpoint's instances
    }
)
# The same of those that are billed by what goes through them or lies in them.
_BY_USE = frozenset(
    {
        "AWS::ApiGateway::",
        "AWS::ApiGatewayV2::",
        "AWS::CloudFormation::CustomResource",
        "AWS::CloudTrail::",
        "AWS::CodeBuild::",
        "AWS::CodeCommit::",
        "AWS::Cognito::",
        "AWS::EC2::FlowLog",
        "AWS::ECR::",
        "AWS::Events::",
        "AWS::Lambda::",
        "AWS::Logs::",
        "AWS::S3::",
        "AWS::SNS::",
        "AWS::SQS::",
        "AWS::SageMaker::Domain",
        "AWS::SageMaker::MonitoringSchedule",
        "AWS::SageMaker::Pipeline",
        "AWS::SageMaker::UserProfile",
        "AWS::Serverless::",
        "AWS::ServiceCatalog::",
        "AWS::StepFunctions::",
        "Custom::",
    }
)
# One of these is billed by the month: what several are called, and their item in rates.csv.
_ALARMS, _METRICS = ("alarms", "alarm"), ("metrics read from logs", "metric")
_PIECES = {
    "AWS::CloudWatch::Dashboard": ("dashboards", "dashboard"),
    "AWS::EC2::EIP": ("public IPv4 addresses", "public_ipv4"),
    "AWS::EC2::NatGateway": ("NAT gateways", "nat_gateway"),
    "AWS::KMS::Key": ("keys", "kms_key"),
}
# A version of a group of one's own: what a seller sells has no version.
_VERSIONED = re.compile(r"model-package/[^/]+/\d+$")


class Stack:
    """What a template costs: `statement`, whose lines are named PREFIX RESOURCE: WHAT; nested stacks in files `beside` it cost nothing here.

    `through` are the GB that its endpoints are sent and send, `door` is the interface endpoint to them, or "".
    """

    def __init__(
        self,
        prefix: str,
        content: dict[str, Any],
        statement: Statement,
        beside: frozenset[str],
        usage: Usage | None,
    ) -> None:
        self.statement, self._beside = statement, beside
        self.door = ""
        values = Values(content, statement.region)
        found = list(resources(content, values))
        self._own = {
            name for each in found if each.kind == "AWS::SageMaker::ModelPackage" for name in each.names
        }
        self._used = usage is not None
        self._pieces: Counter[tuple[str, str]] = Counter()
        for resource in found:
            try:
                self._add(resource, f"{prefix}{resource.name}")
            except CostError as error:
                statement.leave_out(f"{prefix}{resource.name}: {plain(resource.kind)}", str(error))
        for (what, item), count in (+self._pieces).items():
            key = f"{prefix}{what}: {count}"
            statement.add(item, count, f"{count} {what}", key=key, label=key)
        self.through = add_endpoints(prefix, found, statement, usage)
        if values.assumed:
            taken = ", ".join(f"{name} {plain(str(default))}" for name, default in values.assumed.items())
            statement.notes.append(f"parameters are taken at their defaults: {plain(taken)}")

    def _add(self, resource: Resource, label: str) -> None:
        statement, kind = self.statement, resource.kind
        if kind in ENDPOINTS:
            return  # add_endpoints has them
        if kind in _PIECES:
            self._pieces[_PIECES[kind]] += 1
        elif kind == "AWS::CloudWatch::Alarm":
            # One on an expression is billed for each metric in it.
            self._pieces[_ALARMS] += sum(each.has("MetricStat") for each in resource.parts("Metrics")) or 1
        elif kind == "AWS::ApplicationAutoScaling::ScalingPolicy":
            if resource.held("PolicyType") == "TargetTrackingScaling":
                self._pieces[_ALARMS] += 2
                statement.notes.append("autoscaling makes two alarms of each target that it follows")
        elif kind == "AWS::Logs::MetricFilter" and self._used:
            # Others count events, and are no metric until one happens.
            values = [each.held("MetricValue") for each in resource.parts("MetricTransformations")]
            self._pieces[_METRICS] += sum(value.startswith("$") for value in values)
        elif kind == "AWS::EC2::VPCEndpoint":
            self._interface(resource, label)
        elif kind == "AWS::SageMaker::Model":
            self._seller(resource, label)
        elif kind == "AWS::CloudFormation::Stack" and resource.asset in self._beside:
            return  # which is read on its own
        elif kind not in _FREE and _among(kind, _BY_USE):
            statement.by_use[plain(kind)] = "what goes through them or lies in them"
        elif not _among(kind, _FREE):
            raise CostError("no price of these is known here")

    def _seller(self, resource: Resource, label: str) -> None:
        containers = [resource.part("PrimaryContainer"), *resource.parts("Containers")]
        packages = {each.held("ModelPackageName") for each in containers} - self._own - {""}
        if any(not _VERSIONED.search(package) for package in packages):
            self.statement.leave_out(f"{label}: {SELLERS_CHARGE}", "it is the seller's to say")

    def _interface(self, resource: Resource, label: str) -> None:
        kind = resource.text("VpcEndpointType", "Gateway")
        if kind == "Gateway":
            return
        if kind != "Interface":
            raise CostError(f"no price of a {kind} endpoint is known here")
        zones = max(1, len(resource.items("SubnetIds")))
        key = f"{label}: interface endpoint in {zones} zones"
        self.statement.add("vpc_endpoint", zones, f"interface endpoint in {zones} zones", key=key, label=key)
        self.statement.by_use[f"{label}: data"] = "data through interface endpoints, by the GB"
        if resource.held("ServiceName").endswith(".sagemaker.runtime"):
            self.door = label


def _among(kind: str, types: frozenset[str]) -> bool:
    return kind in types or f"{kind.rpartition('::')[0]}::" in types
