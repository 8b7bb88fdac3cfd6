"""Whether what is deployed can become what is wanted: decided from the templates of both, before anything changes.

Every change is one of three: it works in place, it works while nothing scales the endpoint, or it is refused in a sentence that
says what to do instead. What AWS refuses only after minutes, or does and cannot take back, is refused here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Template = Mapping[str, Any]
Templates = Mapping[str, Template]  # by part: network, model, endpoint, observability
Named = Mapping[str, Mapping[str, Any]]  # the properties of resources of one type, by logical id

_ELSEWHERE = "deploy it under another --name, let callers move, and `sagerank destroy` the old one"
# What cannot change in place, of what other stacks use: CloudFormation would make another, and they would keep the old one.
_FIXED = {
    "AWS::EC2::Subnet": ("CidrBlock", "AvailabilityZone"),
    "AWS::EC2::SecurityGroup": ("GroupDescription",),
}
_HOLD = {"AWS::KMS::Key": ("key", "encryption.key"), "AWS::S3::Bucket": ("bucket", "the data bucket")}
# The property that names a resource; an account has one of a name, so that another with the same cannot be made beside it.
_NAMES = {
    "AWS::SageMaker::Endpoint": "EndpointName",
    "AWS::SageMaker::InferenceComponent": "InferenceComponentName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::CloudWatch::Dashboard": "DashboardName",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """refused: why, and what to do instead. unscaled: the endpoint's scaling is off meanwhile.

    abandoned: parts whose stacks are not needed any more. gone: inference components that callers may still name.
    """

    refused: str = ""
    unscaled: bool = False
    abandoned: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


def decide(old: Templates, new: Templates) -> Transition:
    """What it takes to go from the templates that are deployed, of which there may be none, to those that are wanted."""
    for rule in (_kind, _variants, _component, _data, _network, _identities, _imports):
        if old and (refused := rule(old, new)):
            return Transition(refused=refused)
    return Transition(
        unscaled=_unscaled(old, new),
        abandoned=tuple(part for part in old if part not in new),
        gone=tuple(sorted(_components(old) - _components(new))),
    )


def _kind(old: Templates, new: Templates) -> str:
    was, wanted = kind(old), kind(new)
    if was in ("", wanted):
        return ""
    if not wanted:
        return f"mode batch has no endpoint, and this one answers: {_ELSEWHERE}."
    # SageMaker refuses most, and has no way back from serverless to an instance, so that a failed update could not be undone.
    return f"mode: the endpoint is {was} and would be {wanted}, and SageMaker keeps an endpoint of its kind: {_ELSEWHERE}."


def kind(templates: Templates) -> str:
    """Serverless, asynchronous, of inference components, or real-time on instances; empty without an endpoint."""
    if not _endpoint(templates):
        return ""
    configuration = _configuration(templates)
    (first, *_) = configuration["ProductionVariants"]
    if "ServerlessConfig" in first:
        return "serverless"
    if "AsyncInferenceConfig" in configuration:
        return "asynchronous"
    return "real-time" if "ModelName" in first else "of inference components"


def _variants(old: Templates, new: Templates) -> str:
    before, after = variants(old), variants(new)
    if not before or not after:
        return ""
    policy = _policy(_endpoint(new))
    if policy and before.keys() != after.keys():
        changed = ", ".join(sorted(before.keys() ^ after.keys()))
        return f"rollout.policy {policy} shifts traffic between variants of the same names, and {changed} would come or go: give rollout.policy=all-at-once for this update."
    for name, count in retained(new).items():
        if name in _shadows(new) & before.keys() and count != before[name]["InitialInstanceCount"]:
            return f"variants: SageMaker keeps the instances of the shadow {name} over an update, and count would be {count}: give it another name."
    return ""


def _policy(endpoint: Mapping[str, Any]) -> str:
    """How traffic is shifted in parts, where it is."""
    settings = endpoint.get("DeploymentConfig", {})
    if "RollingUpdatePolicy" in settings:
        return "rolling"
    routing = settings.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    return str(routing.get("Type", "ALL_AT_ONCE")).lower().replace("all_at_once", "")


def _component(old: Templates, new: Templates) -> str:
    """An endpoint of inference components has a type for all of them, and copies that were placed by it."""
    before, after = variants(old), variants(new)
    if kind(old) != "of inference components":
        return ""
    for name in before.keys() & after.keys():
        if (was := types(before[name])) != (wanted := types(after[name])):
            return f"instance: {' '.join(was)} would be {' '.join(wanted)}, and copies of an inference component are placed by the type they were made for: {_ELSEWHERE}."
    return ""


def _components(templates: Templates) -> set[str]:
    found = _resources(templates, "SageMaker::InferenceComponent").values()
    return {each["InferenceComponentName"] for each in found}


def _data(old: Templates, new: Templates) -> str:
    for part in old.keys() & new.keys():
        left = new[part]["Resources"].keys()
        for id, resource in old[part]["Resources"].items():
            kept = resource.get("DeletionPolicy", "Delete").startswith("Retain")
            if id in left or kept or resource["Type"] not in _HOLD:
                continue
            what, option = _HOLD[resource["Type"]]
            return f"{option}: the deployment's own {what} would be deleted, and with it what it holds or encrypts: deploy once as it is with removal=retain, which keeps the {what}, and then change it."
    return ""


def _network(old: Templates, new: Templates) -> str:
    before, after = old.get("network"), new.get("network")
    if not before or not after:
        return ""
    made, wanted = (_has(each, "AWS::EC2::VPC") for each in (before, after))
    if made != wanted:
        return "network.vpc: the VPC and the endpoint of the runtime in another one are made by the same stack: change network.vpc without network.endpoints first, and then give or leave them out."
    used = json.dumps(before.get("Outputs", {}))
    for id, resource in before["Resources"].items():
        fixed = _FIXED.get(resource["Type"], ()) if f'"{id}"' in used else ()
        other = after["Resources"].get(id, {"Properties": {}})["Properties"]
        if any(resource["Properties"].get(each) != other.get(each) for each in fixed):
            return f"network.zones and network.cidr: instances stand in the subnets, which divide the VPC's addresses among the zones: {_ELSEWHERE}."
    return ""


def _has(template: Template, kind: str) -> bool:
    return any(resource["Type"] == kind for resource in template["Resources"].values())


def _identities(old: Templates, new: Templates) -> str:
    """Another version of this package may call by another logical id what has the same name."""
    known = {name: id for id, name in _named(old)}
    for id, name in _named(new):
        if known.get(name, id) != id:
            return f"{name[1]} ({name[0]}) was made by another version of sagerank, which this one cannot take over: {_ELSEWHERE}."
    return ""


def _named(templates: Templates) -> Iterator[tuple[str, tuple[str, str]]]:
    for part, template in templates.items():
        for id, resource in template["Resources"].items():
            name = resource.get("Properties", {}).get(_NAMES.get(resource["Type"], ""))
            if isinstance(name, str):
                yield f"{part}/{id}", (resource["Type"], name)


def _imports(old: Templates, new: Templates) -> str:
    """Stacks of versions before 0.7 import what others export."""
    imported = {name for template in old.values() for name in _import_names(template)}
    for part, template in old.items():
        kept = _exports(new[part]) if part in new else _exports(template)
        for name, value in _exports(template).items():
            if name in imported and kept.get(name) != value:
                return f"{name} is imported by a stack of an earlier version: deploy once with the options that it has, which loosens that, and then change them."
    return ""


def _exports(template: Template) -> dict[str, str]:
    return {
        each["Export"]["Name"]: json.dumps(each["Value"], sort_keys=True)
        for each in template.get("Outputs", {}).values()
        if "Export" in each
    }


def _import_names(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(name := node.get("Fn::ImportValue"), str):
            yield name
        for each in node.values():
            yield from _import_names(each)
    elif isinstance(node, list):
        for each in node:
            yield from _import_names(each)


def _unscaled(old: Templates, new: Templates) -> bool:
    """AWS refuses an update that changes what a registered target scales: the instances of a variant, or its warm concurrency."""
    before, after, name = variants(old), variants(new), _endpoint(old).get("EndpointName")
    targets = {
        each["ResourceId"] for each in _resources(old, "ApplicationAutoScaling::ScalableTarget").values()
    }
    return any(
        f"endpoint/{name}/variant/{variant}" in targets
        and (
            variant not in after
            or types(before[variant]) != types(after[variant])
            or _warm(before[variant]) > _warm(after[variant]) == 0
        )
        for variant in before
    )


def _warm(variant: Mapping[str, Any]) -> int:
    return int(variant.get("ServerlessConfig", {}).get("ProvisionedConcurrency", 0))


def retained(new: Templates) -> dict[str, int]:
    """The counts of variants that nothing scales, beside one that is: SageMaker retains all or none, so that no update sets them."""
    if not _endpoint(new).get("RetainAllVariantProperties"):
        return {}
    scaled = {
        each["ResourceId"].rpartition("/")[2]
        for each in _resources(new, "ApplicationAutoScaling::ScalableTarget").values()
    }
    return {
        name: variant["InitialInstanceCount"]
        for name, variant in variants(new).items()
        if name not in scaled
        and "InitialInstanceCount" in variant
        and "ManagedInstanceScaling" not in variant
    }


def _shadows(templates: Templates) -> set[str]:
    return {each["VariantName"] for each in _configuration(templates).get("ShadowProductionVariants", ())}


def variants(templates: Templates) -> dict[str, Mapping[str, Any]]:
    """The variants of the endpoint by name, shadows too."""
    configuration = _configuration(templates)
    lists = (configuration.get(key, ()) for key in ("ProductionVariants", "ShadowProductionVariants"))
    return {each["VariantName"]: each for variants in lists for each in variants}


def types(variant: Mapping[str, Any]) -> list[str]:
    """The instance types that a variant may have, the first one first; none in serverless."""
    pools = sorted(variant.get("InstancePools", ()), key=lambda pool: pool["Priority"])
    found = [pool["InstanceType"] for pool in pools]
    return found or ([variant["InstanceType"]] if "InstanceType" in variant else [])


def _endpoint(templates: Templates) -> Mapping[str, Any]:
    return next(iter(_resources(templates, "SageMaker::Endpoint").values()), {})


def _configuration(templates: Templates) -> Mapping[str, Any]:
    return next(iter(_resources(templates, "SageMaker::EndpointConfig").values()), {})


def _resources(templates: Templates, kind: str) -> Named:
    return {
        id: resource["Properties"]
        for id, resource in templates.get("endpoint", {}).get("Resources", {}).items()
        if resource["Type"] == f"AWS::{kind}"
    }
