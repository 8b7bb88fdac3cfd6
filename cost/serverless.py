"""A serverless endpoint: each request has a worker of its own, cold where none is warm, and none beyond the limit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import CostError
from .queueing import MINUTE, Counts, Latencies, Work

# How long SageMaker keeps an idle worker is not published; users report minutes.
KEEP_WARM_MINUTES = 10
_BLOCK = 500_000  # requests in memory at once


def serve_workers(
    arrived: Counts,
    work: Work,
    latencies: Latencies,
    generator: np.random.Generator,
    *,
    concurrency: int,
    cold_start: float,
) -> tuple[Counts, float, int, int]:
    """(workers busy at once at most in each minute, seconds of processing, cold starts, requests refused).

    The worker that was busy last takes the next request, so the n-th worker is warm while n were busy at once within the
    last minutes. Whether a request is cold or refused depends on those before it only: all are taken for warm, and
    the consequences drawn again and again until nothing changes, which is then the one consistent course of events.
    """
    if concurrency < 1:
        raise CostError(f"A concurrency of {concurrency} serves nothing: give at least 1.")
    levels = np.zeros(len(arrived), np.int64)
    busy = 0.0
    cold_starts = refusals = 0
    ends: NDArray[np.float64] = np.empty(0)
    minutes = max(KEEP_WARM_MINUTES, int(_BLOCK * len(arrived) / max(1, int(arrived.sum()))))
    for begin in range(0, len(arrived), minutes):
        counts = arrived[begin : begin + minutes]
        if not counts.sum():
            continue
        minute = np.repeat(np.arange(len(counts)), counts)
        times = np.sort((begin + minute) * MINUTE + generator.random(len(minute)) * MINUTE)
        seconds = work.draw(generator, len(times)).astype(np.float64)
        cold = np.zeros(len(times), bool)
        taken = np.ones(len(times), bool)
        while True:
            departures = np.sort(np.concatenate([ends, (times + seconds + cold * cold_start)[taken]]))
            before = len(ends) + np.cumsum(taken) - taken
            level = before - np.searchsorted(departures, times, "right") + 1
            fits = level <= concurrency
            peaks = np.zeros(len(counts), np.int64)
            np.maximum.at(peaks, minute[fits], level[fits])
            levels[begin : begin + len(counts)] = peaks
            warm = _warm(levels, begin, len(counts))[minute]
            # The highest level so far within the minute: what the minute's earlier requests have warmed.
            shifted = minute * (concurrency + 1)
            reached = np.maximum.accumulate(np.where(fits, level, 0) + shifted)
            so_far = np.concatenate([[0], np.maximum(reached[:-1] - shifted[1:], 0)])
            now_cold = fits & (level > np.maximum(warm, so_far))
            if (now_cold == cold).all() and (fits == taken).all():
                break
            cold, taken = now_cold, fits
        latencies.add((seconds + cold * cold_start)[taken].astype(np.float32))
        busy += float(seconds[taken].sum())
        cold_starts += int(cold.sum())
        refusals += int((~taken).sum())
        ends = departures[departures > (begin + len(counts)) * MINUTE]
    return levels, busy, cold_starts, refusals


def _warm(levels: Counts, begin: int, count: int) -> Counts:
    """For each minute from `begin`, the highest level of the minutes before it in which a worker stays warm."""
    padded = np.concatenate([np.zeros(KEEP_WARM_MINUTES, np.int64), levels[: begin + count]])
    window = np.lib.stride_tricks.sliding_window_view(padded, KEEP_WARM_MINUTES)
    return np.asarray(window[begin : begin + count].max(axis=1))
