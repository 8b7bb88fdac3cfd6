"""What a security reviewer looks at first: read from the templates, but for what only options say, such as whose a key is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagerank_infra.config import DeployConfig

    from .cdk import Assembly


def posture(config: DeployConfig, assembly: Assembly) -> dict[str, str]:
    """Identities, keys, network, what is kept and who is told, each as a line of words."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for template in assembly.templates.values():
        for resource in template["Resources"].values():
            found.setdefault(resource["Type"].removeprefix("AWS::"), []).append(resource)
    return {
        "roles": _roles(config, found.get("IAM::Role", [])),
        "boundary": _boundary(found.get("IAM::Role", [])),
        "key": _key(config, found.get("KMS::Key", [])),
        "network": _network(config, found),
        "capture": _capture(config, found.get("SageMaker::EndpointConfig", [])),
        "data": _data(config, found.get("S3::Bucket", [])),
        "artefact": _artefact(config, found.get("SageMaker::Model", [])),
        "removal": "; ".join(_removal(config, found)),
        "alarms_to": ", ".join(config.alarms.email) or "their topic, which nobody reads yet",
    }


def _roles(config: DeployConfig, roles: list[Mapping[str, Any]]) -> str:
    own = [f"{config.role}, yours and not changed, for sagemaker"] if config.role else []
    return "; ".join([*own, *map(_role, roles)])


def _role(role: Mapping[str, Any]) -> str:
    """A role of the stacks: who may take it on, and what for."""
    (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    principal = statement["Principal"].get("Service", statement["Principal"])
    who = (principal if isinstance(principal, str) else json.dumps(principal)).partition(".")[0]
    text = role["Properties"].get("Description", "")
    return f"new, for {who}{f' ({text})' if text else ''}"


def _boundary(roles: list[Mapping[str, Any]]) -> str:
    found = {each["Properties"].get("PermissionsBoundary", "none") for each in roles}
    count = f"{len(roles)} role{'s' * (len(roles) != 1)}"
    return f"{', '.join(sorted(found))}, on {count}" if found != {"none"} else "none"


def _key(config: DeployConfig, keys: list[Mapping[str, Any]]) -> str:
    own = config.encryption.artefact_key
    artefact = f"; the artefact's is {own}" if own else ""
    if keys:
        rotates = all(each["Properties"].get("EnableKeyRotation") for each in keys)
        return f"new{', rotated every year' if rotates else ', not rotated'}{artefact}"
    mine = config.encryption.key != "aws"
    return f"{config.encryption.key if mine else 'keys of AWS'}{', yours' if mine else ''}{artefact}"


def _network(config: DeployConfig, found: Mapping[str, list[Any]]) -> str:
    models = found.get("SageMaker::Model", [])
    isolated = all(each["Properties"].get("EnableNetworkIsolation") for each in models)
    inside = any("VpcConfig" in each["Properties"] for each in models)
    where = "no VPC"
    if inside:
        ways = [kind for kind in ("InternetGateway", "NatGateway") if f"EC2::{kind}" in found]
        new = f"a new VPC {'with ' + ', '.join(ways) if ways else 'without a way to the internet'}"
        where = new if "EC2::VPC" in found else config.network.vpc
    return f"{where}; the container {'reaches nothing (network isolation)' if isolated else 'has no network isolation'}"


def _capture(config: DeployConfig, configurations: list[Mapping[str, Any]]) -> str:
    for each in configurations:
        capture = each["Properties"].get("DataCaptureConfig", {})
        if capture.get("EnableCapture"):
            return f"{capture['InitialSamplingPercentage']} % of requests and answers, in the data bucket for {config.capture.days} days"
    return "none: no request or answer is kept" if not config.traits.in_s3 else "none"


def _data(config: DeployConfig, buckets: list[Mapping[str, Any]]) -> str:
    public = [each for each in buckets if not _closed(each["Properties"])]
    own = f"{len(buckets)} bucket{'s' * (len(buckets) != 1)} of its own, {'PUBLIC' if public else 'closed to the public'}"
    if config.traits.in_s3:
        days = config.asynchronous.days if config.mode == "async" else config.batch.days
        own += f", requests and answers for {days} days"
    elif not config.capture.percent:
        own += ", where nothing is put"
    others = {"reads": config.data.read, "writes": config.data.write, "keys": config.data.keys}
    return "; ".join([own, *(f"{verb} {', '.join(each)}" for verb, each in others.items() if each)])


def _closed(bucket: Mapping[str, Any]) -> bool:
    access = bucket.get("PublicAccessBlockConfiguration", {})
    return len(access) == 4 and all(access.values())


def _artefact(config: DeployConfig, models: list[Mapping[str, Any]]) -> str:
    if not config.traits.own_container:
        return f"of AWS Marketplace, {config.model_package}"
    containers = [each["Properties"]["PrimaryContainer"] for each in models]
    pinned = sum("SAGERANK_MANIFEST_SHA256" in each.get("Environment", {}) for each in containers)
    which = f"{pinned} of {len(models)}" if 0 < pinned < len(models) else "not" if not pinned else ""
    held = f"{which} pinned by SHA-256".strip()
    if pinned < len(models):
        held += " here: `deploy` pins what it can read in S3"
    image = {"dockerfile": "an image built here", "dlc": "an image of AWS"}.get(config.image, config.image)
    return f"{held}; {image}"


def _removal(config: DeployConfig, found: Mapping[str, list[Any]]) -> Iterator[str]:
    yield f"termination protection {'on' if config.termination_protection else 'off'}"
    kept = [
        kind.rpartition("::")[2]
        for kind, every in found.items()
        for each in every
        if each.get("DeletionPolicy", "").startswith("Retain")
    ]
    yield f"`destroy` keeps {', '.join(dict.fromkeys(kept)) or 'nothing'}"
