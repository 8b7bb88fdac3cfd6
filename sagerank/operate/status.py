"""`sagerank status`: one screen about an endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from . import OperateError, stacks
from .account import Account
from .endpoint import Endpoint, describe
from .idle import hourly
from .unscaled import is_off


@dataclass(frozen=True, slots=True)
class Scaling:
    """The bounds and policies of one scalable target."""

    resource: str  # endpoint/NAME/variant/VARIANT or inference-component/NAME
    least: int
    most: int
    policies: tuple[str, ...]  # metric and target


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What one screen shows."""

    endpoint: Endpoint
    wanted: str  # the configuration that its stack made
    stacks: dict[str, str]
    scaling: tuple[Scaling, ...]
    alarms: dict[str, str]  # name -> state
    usd_per_hour: Decimal | None
    estimate: str  # of the month's cost, as the stack states it
    activation: str  # the command without which its budget counts nothing; empty where it has none
    unscaled: bool = False  # by an update that did not come to its end

    @property
    def rolled_back(self) -> bool:
        return bool(self.wanted) and self.wanted != self.endpoint.config


def status(account: Account, name: str) -> Status:
    """Gather what is known of a deployment. Raises OperateError where there is neither endpoint nor stack."""
    from sagerank_cost.catalogue import Catalogue

    deployed = stacks.find(account, name)
    try:
        endpoint = describe(account, name)
    except OperateError as error:
        if not deployed:
            raise
        states = ", ".join(f"{stack.name} {stack.status}" for stack in deployed.values())
        raise OperateError(
            f"{error} Its stacks exist: {states}. Mode batch has no endpoint; else see the stacks' events."
        ) from None
    made = [resource for stack in deployed.values() for resource in stacks.resources_of(account, stack)]
    configs = stacks.names(made, "AWS::SageMaker::EndpointConfig")
    alarms = stacks.names(made, "AWS::CloudWatch::Alarm")
    price, _ = hourly(endpoint, account.region, Catalogue())
    outputs = deployed["observability"].outputs if "observability" in deployed else {}
    return Status(
        endpoint=endpoint,
        wanted=configs[0] if configs else "",
        stacks={part: stack.status for part, stack in deployed.items()},
        scaling=tuple(_scaling(account, endpoint)),
        alarms=_states(account, alarms),
        usd_per_hour=price,
        estimate=outputs.get("EstimatedMonthlyCost", ""),
        unscaled="endpoint" in deployed and is_off(stacks.template_of(account, deployed["endpoint"])),
        activation=outputs.get("BudgetActivation", ""),
    )


def _states(account: Account, alarms: list[str]) -> dict[str, str]:
    if not alarms:
        return {}  # an empty list would mean all of the account's
    metric_alarms = account.pages("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNames=alarms[:100])
    return {alarm["AlarmName"]: alarm["StateValue"] for alarm in metric_alarms}


def _scaled(endpoint: Endpoint) -> list[str]:
    """Resource ids that Application Auto Scaling may know the endpoint by."""
    variants = [f"endpoint/{endpoint.name}/variant/{variant.name}" for variant in endpoint.variants]
    return [*variants, *(f"inference-component/{part.name}" for part in endpoint.components)]


def _scaling(account: Account, endpoint: Endpoint) -> list[Scaling]:
    arguments: dict[str, Any] = {"ServiceNamespace": "sagemaker", "ResourceIds": _scaled(endpoint)}
    scalings = []
    for target in account.pages(
        "application-autoscaling", "describe_scalable_targets", "ScalableTargets", **arguments
    ):
        policies = account.pages(
            "application-autoscaling",
            "describe_scaling_policies",
            "ScalingPolicies",
            ServiceNamespace="sagemaker",
            ResourceId=target["ResourceId"],
        )
        scalings.append(
            Scaling(
                target["ResourceId"],
                target["MinCapacity"],
                target["MaxCapacity"],
                tuple(_policy(policy) for policy in policies),
            )
        )
    return scalings


def _policy(policy: dict[str, Any]) -> str:
    tracked = policy.get("TargetTrackingScalingPolicyConfiguration")
    if not tracked:
        return f"step: {policy['PolicyName']}"
    metric = tracked.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType") or tracked.get(
        "CustomizedMetricSpecification", {}
    ).get("MetricName", "a metric")
    return f"{metric} at {tracked['TargetValue']:g}"
