"""Autoscaling on the metric that the mode emits."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from . import estimate, metrics
from .config import DeployConfig

_VARIANT_METRIC = scaling.PredefinedMetric.SAGEMAKER_VARIANT_INVOCATIONS_PER_INSTANCE
_COPY_METRIC = scaling.PredefinedMetric.SAGEMAKER_INFERENCE_COMPONENT_INVOCATIONS_PER_COPY
_WARM_METRIC = scaling.PredefinedMetric.SAGEMAKER_VARIANT_PROVISIONED_CONCURRENCY_UTILIZATION
_SERVICE_ROLE = "aws-service-role/sagemaker.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"


def scale(
    scope: Construct, config: DeployConfig, scaled: sagemaker.CfnEndpoint | sagemaker.CfnInferenceComponent
) -> None:
    """Nothing where there is nothing to scale: a fixed fleet, or on-demand serverless."""
    wanted = config.autoscaling
    serverless = config.mode == "serverless"
    if (wanted.min == wanted.max and not wanted.schedules) or (
        serverless and not config.serverless.provisioned
    ):
        return
    by_copy = config.mode == "scale-to-zero"
    # Application Auto Scaling acts for SageMaker by its own service-linked role only.
    role = cdk.Stack.of(scope).format_arn(
        service="iam", region="", resource="role", resource_name=_SERVICE_ROLE
    )
    target = scaling.ScalableTarget(
        scope,
        "Scaling",
        role=iam.Role.from_role_arn(scope, "ScalingRole", role, mutable=False),
        service_namespace=scaling.ServiceNamespace.SAGEMAKER,
        resource_id=f"inference-component/{metrics.component(config)}"
        if by_copy
        else f"endpoint/{config.name}/variant/{metrics.VARIANT}",
        scalable_dimension="sagemaker:inference-component:DesiredCopyCount"
        if by_copy
        else f"sagemaker:variant:Desired{'ProvisionedConcurrency' if serverless else 'InstanceCount'}",
        min_capacity=wanted.min,
        max_capacity=min(wanted.max, config.serverless.max_concurrency) if serverless else wanted.max,
    )
    target.node.add_dependency(scaled)
    cooldowns: dict[str, Any] = {
        "scale_in_cooldown": cdk.Duration.seconds(wanted.scale_in_seconds),
        "scale_out_cooldown": cdk.Duration.seconds(wanted.scale_out_seconds),
    }
    if config.mode == "async":
        # Requests wait in a queue: its length an instance says what is missing. At zero instances the quotient does not
        # exist, so the way up from zero is a step of its own.
        target.scale_to_track_metric(
            "Backlog",
            target_value=wanted.target or 5.0,
            custom_metric=metrics.queue(config, "ApproximateBacklogSizePerInstance", "Average"),
            **cooldowns,
        )
        if wanted.min == 0:
            _from_zero(scope, config, target, metrics.queue(config, "HasBacklogWithoutCapacity", "Maximum"))
    elif serverless:
        target.scale_to_track_metric(
            "Warm", target_value=wanted.target or 0.7, predefined_metric=_WARM_METRIC, **cooldowns
        )
    else:
        rate = wanted.target or estimate.invocations_per_minute(config)
        target.scale_to_track_metric(
            "Invocations",
            target_value=rate,
            predefined_metric=_COPY_METRIC if by_copy else _VARIANT_METRIC,
            **cooldowns,
        )
        if by_copy and wanted.min == 0:
            _from_zero(
                scope, config, target, metrics.invocation(config, "NoCapacityInvocationFailures", "Sum")
            )
    for action in wanted.schedules:
        target.scale_on_schedule(
            action.name,
            schedule=scaling.Schedule.expression(action.cron),
            time_zone=cdk.TimeZone.of(action.timezone),
            min_capacity=action.min,
            max_capacity=action.max,
        )


def _from_zero(
    scope: Construct, config: DeployConfig, target: scaling.ScalableTarget, metric: cloudwatch.Metric
) -> None:
    step = scaling.StepScalingAction(
        scope,
        "FromZero",
        scaling_target=target,
        adjustment_type=scaling.AdjustmentType.CHANGE_IN_CAPACITY,
        metric_aggregation_type=scaling.MetricAggregationType.MAXIMUM,
        cooldown=cdk.Duration.seconds(config.autoscaling.scale_out_seconds),
    )
    step.add_adjustment(adjustment=1, lower_bound=0)
    cloudwatch.Alarm(
        scope,
        "Waiting",
        alarm_name=f"{config.name}-waiting-at-zero",
        alarm_description="Requests wait or fail because there is no instance: starts the first",
        metric=metric,
        threshold=1,
        evaluation_periods=1,
        comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        treat_missing_data=cloudwatch.TreatMissingData.MISSING,
    ).add_alarm_action(actions.ApplicationScalingAction(step))
