"""Autoscaling on the metric that the mode emits."""

from __future__ import annotations

import json

import pytest

from .conftest import ALARM, POLICY, TARGET, stacks, variant


@pytest.mark.parametrize(
    ("name", "dimension", "metric"),
    [
        ("realtime", "sagemaker:variant:DesiredInstanceCount", "SageMakerVariantInvocationsPerInstance"),
        ("gpu", "sagemaker:variant:DesiredInstanceCount", "SageMakerVariantInvocationsPerInstance"),
        (
            "scale-to-zero",
            "sagemaker:inference-component:DesiredCopyCount",
            "SageMakerInferenceComponentInvocationsPerCopy",
        ),
        ("async", "sagemaker:variant:DesiredInstanceCount", "ApproximateBacklogSizePerInstance"),
    ],
)
def test_scaling_follows_the_metric_the_mode_emits(name: str, dimension: str, metric: str) -> None:
    found = stacks(name)
    target = found.one(TARGET)
    assert (target["ScalableDimension"], target["MaxCapacity"]) == (dimension, 4)
    assert "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint" in json.dumps(target["RoleARN"])
    tracking = [
        p["Properties"]
        for p in found.resources(POLICY)
        if p["Properties"]["PolicyType"] == "TargetTrackingScaling"
    ]
    (settings,) = (each["TargetTrackingScalingPolicyConfiguration"] for each in tracking)
    assert f'"{metric}"' in json.dumps(settings)
    assert (settings["ScaleInCooldown"], settings["ScaleOutCooldown"]) == (600, 120)
    assert settings["TargetValue"] > 0


@pytest.mark.parametrize(
    ("name", "metric"),
    [("async", "HasBacklogWithoutCapacity"), ("scale-to-zero", "NoCapacityInvocationFailures")],
)
def test_the_way_up_from_zero_is_a_step(name: str, metric: str) -> None:
    found = stacks(name)
    assert found.one(TARGET)["MinCapacity"] == 0
    ((step_id, step),) = [
        (id, p) for id, p in found.named(POLICY) if p["Properties"]["PolicyType"] == "StepScaling"
    ]
    (adjustment,) = step["Properties"]["StepScalingPolicyConfiguration"]["StepAdjustments"]
    assert adjustment == {"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}
    (alarm,) = [
        a["Properties"] for a in found.resources(ALARM) if a["Properties"].get("MetricName") == metric
    ]
    assert alarm["AlarmActions"] == [{"Ref": step_id}]
    assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (1, 1)


def test_serverless_scales_its_warm_capacity_only() -> None:
    assert not stacks("serverless").resources(TARGET)
    found = stacks("serverless", serverless__provisioned="2", autoscaling__max="6")
    target = found.one(TARGET)
    assert target["ScalableDimension"] == "sagemaker:variant:DesiredProvisionedConcurrency"
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 6)
    assert "SageMakerVariantProvisionedConcurrencyUtilization" in json.dumps(found.one(POLICY))


@pytest.mark.parametrize("provisioned", ["1", "2", "5", "8", "10"])
def test_warm_capacity_stays_what_was_asked(provisioned: str) -> None:
    found = stacks("serverless", serverless__provisioned=provisioned)
    assert variant(found)["ServerlessConfig"]["ProvisionedConcurrency"] == int(provisioned)
    assert not found.resources(TARGET)
    night = '[{"name": "night", "cron": "cron(0 22 * * ? *)", "min": 1, "max": 1}]'
    scheduled = stacks("serverless", serverless__provisioned=provisioned, autoscaling__schedules=night)
    target = scheduled.one(TARGET)
    assert (target["MinCapacity"], target["MaxCapacity"]) == (int(provisioned), int(provisioned))


def test_a_fixed_fleet_is_not_scaled_and_schedules_are_kept() -> None:
    assert not stacks("realtime", autoscaling__max="1").resources(TARGET)
    night = (
        '[{"name": "night", "cron": "cron(0 22 * * ? *)", "timezone": "Europe/Berlin", "min": 1, "max": 2}]'
    )
    (action,) = stacks("realtime", autoscaling__schedules=night).one(TARGET)["ScheduledActions"]
    assert action["ScalableTargetAction"] == {"MinCapacity": 1, "MaxCapacity": 2}
    assert (action["Schedule"], action["Timezone"]) == ("cron(0 22 * * ? *)", "Europe/Berlin")


def test_the_target_follows_the_estimated_speed() -> None:
    def rate(**options: str) -> float:
        policy = stacks("realtime", **options).one(POLICY)["TargetTrackingScalingPolicyConfiguration"]
        return float(policy["TargetValue"])

    assert rate(instance="ml.c7i.4xlarge") > 3 * rate()
    assert rate(traffic__documents="50") == pytest.approx(2 * rate(), rel=0.1)
    assert rate(autoscaling__target="42") == 42
