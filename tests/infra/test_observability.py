"""Alarms and the dashboard."""

from __future__ import annotations

import json

import pytest

from .conftest import ALARM, ENDPOINTS, stacks


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_alarm_is_heard(name: str) -> None:
    found = stacks(name)
    by_name = {alarm["Properties"]["AlarmName"]: alarm["Properties"] for alarm in found.resources(ALARM)}
    wanted = {"p99-latency", "5xx-errors"}
    if name != "marketplace":
        wanted.add("golden-pairs")
    if name != "serverless":
        wanted |= {"memoryutilization", "diskutilization"}
    if name in ("gpu", "marketplace"):
        wanted.add("gpumemoryutilization")
    if name in ("realtime", "graviton", "gpu", "marketplace"):
        wanted.add("idle")
    if name == "async":
        wanted.add("queue")
    silent = {"waiting-at-zero"} if name in ("async", "scale-to-zero") else set()
    assert {each.removeprefix("sagerank-") for each in by_name} == wanted | silent
    for each in wanted:
        assert "Topic" in json.dumps(by_name[f"sagerank-{each}"]["AlarmActions"])


@pytest.mark.parametrize("name", ENDPOINTS)
def test_nothing_looks_at_a_metric_the_mode_does_not_emit(name: str) -> None:
    text = json.dumps(stacks(name).templates)
    absent = {
        "async": [
            "OverheadLatency",
            '"Invocations"',
            r"\"Invocations\"",
            '"InvocationsPerInstance',
            "VariantInvocationsPerInstance",
        ],
        "serverless": ["InvocationsPerInstance", "CPUUtilization", "Backlog"],
        "scale-to-zero": ["InvocationsPerInstance", "Backlog"],
    }.get(name, ["Backlog", "PerCopy", "ModelSetupTime", "NoCapacity"])
    assert not [metric for metric in absent if metric in text]
    if name == "scale-to-zero":
        dimensions = [
            a["Properties"]["Dimensions"]
            for a in stacks(name).resources(ALARM)
            if a["Properties"].get("Namespace") == "AWS/SageMaker"
        ]
        assert all(
            each == [{"Name": "InferenceComponentName", "Value": "sagerank-component"}] for each in dimensions
        )


@pytest.mark.parametrize(
    ("name", "options", "in_use"),
    [
        ("gpu", {}, 1),
        ("gpu", {"instance": "ml.g5.12xlarge"}, 1),  # of four: our server has one process on one GPU
        ("scale-to-zero", {"instance": "ml.g5.12xlarge"}, 4),  # a copy has one, and copies fill them
        ("marketplace", {"instance": "ml.g5.12xlarge"}, 4),  # the seller's container may use them all
    ],
)
def test_a_share_of_gpu_memory_is_of_the_gpus_in_use(name: str, options: dict[str, str], in_use: int) -> None:
    """CloudWatch adds the GPUs of an instance up, and its vCPUs: four make 400 %."""
    found = stacks(name, **options, alarms__utilisation="80")
    (alarm,) = [
        each["Properties"]
        for each in found.resources(ALARM)
        if each["Properties"].get("MetricName") == "GPUMemoryUtilization"
    ]
    assert alarm["Threshold"] == 80 * in_use
    (memory,) = [
        each["Properties"]
        for each in found.resources(ALARM)
        if each["Properties"].get("MetricName") == "MemoryUtilization"
    ]
    assert memory["Threshold"] == 80
    board = json.dumps(found.one("AWS::CloudWatch::Dashboard"))
    vcpus = {"ml.g5.12xlarge": 48}.get(found.config.instance, 4)
    assert f"cpuutilization / {vcpus}" in board
    assert ("gpumemoryutilization / 4" in board) == (in_use == 4)


def test_the_idle_alarm_fires_on_silence() -> None:
    found = stacks("realtime", alarms__idle_hours="6")
    found["observability"].has_resource_properties(
        ALARM,
        {
            "AlarmName": "sagerank-idle",
            "TreatMissingData": "breaching",
            "EvaluationPeriods": 6,
            "Period": 3600,
            "ComparisonOperator": "LessThanThreshold",
        },
    )
    names = [
        a["Properties"]["AlarmName"] for a in stacks("realtime", alarms__idle_hours="0").resources(ALARM)
    ]
    assert "sagerank-idle" not in names


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_dashboard_shows_what_the_mode_has(name: str) -> None:
    text = json.dumps(stacks(name).one("AWS::CloudWatch::Dashboard"))
    shown = ["Latency", "Requests and errors"]
    shown += [] if name == "serverless" else ["Utilisation"]
    shown += [] if name == "marketplace" else ["padding saved", "tokens/s", "Cost an hour"]
    assert not [title for title in shown if title not in text]
    assert ("Queue depth" in text) == (name == "async")
    assert ("GPUUtilization" in text) == (name in ("gpu", "marketplace"))
    assert ("cold start" in text) == (name == "serverless")
