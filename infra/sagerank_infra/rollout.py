"""How an update reaches the traffic, and the alarms that take it back."""

from __future__ import annotations

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from . import estimate, metrics
from .config import DeployConfig

_ROUTING = {"all-at-once": "ALL_AT_ONCE", "canary": "CANARY", "linear": "LINEAR"}


def rollback_alarms(
    scope: Construct, config: DeployConfig, log_group: logs.ILogGroup
) -> list[cloudwatch.Alarm]:
    """Alarms on p99 latency, 5xx answers and golden pairs. They are made before the endpoint, which names them."""

    def alarm(
        id: str, metric: cloudwatch.IMetric, name: str, *, threshold: float, periods: int = 1
    ) -> cloudwatch.Alarm:
        where = f"component {metrics.component(config)}" if config.component else f"endpoint {config.name}"
        named, text = metrics.alarm_name(config, name), f"{name} of {where}"
        return metrics.alarm(scope, id, metric, name=named, text=text, threshold=threshold, periods=periods)

    latency = metrics.worst(config, "MAX", "ModelLatency", "p99")
    errors = metrics.worst(config, "SUM", "Invocation5XXErrors", "Sum", minutes=5)
    microseconds = 1000 * (config.alarms.p99_ms or estimate.latency_limit_ms(config))
    found = [
        alarm("Latency", latency, "p99-latency", threshold=microseconds, periods=3),
        alarm("Errors", errors, "5xx-errors", threshold=config.alarms.errors),
    ]
    if config.own_server:
        # The server checks its golden pairs while idle and says `drifted` when they score otherwise.
        logs.MetricFilter(
            scope,
            "GoldenFilter",
            log_group=log_group,
            filter_pattern=logs.FilterPattern.any(
                logs.FilterPattern.string_value("$.event", "=", "drifted"),
                logs.FilterPattern.string_value("$.event", "=", "failed"),
            ),
            metric_namespace=metrics.namespace(config),
            metric_name="GoldenFailures",
            metric_value="1",
        )
        failures = metrics.logged(config, "GoldenFailures", "Sum")
        found.append(alarm("Golden", failures, "golden-pairs", threshold=1))
    return found


def deployment(
    config: DeployConfig, alarms: list[cloudwatch.Alarm]
) -> sagemaker.CfnEndpoint.DeploymentConfigProperty | None:
    """How an update is shifted and taken back, or None where AWS has no guardrails.

    It ignores them for Marketplace containers, and inference components have their own.
    """
    if not config.traits.own_container or config.traits.components:
        return None
    rollout = config.rollout
    rollback = (
        sagemaker.CfnEndpoint.AutoRollbackConfigProperty(
            alarms=[sagemaker.CfnEndpoint.AlarmProperty(alarm_name=alarm.alarm_name) for alarm in alarms]
        )
        if rollout.rollback
        else None
    )
    size = sagemaker.CfnEndpoint.CapacitySizeProperty(
        type="CAPACITY_PERCENT", value=rollout.step(config.autoscaling.min)
    )
    if rollout.policy == "rolling":
        return sagemaker.CfnEndpoint.DeploymentConfigProperty(
            auto_rollback_configuration=rollback,
            rolling_update_policy=sagemaker.CfnEndpoint.RollingUpdatePolicyProperty(
                maximum_batch_size=size,
                rollback_maximum_batch_size=sagemaker.CfnEndpoint.CapacitySizeProperty(
                    type="CAPACITY_PERCENT", value=100
                ),
                wait_interval_in_seconds=rollout.wait_seconds,
                maximum_execution_timeout_in_seconds=rollout.timeout_seconds,
            ),
        )
    return sagemaker.CfnEndpoint.DeploymentConfigProperty(
        auto_rollback_configuration=rollback,
        blue_green_update_policy=sagemaker.CfnEndpoint.BlueGreenUpdatePolicyProperty(
            traffic_routing_configuration=sagemaker.CfnEndpoint.TrafficRoutingConfigProperty(
                type=_ROUTING[rollout.policy],
                canary_size=size if rollout.policy == "canary" else None,
                linear_step_size=size if rollout.policy == "linear" else None,
                wait_interval_in_seconds=rollout.wait_seconds,
            ),
            termination_wait_in_seconds=rollout.termination_seconds,
            maximum_execution_timeout_in_seconds=rollout.timeout_seconds,
        ),
    )


def component_deployment(
    config: DeployConfig, alarms: list[cloudwatch.Alarm]
) -> sagemaker.CfnInferenceComponent.InferenceComponentDeploymentConfigProperty:
    """Replace copies of an inference component one after another."""
    component, rollout = sagemaker.CfnInferenceComponent, config.rollout
    return component.InferenceComponentDeploymentConfigProperty(
        auto_rollback_configuration=component.AutoRollbackConfigurationProperty(
            alarms=[component.AlarmProperty(alarm_name=alarm.alarm_name) for alarm in alarms]
        )
        if rollout.rollback
        else None,
        rolling_update_policy=component.InferenceComponentRollingUpdatePolicyProperty(
            maximum_batch_size=component.InferenceComponentCapacitySizeProperty(type="COPY_COUNT", value=1),
            wait_interval_in_seconds=rollout.wait_seconds,
            maximum_execution_timeout_in_seconds=rollout.timeout_seconds,
        ),
    )
