"""Autoscaling against its rules."""

from __future__ import annotations

import numpy as np
import pytest

from sagerank_cost import CostError
from sagerank_cost.autoscale import follow_backlog, track_target
from sagerank_cost.traffic import MINUTES_PER_DAY

from .conftest import poisson


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
    serving, billed = follow_backlog(arrived, arrived.astype(np.float64), 1.0, least=0, most=5)
    assert billed[:51].max() == 0
    assert billed[51] == 1
    assert int(np.flatnonzero(serving)[0]) == 56
    assert serving[-1] == billed[-1] == 0
    with pytest.raises(CostError, match="give 0 or more"):
        follow_backlog(arrived, arrived.astype(np.float64), 1.0, least=-1, most=5)


def test_a_component_wakes_with_the_first_request_and_goes_fifteen_minutes_after_it_came() -> None:
    arrived = np.zeros(100, np.int64)
    arrived[50] = 1
    serving, billed = track_target(arrived, 100.0, least=0, most=5)
    assert int(np.flatnonzero(billed)[0]) == 51
    assert int(np.flatnonzero(serving)[0]) == 56
    assert int(serving.sum()) == 15


@pytest.mark.parametrize(("rate", "seconds"), [(1.0, 17.0), (1.0, 4.0), (5.0, 3.0), (0.5, 2.5)])
def test_a_queue_of_minutes_does_not_swing_between_nothing_and_the_most(rate: float, seconds: float) -> None:
    arrived, _ = poisson(rate, 4 * MINUTES_PER_DAY)
    _, billed = follow_backlog(arrived, seconds * arrived.astype(np.float64), seconds, least=0, most=100)
    settled, needed = billed[MINUTES_PER_DAY:], rate * seconds
    assert settled.mean() < 1.1 * max(1.0, needed) + 0.5
    assert settled.max() <= 1.5 * needed + 2
