"""Synthesised CloudFormation templates as line items: what stands there every hour, and what is used where a usage file says so.

Prices what hosts a reranker (endpoints, their volumes, provisioned concurrency) and what stands beside it (interface endpoints, NAT
gateways, alarms, dashboards, keys). What may cost something and has no price here is an unknown line, never nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from . import CostError
from .bill import SELLERS_CHARGE
from .catalogue import Catalogue
from .endpoints import ENDPOINTS, add_endpoints
from .files import load
from .intrinsics import Resource, Values, plain, resources
from .lines import Statement
from .usage import Usage

# Prices the configuration file of a deployment: what such a file says is not for this package to know.
Configured = Callable[[Path, Catalogue], Statement]

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
# One piece of these is billed by the month: what several are called, and their item in rates.csv.
_PIECES = {
    "AWS::CloudWatch::Alarm": ("alarms", "alarm"),
    "AWS::CloudWatch::Dashboard": ("dashboards", "dashboard"),
    "AWS::EC2::EIP": ("public IPv4 addresses", "public_ipv4"),
    "AWS::EC2::NatGateway": ("NAT gateways", "nat_gateway"),
    "AWS::KMS::Key": ("keys", "kms_key"),
}
# A version of a group of one's own: what a seller sells has no version.
_VERSIONED = re.compile(r"model-package/[^/]+/\d+$")


def read(
    path: Path,
    catalogue: Catalogue,
    region: str,
    configured: Configured | None = None,
    usage: Usage | None = None,
) -> Statement:
    """The month of a template, of a folder of them (cdk.out), or of a deployment's configuration, which `configured` prices.

    `region` is where a template does not say its own; `usage` is of the endpoints of templates. Raises CostError for a file
    that cannot be read; what is in it and cannot be priced is an unknown line of the statement.
    """
    folder = path if path.is_dir() else path.parent
    found = [*path.glob("*.template.json"), *path.glob("assembly-*/*.template.json")]
    files = sorted(found) if path.is_dir() else [path]
    if not files:
        raise CostError(
            f"{path} holds no *.template.json: give a folder that `cdk synth` wrote, or one template."
        )
    stacks = []
    for file in files:
        content = {} if file.suffix == ".toml" else load(file)
        if "Resources" in content:
            stack = file.relative_to(folder).as_posix().removesuffix(".template.json")
            # A template alone is compared with one of another name.
            prefix = plain(f"{stack}/") if path.is_dir() else ""
            statement = Statement(catalogue, _region(file, region))
            try:
                stacks.append(_Stack(prefix, content, statement, folder, usage))
            except RecursionError:
                raise CostError(f"{file} is nested too deeply to be read.") from None
            except CostError as error:
                raise CostError(f"{file}: {error}.") from None
        elif configured is None or path.is_dir():
            raise CostError(
                f"{file} has no Resources, so it is no template: give what `cdk synth` wrote. `sagerank cost diff` takes the configuration of a deployment, too."
            )
        else:
            statement = configured(file, catalogue)
            if usage is not None:
                statement.notes.append(f"{file.name} says its own traffic: the usage file is not of it")
            return statement
    _count_door(stacks)
    whole = Statement(catalogue, region)
    for stack in stacks:
        whole.lines |= stack.statement.lines
        whole.unknown |= stack.statement.unknown
        whole.by_use |= stack.statement.by_use
        whole.notes += stack.statement.notes
    whole.notes = list(dict.fromkeys(whole.notes))
    return whole


def _region(file: Path, default: str) -> str:
    """The region in cdk.out's manifest, whose environment reads aws://ACCOUNT/REGION."""
    manifest = file.parent / "manifest.json"
    if not (file.name.endswith(".template.json") and manifest.exists()):
        return default
    artifacts = load(manifest).get("artifacts")
    for artifact in artifacts.values() if isinstance(artifacts, dict) else ():
        match artifact:
            case {"properties": {"templateFile": file.name}, "environment": str(environment)}:
                region = environment.rpartition("/")[2]
                return region if region and region != "unknown-region" else default
    return default


def _count_door(stacks: Sequence[_Stack]) -> None:
    """Add what goes through the interface endpoint that requests to SageMaker take, where there is one and use is known."""
    through = sum((stack.through for stack in stacks), Decimal(0))
    for stack in stacks:
        if through and stack.door:
            key = f"{stack.door}: data in and out"
            stack.statement.by_use.pop(f"{stack.door}: data", None)
            stack.statement.add("vpc_endpoint_gb", through, "data in and out", key=key, label=key)
            stack.statement.notes.append(f"all requests are taken to go through {stack.door}")
            return


class _Stack:
    """What a template costs: `statement`, whose lines are named PREFIX RESOURCE: WHAT.

    `through` are the GB that its endpoints are sent and send, `door` is the interface endpoint to them, or "".
    """

    def __init__(
        self, prefix: str, content: dict[str, Any], statement: Statement, folder: Path, usage: Usage | None
    ) -> None:
        self.statement, self._folder = statement, folder
        self.door = ""
        values = Values(content, statement.region)
        found = list(resources(content, values))
        self._own = {
            name for each in found if each.kind == "AWS::SageMaker::ModelPackage" for name in each.names
        }
        pieces = Counter(resource.kind for resource in found if resource.kind in _PIECES)
        for kind, count in pieces.items():
            what, item = _PIECES[kind]
            key = f"{prefix}{what}: {count}"
            statement.add(item, count, f"{count} {what}", key=key, label=key)
        for resource in found:
            if resource.kind not in (*_PIECES, *ENDPOINTS):
                try:
                    self._add(resource, f"{prefix}{resource.name}")
                except CostError as error:
                    statement.leave_out(f"{prefix}{resource.name}: {plain(resource.kind)}", str(error))
        self.through = add_endpoints(prefix, found, statement, usage)
        if values.assumed:
            taken = ", ".join(f"{name} {plain(str(default))}" for name, default in values.assumed.items())
            statement.notes.append(f"parameters are taken at their defaults: {plain(taken)}")

    def _add(self, resource: Resource, label: str) -> None:
        statement, kind = self.statement, resource.kind
        if kind == "AWS::EC2::VPCEndpoint":
            self._interface(resource, label)
        elif kind == "AWS::SageMaker::Model":
            containers = [resource.part("PrimaryContainer"), *resource.parts("Containers")]
            packages = [each.held("ModelPackageName") for each in containers]
            if any(
                package and not _VERSIONED.search(package) and package not in self._own
                for package in packages
            ):
                statement.leave_out(f"{label}: {SELLERS_CHARGE}", "it is the seller's to say")
        elif kind == "AWS::CloudFormation::Stack" and (self._folder / (resource.asset or "?")).is_file():
            return  # its template is in the same folder
        elif _among(kind, _FREE):
            return
        elif _among(kind, _BY_USE):
            statement.by_use[plain(kind)] = "what goes through them or lies in them"
        else:
            raise CostError("no price of these is known here")

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
