"""Autoscaling against its rules."""

from __future__ import annotations

import numpy as np
import pytest

from sagerank_cost import CostError
from sagerank_cost.autoscale import follow_backlog, track_target


def test_out_after_three_minutes_and_serving_five_later() -> None:
    arrived = np.array([100] * 10 + [250] * 30)
    serving, billed = track_target(arrived, 100.0, least=1, most=10)
    first = int(np.flatnonzero(billed > 1)[0])
    assert first == 10 + 3  # the third minute above the target is over
    assert billed[first] == 3
    assert int(np.flatnonzero(serving > 1)[0]) == first + 5
    assert serving.max() == billed.max() == 3


def test_in_after_fifteen_minutes_and_never_below_the_least() -> None:
    arrived = np.array([300] * 20 + [10] * 60)
    serving, _ = track_target(arrived, 100.0, least=2, most=10)
    assert serving[0] == 3
    assert int(np.flatnonzero(serving < 3)[0]) == 20 + 15
    assert serving.min() == 2


def test_steady_traffic_within_the_band_changes_nothing() -> None:
    serving, billed = track_target(np.full(500, 290), 100.0, least=1, most=10)
    assert set(serving.tolist()) == set(billed.tolist()) == {3}


def test_a_queue_wakes_an_endpoint_and_lets_it_sleep() -> None:
    arrived = np.zeros(200, np.int64)
    arrived[50:55] = 20
    serving, billed = follow_backlog(arrived, 1.0, least=0, most=5)
    assert billed[:51].max() == 0
    assert billed[51] == 1
    assert int(np.flatnonzero(serving)[0]) == 56
    assert serving[-1] == billed[-1] == 0
    with pytest.raises(CostError, match="give 0 or more"):
        follow_backlog(arrived, 1.0, least=-1, most=5)
