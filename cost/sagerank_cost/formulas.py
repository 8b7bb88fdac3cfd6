"""How many instances stand in a minute, who waits how long and who starts a worker: without drawing a single request.

Where simulate.py goes from one minute to the next, everything here is an expression over all minutes at once, in which more
requests never mean fewer instances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Autoscaling as SageMaker does it: alarms of 3 and 15 minutes, and an instance that takes about 5 to serve.
SCALE_OUT_MINUTES, SCALE_IN_MINUTES, START_MINUTES = 3, 15, 5
# How long SageMaker keeps an idle serverless worker is not published; users report minutes.
KEEP_WARM_MINUTES = 10
# Asynchronous endpoints are scaled to so much queued work an instance. It has to be longer than a new instance takes to come: with
# less, what piles up meanwhile asks for many times too many, and those go again before the next are asked for.
QUEUE_SECONDS = 600.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Wait:
    """A share of the requests: each waits `fixed` seconds, then with the probability `waits` exponentially longer, `mean` seconds."""

    share: float
    fixed: float = 0.0
    waits: float = 0.0
    mean: float = 0.0

    def longest(self, tail: float) -> float:
        """Seconds that less than the share `tail` of these waits longer than."""
        return self.fixed + self.mean * math.log(max(1.0, self.waits / tail))

    def late(self, rest: Floats) -> Floats:
        """The probability that one waits more than `rest` seconds [any shape]."""
        left = rest - self.fixed
        later = self.waits * np.exp(-np.maximum(left, 0) / max(self.mean, 1e-12))
        return np.where(left < 0, 1.0, later)


class Counts:
    """How many requests come in every minute [minutes], and what alarms look at: the least of three, the most of fifteen."""

    def __init__(self, counts: Floats) -> None:
        self.each = counts
        self.steadily = _window(counts, SCALE_OUT_MINUTES, np.minimum)
        self.lately = _window(counts, SCALE_IN_MINUTES, np.maximum)
        self.asked = _window(self.steadily, SCALE_IN_MINUTES, np.maximum)


def fleet(counts: Counts, target: float, *, least: int) -> tuple[Floats, Floats]:
    """Instances that serve, and that are billed, in every minute [minutes], where each is to have `target` requests a minute.

    The n-th instance is asked for when three minutes in a row bring more than n - 1 can take. It goes when in fifteen in a row it was
    not asked for, they stayed below nine tenths of what n can take, and the last needs fewer. It begins as if the first minute had always been.
    """
    serving = np.full(len(counts.each), float(least))
    billed = serving.copy()
    minutes = np.arange(len(counts.each))
    for level in range(least + 1, int(np.ceil(counts.steadily.max() / target - 1e-9)) + 1):
        wanted = counts.steadily > (level - 1) * target
        needless = np.maximum(counts.asked, counts.each) <= (level - 1) * target
        spare = needless & (counts.lately < 0.9 * level * target)
        begun = np.maximum.accumulate(np.where(wanted, minutes, -1))
        ended = np.maximum.accumulate(np.where(spare, minutes, -2))
        here = begun > ended
        here[1:], first = here[:-1].copy(), bool(here[0])  # what a minute decides is there from the next on
        # Since when it has been there: that long ago it was asked for, and it serves START_MINUTES after.
        since = minutes - np.maximum.accumulate(np.where(here, -1, minutes))
        billed += here
        serving += here & ((since > START_MINUTES) | (first & here.cumprod().astype(bool)))
    return serving, billed


def _window(values: Floats, width: int, best: np.ufunc) -> Floats:
    """The least or greatest of each minute and the `width - 1` before it, as if the first had always been."""
    padded = np.concatenate([np.full(width - 1, values[0]), values])
    found: Floats = best.reduce(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
    return found


def lag(rates: Floats, serving: Floats, seconds: float) -> Floats:
    """Seconds that a request waits for those before it, in minutes [minutes] in which more come than instances can take."""
    work = np.cumsum(rates * seconds / np.maximum(serving, 1) * 60 - 60)
    before: Floats = work - np.minimum(np.minimum.accumulate(work), 0)
    return before


def there(rates: Floats) -> tuple[Floats, Floats, Floats]:
    """For instances that may go to zero, the share of time with one; of requests, those that start one, and those that come meanwhile.

    A cycle: a request at zero starts an instance, which serves after what is left of the minute and START_MINUTES; after
    SCALE_IN_MINUTES it goes with the first minute that brings nothing; and zero lasts until the next request.
    """
    each = np.maximum(rates * 60, 1e-12)
    up = START_MINUTES + SCALE_IN_MINUTES + np.expm1(np.minimum(each, 50))
    cycle = up + 0.5 + 1 / each
    first = 1 / (each * cycle)
    return up / cycle, first, (0.5 + START_MINUTES) / cycle


def cold_starts(rates: Floats, seconds: float, start: float) -> Floats:
    """The share of serverless requests, in every minute, that start a worker, which takes `start` seconds.

    Requests come at random, and the worker that was busy last takes the next: the n-th is cold for a request that finds n - 1
    busy, unless that happened within KEEP_WARM_MINUTES before. How many are busy is Poisson-distributed.
    """
    share = np.zeros_like(rates)
    for _ in range(4):  # cold ones are busy for longer
        busy = rates * (seconds + share * start)
        level = np.exp(-busy)  # the probability that `count` are busy
        share = np.zeros_like(rates)
        for count in range(int(busy.max() + 8 * np.sqrt(busy.max()) + 10)):
            share += level * np.exp(-rates * level * 60 * KEEP_WARM_MINUTES)
            level = level * busy / (count + 1)
    return np.minimum(share, 1.0)


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
