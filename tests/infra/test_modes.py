"""The table of modes: an example and a price for every one, and no two facts that contradict."""

from __future__ import annotations

import pytest
from aws_cdk import aws_applicationautoscaling as scaling

from sagerank_cost.bill import MODES as BILLED
from sagerank_infra.config import json_schema
from sagerank_infra.modes import MODES

from .synth import EXAMPLES, example


def test_every_mode_of_the_configuration_has_a_record_and_an_example() -> None:
    assert set(json_schema()["properties"]["mode"]["enum"]) == MODES.keys()
    assert {example(name).mode for name in EXAMPLES} == MODES.keys()
    assert set(BILLED) == MODES.keys()


@pytest.mark.parametrize("name", MODES)
def test_no_two_facts_contradict(name: str) -> None:
    mode, tracking = MODES[name], MODES[name].tracking
    assert mode.instances or not (mode.components or mode.scales_to_zero or mode.staged), (
        "these have instances"
    )
    assert mode.endpoint or not (mode.queued or mode.components or mode.staged), "a job has none of these"
    assert mode.in_s3 == (mode.queued or not mode.endpoint), "nothing else takes more time than a connection"
    assert mode.in_s3 == (mode.max_seconds > 60)
    assert mode.staged or not mode.variants, "traffic is shifted between variants"
    assert bool(tracking.at_zero) == (mode.endpoint and mode.scales_to_zero)
    assert mode.queued or hasattr(scaling.PredefinedMetric, tracking.metric), (
        "a queue's metric is a custom one"
    )
