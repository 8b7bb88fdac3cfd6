"""Queueing theory: who waits how long, and how many instances stand, without drawing a single request."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Autoscaling as SageMaker does it: alarms of 3 and 15 minutes, and an instance that takes about 5 to serve.
SCALE_OUT_MINUTES, SCALE_IN_MINUTES, START_MINUTES = 3, 15, 5


def provisioned(wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Instances that run, over a repeating period: there when wanted, and kept for 15 quiet minutes after."""
    if (wanted == wanted[0]).all():
        return wanted
    early = SCALE_OUT_MINUTES + START_MINUTES
    window, span, most = early + SCALE_IN_MINUTES + 1, 1, wanted
    while span < window:  # the maximum of the `span` minutes up to each
        step = min(span, window - span)
        most, span = np.maximum(most, np.roll(most, step)), span + step
    return np.roll(most, -early)


def busiest(
    running: NDArray[np.float64], load: NDArray[np.float64], seconds: float, variation: float
) -> tuple[float, float]:
    """What `wait` gives for the minute whose mean wait is the longest; for every number of instances, the highest load counts."""
    waits = [
        wait(int(count), float(load[running == count].max()), seconds, variation)
        for count in np.unique(running)
    ]
    return max(waits, key=lambda item: item[0] * item[1])


def wait(servers: int, load: float, seconds: float, variation: float) -> tuple[float, float]:
    """The share of requests that wait, and the mean seconds that those wait, at a utilisation `load` below 1 of so many servers.

    Erlang's C, and the Pollaczek-Khinchine factor for the variation of service times. Exact for exponential times, and in
    the mean for one server; otherwise Lee and Longton's approximation.
    """
    return erlang_c(servers, load), seconds * (1 + variation**2) / 2 / (servers * (1 - load))


def erlang_c(servers: int, load: float) -> float:
    """The share of requests that wait, at a utilisation `load` below 1 of so many servers."""
    offered, blocked = servers * load, 1.0
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return blocked / (1 - load * (1 - blocked))
