"""How many instances serve, and are billed, in each minute: Application Auto Scaling's rules for SageMaker variants.

Alarms look at minutes: three in a row above the target scale out, fifteen in a row below nine tenths of it scale in. The
new number is what the metric says would meet the target. A new instance takes minutes until it serves, and is billed from
its start; what has gone in blocks the next step in for the cooldown. (Application Auto Scaling user guide: target
tracking scaling policies; cooldown of SageMaker variants: 300 s by default.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from . import CostError
from .formulas import QUEUE_SECONDS, SCALE_IN_MINUTES, SCALE_OUT_MINUTES, START_MINUTES
from .queueing import MINUTE, Counts, Seconds

COOLDOWN_MINUTES = 10


def track_target(arrivals: Counts, target: float, *, least: int, most: int) -> tuple[Counts, Counts]:
    """Instances that serve and that are billed in every minute, so that one has `target` invocations a minute.

    From zero, one starts as soon as somebody asks. Raises CostError for bounds that make no sense.
    """
    _check(least, most)
    first = min(most, max(least, math.ceil(float(arrivals[0]) / target)))

    def metric(minute: int, serving: int) -> float:
        came = float(arrivals[minute])
        return came / serving if serving else math.inf if came else 0.0

    return _scale(metric, target, arrivals, first=first, least=least, most=most)


def follow_backlog(
    arrivals: Counts, brought: Seconds, seconds: float, *, least: int, most: int
) -> tuple[Counts, Counts]:
    """Instances that serve, and that are billed, in every minute of an endpoint that follows its backlog.

    Arrivals bring seconds of work, `brought` [minutes], and `seconds` each on average. The target is QUEUE_SECONDS of it an instance. From zero, one starts as soon as something waits;
    after 15 idle minutes `least` remain. Raises CostError for bounds that make no sense.
    """
    _check(least, most)
    backlog = 0.0  # requests that wait at the end of the minute, as their work is that of so many

    def metric(minute: int, serving: int) -> float:
        nonlocal backlog
        backlog = max(0.0, backlog + (float(brought[minute]) - serving * MINUTE) / seconds)
        if not serving:
            return math.inf if backlog else 0.0
        under_way = min(serving, float(arrivals[minute]) * seconds / MINUTE)
        return (backlog + under_way) / serving

    target = QUEUE_SECONDS / seconds
    return _scale(metric, target, arrivals, first=least, least=least, most=most)


def _check(least: int, most: int) -> None:
    if least < 0 or most < max(1, least):
        raise CostError(
            f"{least} to {most} instances: give 0 or more as the lower bound, and an upper bound of 1 or more that is not below it."
        )


def _scale(
    metric: Callable[[int, int], float], target: float, arrivals: Counts, *, first: int, least: int, most: int
) -> tuple[Counts, Counts]:
    """Instances that serve and that are billed, from `first` on, where `metric(minute, serving)` is a value per instance.

    The metric is infinite where there is no instance and one is needed.
    """
    serving, billed = np.zeros_like(arrivals), np.zeros_like(arrivals)
    running = first
    starting: list[tuple[int, int]] = []  # minute from which they serve, and how many
    high = low = quiet_until = 0
    for minute in range(len(arrivals)):
        running += sum(count for ready, count in starting if ready <= minute)
        starting = [(ready, count) for ready, count in starting if ready > minute]
        coming = sum(count for _, count in starting)
        serving[minute], billed[minute] = running, running + coming
        value = metric(minute, running)
        high = high + 1 if value > target else 0
        low = low + 1 if running and value < 0.9 * target else 0
        if math.isinf(value):
            wanted = 1
        elif high >= SCALE_OUT_MINUTES or low >= SCALE_IN_MINUTES:
            wanted = math.ceil(running * value / target)
        else:
            continue
        wanted = min(most, max(least, wanted))
        if wanted > running + coming:
            starting.append((minute + 1 + START_MINUTES, wanted - running - coming))
        elif wanted < running and low >= SCALE_IN_MINUTES and not coming and minute >= quiet_until:
            running, quiet_until = wanted, minute + 1 + COOLDOWN_MINUTES
    return serving, billed
