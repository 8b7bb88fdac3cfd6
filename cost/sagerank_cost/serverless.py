"""A serverless endpoint: each request has a worker of its own, cold where none is warm, and none beyond the limit."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from . import CostError
from .formulas import KEEP_WARM_MINUTES
from .queueing import MINUTE, Counts, Latencies, Work

_BLOCK = 500_000  # requests in memory at once
_ROUNDS = 16

Times = NDArray[np.float64]
Flags = NDArray[np.bool_]


def serve_workers(
    arrived: Counts,
    work: Work,
    latencies: Latencies,
    generator: np.random.Generator,
    *,
    concurrency: int,
    cold_start: float,
) -> tuple[Counts, float, int, int]:
    """Return the most workers busy at once in every minute [minutes], seconds of processing, cold starts, requests refused.

    The worker that was busy last takes the next request, so the n-th worker is warm while n were busy at once within the
    last minutes. Whether a request is cold or refused depends on those before it only: all are taken for warm, and
    the consequences drawn again and again until nothing changes, which is then the one consistent course of events.
    """
    if concurrency < 1:
        raise CostError(f"A concurrency of {concurrency} serves nothing: give at least 1.")
    course = _Course(np.zeros(len(arrived), np.int64), np.empty(0), concurrency, cold_start)
    busy = 0.0
    cold_starts = refusals = 0
    minutes = max(KEEP_WARM_MINUTES, int(_BLOCK * len(arrived) / max(1, int(arrived.sum()))))
    for begin in range(0, len(arrived), minutes):
        counts = arrived[begin : begin + minutes]
        if not counts.sum():
            continue
        minute = np.repeat(np.arange(begin, begin + len(counts)), counts)
        times = np.sort(minute * MINUTE + generator.random(len(minute)) * MINUTE)
        seconds = work.draw(generator, len(times)).astype(np.float64)
        cold, taken = course.rounds(minute, times, seconds) or course.one_by_one(minute, times, seconds)
        latencies.add((seconds + cold * cold_start)[taken].astype(np.float32))
        busy += float(seconds[taken].sum())
        cold_starts += int(cold.sum())
        refusals += int((~taken).sum())
        ends = np.concatenate([course.ends, (times + seconds + cold * cold_start)[taken]])
        course.ends = np.sort(ends[ends > (begin + len(counts)) * MINUTE])
    return course.levels, busy, cold_starts, refusals


@dataclass(slots=True)
class _Course:
    """The most workers busy at once in the minutes so far (`levels`), and when those now busy will be done (`ends`)."""

    levels: Counts
    ends: Times
    concurrency: int
    cold_start: float

    def rounds(self, minute: Counts, times: Times, seconds: Times) -> tuple[Flags, Flags] | None:
        """Which requests of whole minutes are cold, and which are taken; None where that is not settled soon, as under overload."""
        begin, count = int(minute[0]), int(minute[-1] - minute[0]) + 1
        cold, taken = np.zeros(len(times), bool), np.ones(len(times), bool)
        for _ in range(_ROUNDS):
            departures = np.sort(
                np.concatenate([self.ends, (times + seconds + cold * self.cold_start)[taken]])
            )
            before = len(self.ends) + np.cumsum(taken) - taken
            level = before - np.searchsorted(departures, times, "right") + 1
            fits = level <= self.concurrency
            peaks = np.zeros(count, np.int64)
            np.maximum.at(peaks, minute[fits] - begin, level[fits])
            self.levels[begin : begin + count] = peaks
            warm = _warm(self.levels, begin, count)[minute - begin]
            # The highest level so far within the minute: what the minute's earlier requests have warmed.
            shifted = minute * (self.concurrency + 1)
            reached = np.maximum.accumulate(np.where(fits, level, 0) + shifted)
            so_far = np.concatenate([[0], np.maximum(reached[:-1] - shifted[1:], 0)])
            now_cold = fits & (level > np.maximum(warm, so_far))
            if (now_cold == cold).all() and (fits == taken).all():
                return cold, taken
            cold, taken = now_cold, fits
        return None

    def one_by_one(self, minute: Counts, times: Times, seconds: Times) -> tuple[Flags, Flags]:
        """What `rounds` returns, for any load."""
        cold, taken = np.zeros(len(times), bool), np.zeros(len(times), bool)
        self.levels[int(minute[0]) : int(minute[-1]) + 1] = 0
        busy = self.ends.tolist()
        heapify(busy)
        warm, current = 0, -1
        for index, (now, time, work) in enumerate(
            zip(minute.tolist(), times.tolist(), seconds.tolist(), strict=True)
        ):
            if now != current:
                warm, current = int(self.levels[max(0, now - KEEP_WARM_MINUTES) : now].max(initial=0)), now
            while busy and busy[0] <= time:
                heappop(busy)
            level = len(busy) + 1
            if level > self.concurrency:
                continue
            taken[index], cold[index] = True, level > warm
            warm = max(warm, level)
            self.levels[now] = max(self.levels[now], level)
            heappush(busy, time + work + (self.cold_start if cold[index] else 0.0))
        return cold, taken


def _warm(levels: Counts, begin: int, count: int) -> Counts:
    """For every minute from `begin`, the highest level of the minutes before it in which a worker stays warm."""
    padded = np.concatenate([np.zeros(KEEP_WARM_MINUTES, np.int64), levels[: begin + count]])
    window = np.lib.stride_tricks.sliding_window_view(padded, KEEP_WARM_MINUTES)
    return np.asarray(window[begin : begin + count].max(axis=1))
