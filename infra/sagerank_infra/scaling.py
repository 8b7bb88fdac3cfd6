"""Autoscaling on the metric that the mode emits."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from . import estimate, metrics
from .config import DeployConfig
from .modes import VARIANT
from .standing import scales

_SERVICE_ROLE = "aws-service-role/sagemaker.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"


def scale(
    scope: Construct, config: DeployConfig, scaled: sagemaker.CfnEndpoint | sagemaker.CfnInferenceComponent
) -> None:
    """Scale the endpoint or its component, unless its fleet is fixed, or it is on-demand serverless."""
    wanted, traits, tracking = config.autoscaling, config.traits, config.traits.tracking
    if not scales(config):
        return
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
        if traits.components
        else f"endpoint/{config.name}/variant/{VARIANT}",
        scalable_dimension=f"sagemaker:{tracking.dimension}",
        min_capacity=wanted.min,
        max_capacity=wanted.max,
    )
    target.node.add_dependency(scaled)
    target.scale_to_track_metric(
        tracking.id,
        target_value=wanted.target or tracking.target or estimate.tracked(config),
        custom_metric=metrics.queue(config, tracking.metric, "Average") if traits.queued else None,
        predefined_metric=None if traits.queued else scaling.PredefinedMetric[tracking.metric],
        scale_in_cooldown=cdk.Duration.seconds(wanted.scale_in_seconds),
        scale_out_cooldown=cdk.Duration.seconds(wanted.scale_out_seconds),
    )
    if wanted.min == 0:
        # The tracked metric does not exist at zero instances, so the way up from there is a step of its own.
        metric = metrics.queue if traits.queued else metrics.invocation
        statistic = "Maximum" if traits.queued else "Sum"
        _from_zero(scope, config, target, metric(config, tracking.at_zero, statistic))
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
        alarm_name=metrics.alarm_name(config, "waiting-at-zero"),
        alarm_description="Requests wait or fail because there is no instance: starts the first",
        metric=metric,
        threshold=1,
        evaluation_periods=1,
        comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        treat_missing_data=cloudwatch.TreatMissingData.MISSING,
    ).add_alarm_action(actions.ApplicationScalingAction(step))
