"""Autoscaling of an endpoint that the SDK made: the SDK has none, so it is Application Auto Scaling's own API."""

from __future__ import annotations

from typing import Any

import boto3

from sagerank_infra.config import ConfigError, DeployConfig
from sagerank_infra.estimate import tracked
from sagerank_infra.modes import VARIANT

from .options import default_session


def autoscale(config: DeployConfig, *, session: boto3.Session | None = None) -> float:
    """Let the endpoint's fleet follow its load between autoscaling.min and max; return the value that it holds.

    The metric is the one that the mode emits; the value is autoscaling.target, or follows from the estimated speed.
    """
    wanted, tracking = config.autoscaling, config.traits.tracking
    if not config.traits.endpoint or (not config.traits.instances and not config.serverless.provisioned):
        raise ConfigError(
            f"mode is {config.mode!r}, which scales by itself: in serverless, give serverless.provisioned to scale that."
        )
    value = wanted.target or tracking.target or tracked(config)
    client, where = _client(config, session), _where(config)
    client.register_scalable_target(**where, MinCapacity=wanted.min, MaxCapacity=wanted.max)
    client.put_scaling_policy(
        **where,
        PolicyName=f"{config.name}-{tracking.id}",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": value,
            "ScaleInCooldown": wanted.scale_in_seconds,
            "ScaleOutCooldown": wanted.scale_out_seconds,
            **_metric(config),
        },
    )
    return value


def stop_scaling(config: DeployConfig, *, session: boto3.Session | None = None) -> None:
    """Undo `autoscale`, where it was done."""
    client, where = _client(config, session), _where(config)
    asked = {"ServiceNamespace": where["ServiceNamespace"], "ResourceIds": [where["ResourceId"]]}
    if client.describe_scalable_targets(**asked)["ScalableTargets"]:
        client.deregister_scalable_target(**where)


def _client(config: DeployConfig, session: boto3.Session | None) -> Any:
    own = session or default_session(config.region)
    return own.client("application-autoscaling", region_name=config.region)


def _where(config: DeployConfig) -> dict[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{config.name}/variant/{VARIANT}",
        "ScalableDimension": f"sagemaker:{config.traits.tracking.dimension}",
    }


def _metric(config: DeployConfig) -> dict[str, Any]:
    tracking = config.traits.tracking
    if not config.traits.queued:
        name = tracking.metric.title().replace("_", "").replace("Sagemaker", "SageMaker")
        return {"PredefinedMetricSpecification": {"PredefinedMetricType": name}}
    return {
        "CustomizedMetricSpecification": {
            "MetricName": tracking.metric,
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": config.name}],
            "Statistic": "Average",
        }
    }
