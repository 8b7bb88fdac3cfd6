"""Synthesised CloudFormation templates as line items: what stands there every hour, whoever asks it anything.

Prices what hosts a reranker (endpoints, their volumes, provisioned concurrency) and what stands beside it (interface
endpoints, NAT gateways, alarms). What depends on use, and what has a price that is not known here, is said and not counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from . import CostError
from .bill import VOLUME_GB
from .catalogue import Catalogue
from .lines import HOURS_PER_MONTH, Statement

# Prices the configuration file of a deployment: what such a file says is not for this package to know.
Configured = Callable[[Path, Catalogue], Statement]

# These cost nothing by themselves, or what they cost is another item's.
_FREE = (
    "AWS::CDK::",
    "AWS::IAM::",
    "AWS::ApplicationAutoScaling::",
    "AWS::SageMaker::Model",
    "AWS::SageMaker::Endpoint",
    "AWS::SageMaker::InferenceComponent",
    "AWS::EC2::VPC",
    "AWS::EC2::Subnet",
    "AWS::EC2::Route",
    "AWS::EC2::InternetGateway",
    "AWS::EC2::SecurityGroup",
    "AWS::SNS::TopicPolicy",
    "AWS::S3::BucketPolicy",
    "AWS::KMS::Alias",
    "AWS::Budgets::",
    "AWS::Lambda::Permission",
    "AWS::SNS::Subscription",
)


# One piece of these is billed by the month: what it is called, and its item in rates.csv.
_SINGLE = {
    "AWS::CloudWatch::Alarm": ("alarm", "alarm"),
    "AWS::EC2::EIP": ("public IPv4 address", "public_ipv4"),
    "AWS::EC2::NatGateway": ("NAT gateway", "nat_gateway"),
}
_BY_GB = {"nat_gateway": "NAT gateways", "vpc_endpoint": "interface endpoints"}


def read(path: Path, catalogue: Catalogue, region: str, configured: Configured | None = None) -> Statement:
    """The month of a template, of a folder of them (cdk.out), or of a deployment's configuration, which `configured` prices.

    `region` is where a template does not say its own. Raises CostError for a file that cannot be read or priced.
    """
    files = sorted(path.glob("*.template.json")) if path.is_dir() else [path]
    if not files:
        raise CostError(
            f"{path} holds no *.template.json: give a folder that `cdk synth` wrote, or one template."
        )
    whole = Statement(catalogue, region)
    unpriced: set[str] = set()
    for file in files:
        content = {} if file.suffix in (".yaml", ".yml", ".toml") else _load(file)
        if "Resources" in content:
            template = _Template(content["Resources"], catalogue, _region(file, region), file)
            statement = template.statement
            unpriced |= template.unpriced
        elif configured is None or path.is_dir():
            raise CostError(
                f"{file} has no Resources, so it is no template: give what `cdk synth` wrote. `sagerank cost diff` takes the configuration of a deployment, too."
            )
        else:
            statement = configured(file, catalogue)
        whole.lines |= statement.lines
        whole.notes += statement.notes
    if unpriced:
        whole.notes.append(
            f"not counted, as use decides or no price is known here: {', '.join(sorted(unpriced))}"
        )
    whole.notes = list(dict.fromkeys(whole.notes))
    return whole


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CostError(f"{file} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise CostError(f"{file} is not JSON: give a template that `cdk synth` wrote.") from None
    if not isinstance(content, dict):
        raise CostError(f"{file} is not a JSON object: give a template that `cdk synth` wrote.")
    return content


def _region(file: Path, default: str) -> str:
    """The region in cdk.out's manifest, whose environment reads aws://ACCOUNT/REGION."""
    manifest = file.parent / "manifest.json"
    if not (file.name.endswith(".template.json") and manifest.exists()):
        return default
    artifacts = _load(manifest).get("artifacts", {})
    for artifact in artifacts.values():
        if artifact.get("properties", {}).get("templateFile") == file.name:
            region = str(artifact.get("environment", "")).rpartition("/")[2]
            return region if region and region != "unknown-region" else default
    return default


class _Template:
    """What a template's resources cost, and the types of those that have no price."""

    def __init__(self, resources: Mapping[str, Any], catalogue: Catalogue, region: str, file: Path) -> None:
        self._resources, self._stack = resources, file.name.removesuffix(".template.json")
        self.statement = Statement(catalogue, region)
        self.unpriced: set[str] = set()
        for name, resource in resources.items():
            resource_type, properties = str(resource.get("Type", "")), resource.get("Properties", {})
            if resource_type == "AWS::SageMaker::EndpointConfig":
                self._endpoint(name, properties)
            elif resource_type == "AWS::EC2::VPCEndpoint":
                self._interface(name, properties)
            elif resource_type in _SINGLE:
                what, item = _SINGLE[resource_type]
                self._add(name, what, item, 1)
            elif not resource_type.startswith(_FREE):
                self.unpriced.add(resource_type)

    def _add(self, name: str, what: str, item: str, count: int, memory_mb: int | None = None) -> None:
        key = f"{self._stack}/{name}: {what}"
        self.statement.add(item, count, what, memory_mb=memory_mb, key=key, label=f"{what} {name}")
        if item in _BY_GB:
            self.statement.notes.append(
                f"not counted: data through {_BY_GB[item]}, which is billed by the GB"
            )

    def _endpoint(self, name: str, properties: Mapping[str, Any]) -> None:
        variants = [
            *properties.get("ProductionVariants", ()),
            *properties.get("ShadowProductionVariants", ()),
        ]
        suffix = " (asynchronous)" if "AsyncInferenceConfig" in properties else ""
        for variant in variants:
            label = f"{name}/{variant.get('VariantName', '')}"
            serverless = variant.get("ServerlessConfig")
            if serverless:
                self._serverless(label, serverless)
                continue
            instance = variant.get("InstanceType")
            if not isinstance(instance, str):
                raise CostError(
                    f"{self._stack}/{label} has no InstanceType that is text: give it as a literal."
                )
            count = self._least(
                str(variant.get("VariantName", "")), int(variant.get("InitialInstanceCount", 0) or 0)
            )
            if not count:
                self.statement.notes.append(
                    f"{label} may go to zero instances: counted as 0, what it costs depends on use"
                )
                continue
            what = f"{count} x {instance}{suffix}"
            hours = Decimal(count * HOURS_PER_MONTH)
            self.statement.add_hours(instance, hours, what, key=f"{self._stack}/{label}: {what}")
            if not self.statement.catalogue.instance(instance).local_disk:
                size = int(variant.get("VolumeSizeInGB", VOLUME_GB))
                self._add(label, f"volumes, {count} x {size} GB", "volume", count * size)

    def _serverless(self, label: str, serverless: Mapping[str, Any]) -> None:
        size = int(serverless.get("MemorySizeInMB", 0))
        warm = int(serverless.get("ProvisionedConcurrency", 0) or 0)
        usd = self.statement.catalogue.rate(self.statement.region, "serverless", size).usd
        self.statement.notes.append(
            f"{label} is serverless, {size} MB: {usd} USD for each second of processing, which depends on use"
        )
        if warm:
            self._add(label, f"provisioned concurrency, {warm} x {size} MB", "provisioned", warm, size)

    def _least(self, variant: str, initial: int) -> int:
        """Instances that always run: what autoscaling may go down to, or else the initial number."""
        for resource in self._resources.values():
            target = resource.get("Properties", {})
            if (
                resource.get("Type") == "AWS::ApplicationAutoScaling::ScalableTarget"
                and "DesiredInstanceCount" in str(target.get("ScalableDimension", ""))
                and f"variant/{variant}" in json.dumps(target.get("ResourceId", ""))
            ):
                return int(target.get("MinCapacity", initial))
        return initial

    def _interface(self, name: str, properties: Mapping[str, Any]) -> None:
        if properties.get("VpcEndpointType") != "Interface":
            return
        zones = max(1, len(properties.get("SubnetIds", ())))
        self._add(name, f"interface endpoint in {zones} zones", "vpc_endpoint", zones)
