"""How an update reaches the traffic, and the alarms that take it back."""

from __future__ import annotations

import pytest
from aws_cdk.assertions import Match

from sagerank_infra import estimate, metrics

from .conftest import ALARM, COMPONENT, ENDPOINT, stacks, variant


def test_latency_is_compared_in_microseconds() -> None:
    found = stacks("realtime", alarms__p99_ms="1500")
    found["endpoint"].has_resource_properties(
        ALARM, {"MetricName": "ModelLatency", "ExtendedStatistic": "p99", "Threshold": 1_500_000}
    )


def test_expected_traffic_does_not_raise_the_latency_alarm() -> None:
    """A larger model on the same machine is slower by its nature, and must not take its own updates back."""

    def limit(**options: str) -> float:
        found = stacks("realtime", **options)
        (alarm,) = [
            a["Properties"]
            for a in found.resources(ALARM)
            if a["Properties"]["AlarmName"] == "sagerank-p99-latency"
        ]
        assert alarm["Threshold"] >= 3e6 * estimate._pace(found.config, "alarms.p99_ms").high - 1e5
        return float(alarm["Threshold"])

    assert limit(model="base") > 5 * limit()
    assert limit(traffic__documents="1") == 2_000_000


def test_golden_pairs_are_read_from_the_servers_log() -> None:
    found = stacks("realtime")
    found["endpoint"].has_resource_properties(
        "AWS::Logs::MetricFilter",
        {
            "FilterPattern": Match.string_like_regexp('event = "drifted"'),
            "MetricTransformations": [Match.object_like({"MetricName": "GoldenFailures"})],
        },
    )
    found["endpoint"].has_resource_properties(
        ALARM, {"MetricName": "GoldenFailures", "Namespace": metrics.namespace(found.config)}
    )
    groups = [
        g["Properties"].get("LogGroupName") for g in stacks("scale-to-zero").resources("AWS::Logs::LogGroup")
    ]
    assert "/aws/sagemaker/InferenceComponents/sagerank-component" in groups


SIZES = {"all-at-once": {}, "canary": {"CanarySize": 50}, "linear": {"LinearStepSize": 50}, "rolling": {}}


@pytest.mark.parametrize(
    ("mode", "policy"),
    [("serverless", "all-at-once"), *((mode, policy) for mode in ("realtime", "async") for policy in SIZES)],
)
def test_an_update_is_watched_and_taken_back(mode: str, policy: str) -> None:
    fleet = {} if mode == "serverless" else {"autoscaling__min": "2"}
    found = stacks(mode, rollout__policy=policy, rollout__wait_seconds="120", **fleet)
    settings = found.one(ENDPOINT)["DeploymentConfig"]
    alarms = {
        id
        for id, alarm in found.named(ALARM)
        if id in found.templates["endpoint"]["Resources"]
        and "waiting" not in alarm["Properties"]["AlarmName"]
    }
    assert {each["AlarmName"]["Ref"] for each in settings["AutoRollbackConfiguration"]["Alarms"]} == alarms
    assert len(alarms) == 3
    if policy == "rolling":
        update = settings["RollingUpdatePolicy"]
        assert update["MaximumBatchSize"] == {"Type": "CAPACITY_PERCENT", "Value": 50}
        assert update["WaitIntervalInSeconds"] == 120
    else:
        update = settings["BlueGreenUpdatePolicy"]
        routing = update["TrafficRoutingConfiguration"]
        assert (routing["Type"], routing["WaitIntervalInSeconds"]) == (policy.replace("-", "_").upper(), 120)
        for name, value in SIZES[policy].items():
            assert routing[name] == {"Type": "CAPACITY_PERCENT", "Value": value}
        assert update["TerminationWaitInSeconds"] == 120
    assert update["MaximumExecutionTimeoutInSeconds"] == 3600


def test_a_request_in_the_queue_may_take_as_long_as_it_may() -> None:
    """Its size is its own: of 100 documents or of a gigabyte. What fails at its timeout is late at half of it."""

    def limit(name: str, **options: str) -> float:
        (alarm,) = [
            each["Properties"]
            for each in stacks(name, **options).resources(ALARM)
            if each["Properties"]["AlarmName"].endswith("-p99-latency")
        ]
        return float(alarm["Threshold"]) / 1e6

    assert limit("async") == 450
    assert limit("async", asynchronous__timeout_seconds="3600") == 1800
    assert limit("async", alarms__p99_ms="7000") == limit("realtime", alarms__p99_ms="7000") == 7
    assert limit("realtime") < 60


def test_the_other_modes_are_updated_as_aws_can() -> None:
    assert "DeploymentConfig" not in stacks("marketplace").one(ENDPOINT)
    assert "DeploymentConfig" not in stacks("scale-to-zero").one(ENDPOINT)
    settings = stacks("scale-to-zero").one(COMPONENT)["DeploymentConfig"]
    assert settings["RollingUpdatePolicy"]["MaximumBatchSize"] == {"Type": "COPY_COUNT", "Value": 1}
    assert len(settings["AutoRollbackConfiguration"]["Alarms"]) == 3
    assert (
        "AutoRollbackConfiguration"
        not in stacks("realtime", rollout__rollback="false").one(ENDPOINT)["DeploymentConfig"]
    )


def test_prod_starts_with_a_canary_of_one_instance_of_two() -> None:
    found = stacks("realtime", "prod")
    assert variant(found)["InitialInstanceCount"] == 2
    routing = found.one(ENDPOINT)["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert (routing["Type"], routing["CanarySize"]["Value"]) == ("CANARY", 50)
