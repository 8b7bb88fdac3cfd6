"""What AWS refuses of an update, in the words of templates and of SageMaker's API, which are the same; an empty text where it is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Properties = Mapping[str, Any]


def update(
    old: Properties, new: Properties, deployment: Properties | None, targets: Iterable[str], endpoint: str
) -> str:
    """UpdateEndpoint from one endpoint configuration to another; targets: resource ids that are registered for scaling."""
    was, wanted = _kind(old), _kind(new)
    # docs.aws.amazon.com/sagemaker: serverless-endpoints-update; sagemaker-python-sdk#3124; terraform-provider-aws#40644.
    if wanted == "serverless" and was != "serverless":
        return f"Endpoint {endpoint} cannot be updated from instances to a serverless configuration."
    if "async" in (was, wanted) and was != wanted:
        verb = "removed from" if was == "async" else "added to"
        return f"The AsyncInferenceConfig parameter cannot be {verb} this endpoint {endpoint}."
    if "components" in (was, wanted) and was != wanted:
        return f"Inference Components are not supported in this Endpoint {endpoint}."
    before, after = _variants(old), _variants(new)
    for name in before.keys() & after.keys():
        if _types(before[name]) != _types(after[name]) and f"endpoint/{endpoint}/variant/{name}" in targets:
            return f"The variant {name} of endpoint {endpoint} is registered as a scalable target: deregister it before its instance type is changed."
    if _shifts(deployment) and before.keys() != after.keys():
        return f"Variant names {sorted(after)} differ from those of endpoint {endpoint}, which {_shifts(deployment)} does not support."
    return waits(deployment)


def waits(deployment: Properties | None) -> str:
    """Of a DeploymentConfig: what it waits in all must be less than what it may take."""
    policy = (deployment or {}).get("BlueGreenUpdatePolicy") or (deployment or {}).get("RollingUpdatePolicy")
    if not policy:
        return ""
    routing = policy.get("TrafficRoutingConfiguration", policy)
    size = routing.get("LinearStepSize") or policy.get("MaximumBatchSize")
    # Of a capacity that is not known here, a number of instances is one step.
    steps = -(-100 // size["Value"]) if size and size["Type"] == "CAPACITY_PERCENT" else 1
    total = steps * routing["WaitIntervalInSeconds"] + policy.get("TerminationWaitInSeconds", 0)
    limit = policy.get("MaximumExecutionTimeoutInSeconds", 28_800)
    return (
        ""
        if total < limit
        else f"MaximumExecutionTimeoutInSeconds {limit} must be larger than the total waiting time, {total}."
    )


def _kind(configuration: Properties) -> str:
    variant = configuration["ProductionVariants"][0]
    if "ServerlessConfig" in variant:
        return "serverless"
    if configuration.get("AsyncInferenceConfig"):
        return "async"
    return "instances" if "ModelName" in variant else "components"


def _variants(configuration: Properties) -> dict[str, Properties]:
    every = (configuration.get(key) or () for key in ("ProductionVariants", "ShadowProductionVariants"))
    return {variant["VariantName"]: variant for variants in every for variant in variants}


def _types(variant: Properties) -> set[str]:
    pools = {pool["InstanceType"] for pool in variant.get("InstancePools") or ()}
    return pools or {variant.get("InstanceType", "serverless")}


def _shifts(deployment: Properties | None) -> str:
    """The policy that moves traffic in parts, where one does."""
    if (deployment or {}).get("RollingUpdatePolicy"):
        return "ROLLING"
    routing = (deployment or {}).get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    return "" if routing.get("Type", "ALL_AT_ONCE") == "ALL_AT_ONCE" else str(routing["Type"])


def export(stack: str, old: Properties, new: Properties, others: Mapping[str, Properties]) -> str:
    """UpdateStack with a template that lacks, or gives another value to, an export that another stack imports."""
    kept = dict(exports(new))
    for name, value in exports(old):
        users = [other for other, template in others.items() if other != stack and name in imports(template)]
        if users and kept.get(name) != value:
            what = "updated" if name in kept else "deleted"
            return f"Export {name} cannot be {what} as it is in use by {' and '.join(users)}"
    return ""


def exports(template: Properties) -> Iterator[tuple[str, str]]:
    """The names that a template exports, with what makes the value."""
    for output in (template.get("Outputs") or {}).values():
        if "Export" in output:
            yield output["Export"]["Name"], json.dumps(output["Value"], sort_keys=True)


def imports(node: Any) -> set[str]:
    """The names that a template imports."""
    if isinstance(node, Mapping):
        own = {node["Fn::ImportValue"]} if isinstance(node.get("Fn::ImportValue"), str) else set()
        return own.union(*map(imports, node.values()))
    return set().union(*map(imports, node)) if isinstance(node, list) else set()
