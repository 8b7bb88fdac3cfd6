"""The variants of an endpoint's configuration."""

from __future__ import annotations

import json

import pytest

from .conftest import ALARM, CONFIG, ENDPOINTS, MODEL, stacks, variant


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_variant_is_what_the_mode_needs(name: str) -> None:
    found, instance = variant(stacks(name)), stacks(name).config.instance
    if name == "serverless":
        assert found["ServerlessConfig"] == {"MaxConcurrency": 10, "MemorySizeInMB": 1024}
        assert not {"InstanceType", "InitialInstanceCount"} & set(found)
        return
    assert found["InstanceType"] == instance
    assert ("InferenceAmiVersion" in found) == (name in ("gpu", "marketplace"))
    assert ("ModelName" in found) == (name != "scale-to-zero")
    assert found.get("ManagedInstanceScaling") == (
        {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 4}
        if name == "scale-to-zero"
        else None
    )


def test_pools_fall_back_by_priority() -> None:
    found = variant(
        stacks(
            "realtime", pools='[{"instance": "ml.c6i.xlarge"}, {"instance": "ml.m7i.large", "priority": 3}]'
        )
    )
    assert found["InstancePools"] == [
        {"InstanceType": "ml.c7i.xlarge", "Priority": 1},
        {"InstanceType": "ml.c6i.xlarge", "Priority": 2},
        {"InstanceType": "ml.m7i.large", "Priority": 3},
    ]
    assert "InstanceType" not in found


def test_an_ab_test_splits_and_a_shadow_copies() -> None:
    other = '[{"name": "Challenger", "artefact": "s3://models/turbo.tar.gz", "weight": 0.25, "count": 2}]'
    found = stacks("realtime", variants=other)
    weights = {
        each["VariantName"]: each["InitialVariantWeight"] for each in found.one(CONFIG)["ProductionVariants"]
    }
    assert weights == {"AllTraffic": 1, "Challenger": 0.25}
    assert {each["Properties"]["PrimaryContainer"]["ModelDataUrl"] for each in found.resources(MODEL)} == {
        "s3://example-models/tiny/model.tar.gz",
        "s3://models/turbo.tar.gz",
    }
    # Either variant's failures take an update back.
    (alarm,) = [
        a["Properties"]
        for a in found.resources(ALARM)
        if a["Properties"]["AlarmName"] == "sagerank-5xx-errors"
    ]
    watched = json.dumps(alarm["Metrics"])
    assert "SUM([m0,m1])" in watched
    assert "AllTraffic" in watched
    assert "Challenger" in watched
    assert "Challenger: ml.c7i.xlarge hours" in found.outputs()["EstimatedMonthlyCost"]
    shadow = stacks("realtime", variants=other.replace('"count"', '"shadow": true, "count"')).one(CONFIG)
    assert [each["VariantName"] for each in shadow["ProductionVariants"]] == ["AllTraffic"]
    assert [each["VariantName"] for each in shadow["ShadowProductionVariants"]] == ["Challenger"]
