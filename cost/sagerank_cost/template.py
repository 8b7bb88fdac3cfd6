"""Synthesised CloudFormation templates as line items: what stands there every hour, whoever asks it anything.

Prices what hosts a reranker (endpoints, their volumes, provisioned concurrency) and what stands beside it (interface
endpoints, NAT gateways, alarms). What depends on use, and what has a price that is not known here, is said and not counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from . import CostError
from .catalogue import Catalogue
from .deploy import HOURS_PER_MONTH, VOLUME_GB, Bill, Deployment, Line, bill, total
from .models import choice
from .traffic import constant

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


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one template, folder or configuration: its lines by resource, and what is not counted."""

    lines: dict[str, Line]
    notes: tuple[str, ...]

    @property
    def usd(self) -> Decimal:
        return total(tuple(self.lines.values()))


def read(path: Path, catalogue: Catalogue, region: str) -> Standing:
    """A template, a folder of them (cdk.out), or a JSON object with model, mode and instance. `region` is where the
    template does not say its own.
    """
    files = sorted(path.glob("*.template.json")) if path.is_dir() else [path]
    if not files:
        raise CostError(
            f"{path} holds no *.template.json: give a folder that `cdk synth` wrote, or one template."
        )
    lines: dict[str, Line] = {}
    notes: list[str] = []
    unpriced: set[str] = set()
    for file in files:
        content = _load(file)
        if "Resources" in content:
            found = _Template(
                content["Resources"],
                catalogue,
                _region(file, region),
                file.name.removesuffix(".template.json"),
            )
            lines |= found.lines
            notes += found.notes
            unpriced |= found.unpriced
        elif "mode" in content:
            found_bill = _configured(file, content, catalogue, region)
            lines |= {line.name: line for line in found_bill.lines}
            notes += found_bill.notes
        else:
            raise CostError(
                f"{file} has neither Resources (a template) nor mode (a deployment): give one of them."
            )
    if unpriced:
        notes.append(f"not counted, as use decides or no price is known here: {', '.join(sorted(unpriced))}")
    return Standing(lines, tuple(dict.fromkeys(notes)))


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
    """From cdk.out's manifest, whose environment reads aws://ACCOUNT/REGION."""
    manifest = file.parent / "manifest.json"
    if not (file.name.endswith(".template.json") and manifest.exists()):
        return default
    artifacts = _load(manifest).get("artifacts", {})
    for artifact in artifacts.values():
        if artifact.get("properties", {}).get("templateFile") == file.name:
            region = str(artifact.get("environment", "")).rpartition("/")[2]
            return region if region and region != "unknown-region" else default
    return default


_FIELDS = (
    "model",
    "precision",
    "mode",
    "region",
    "instance",
    "min_instances",
    "max_instances",
    "rate",
    "documents",
    "tokens",
)


def _configured(file: Path, content: Mapping[str, Any], catalogue: Catalogue, region: str) -> Bill:
    """A deployment and its traffic in a JSON object."""
    wrong = sorted(set(content) - set(_FIELDS))
    if wrong:
        raise CostError(f"{file} has {', '.join(wrong)}: known are {', '.join(_FIELDS)}.")
    mode = str(content["mode"])
    least = int(content.get("min_instances", 0 if mode == "async" else 1))
    deployment = Deployment(
        choice(str(content.get("model", "tiny"))),
        str(content.get("precision", "fp32")),
        mode,
        str(content.get("region", region)),
        str(content.get("instance", "")),
        least,
        int(content.get("max_instances", max(20, least))),
    )
    traffic = constant(
        float(content.get("rate", 0.1)),
        documents=int(content.get("documents", 100)),
        tokens=int(content.get("tokens", 150)),
    )
    return bill(deployment, traffic, catalogue)


class _Template:
    def __init__(self, resources: Mapping[str, Any], catalogue: Catalogue, region: str, stack: str) -> None:
        self._resources, self._catalogue, self._region, self._stack = resources, catalogue, region, stack
        self.lines: dict[str, Line] = {}
        self.notes: list[str] = []
        self.unpriced: set[str] = set()
        for name, resource in resources.items():
            kind, properties = str(resource.get("Type", "")), resource.get("Properties", {})
            if kind == "AWS::SageMaker::EndpointConfig":
                self._endpoint(name, properties)
            elif kind == "AWS::EC2::VPCEndpoint":
                self._interface(name, properties)
            elif kind == "AWS::EC2::NatGateway":
                self._add(name, "NAT gateway", Decimal(HOURS_PER_MONTH), "hour", "nat_gateway")
                self.notes.append("not counted: data through NAT gateways, which is billed by the GB")
            elif kind == "AWS::EC2::EIP":
                self._add(name, "public IPv4 address", Decimal(HOURS_PER_MONTH), "hour", "public_ipv4")
            elif kind == "AWS::CloudWatch::Alarm":
                self._add(name, "alarm", Decimal(1), "alarm-month", "alarm")
            elif not kind.startswith(_FREE):
                self.unpriced.add(kind)

    def _add(
        self, name: str, what: str, quantity: Decimal, unit: str, item: str, memory_mb: int | None = None
    ) -> None:
        try:
            price = self._catalogue.rate(self._region, item, memory_mb)
        except CostError as error:
            self.notes.append(f"not counted: {what} {name} ({error})")
            return
        self.lines[f"{self._stack}/{name}: {what}"] = Line(what, quantity, unit, price)

    def _endpoint(self, name: str, properties: Mapping[str, Any]) -> None:
        variants = [
            *properties.get("ProductionVariants", ()),
            *properties.get("ShadowProductionVariants", ()),
        ]
        asynchronous = "AsyncInferenceConfig" in properties
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
                self.notes.append(
                    f"{label} may go to zero instances: counted as 0, what it costs depends on use"
                )
                continue
            hours = Decimal(count * HOURS_PER_MONTH)
            kind = f"{count} x {instance}{' (asynchronous)' if asynchronous else ''}"
            # Not caught: an instance type that does not exist or has no price here makes the total meaningless.
            price = self._catalogue.hosting(self._region, instance)
            self.lines[f"{self._stack}/{label}: {kind}"] = Line(kind, hours, "hour", price)
            if not self._catalogue.instance(instance).local_disk:
                size = int(variant.get("VolumeSizeInGB", VOLUME_GB))
                self._add(label, f"volumes, {count} x {size} GB", Decimal(count * size), "GB-month", "volume")

    def _serverless(self, label: str, serverless: Mapping[str, Any]) -> None:
        size = int(serverless.get("MemorySizeInMB", 0))
        warm = int(serverless.get("ProvisionedConcurrency", 0) or 0)
        usd = self._catalogue.rate(self._region, "serverless", size).usd
        self.notes.append(
            f"{label} is serverless, {size} MB: {usd} USD for each second of processing, which depends on use"
        )
        if warm:
            seconds = Decimal(warm * HOURS_PER_MONTH * 3600)
            self._add(
                label, f"provisioned concurrency, {warm} x {size} MB", seconds, "second", "provisioned", size
            )

    def _least(self, variant: str, initial: int) -> int:
        """Instances that always run: what autoscaling may go down to, or else the initial number."""
        for target in self._scaled():
            dimension = str(target.get("ScalableDimension", ""))
            resource = json.dumps(target.get("ResourceId", ""))
            if "DesiredInstanceCount" in dimension and f"variant/{variant}" in resource:
                return int(target.get("MinCapacity", initial))
        return initial

    def _scaled(self) -> Iterator[Mapping[str, Any]]:
        for resource in self._resources.values():
            if resource.get("Type") == "AWS::ApplicationAutoScaling::ScalableTarget":
                yield resource.get("Properties", {})

    def _interface(self, name: str, properties: Mapping[str, Any]) -> None:
        if properties.get("VpcEndpointType") != "Interface":
            return
        zones = max(1, len(properties.get("SubnetIds", ())))
        self._add(
            name,
            f"interface endpoint in {zones} zones",
            Decimal(zones * HOURS_PER_MONTH),
            "hour",
            "vpc_endpoint",
        )
        self.notes.append("not counted: data through interface endpoints, which is billed by the GB")
