"""One queue before several servers, first come first served, exact to the request and vectorised over minutes.

The state of such a queue is the sorted vector of times at which its servers become free; a request takes the first
and is inserted again (Kiefer and Wolfowitz, 1955). That recursion runs along the requests of a minute, and over
thousands of minutes at once: each begins as if all servers were idle. A minute in truth begins with what the one
before left. So its first requests are served again from there, and as soon as both states are equal, they stay so.
The few minutes that never forget their beginning, those of a backlog, are served one request at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapreplace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]
Seconds = NDArray[np.float64]

MINUTE = 60.0
# Requests of a minute that are served again from the true state before the minute counts as one with a backlog.
_PREFIX = 192
# Requests in memory at once, and minutes whose recursion runs at once.
_BLOCK, _LANES = 8_000_000, 2048


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds that requests take alone: their mean, and the relative sizes [n] of which every request draws one."""

    mean: float
    sizes: Floats = field(default_factory=lambda: np.ones(1, np.float32))

    def draw(self, generator: np.random.Generator, shape: int | tuple[int, ...]) -> Floats:
        if len(self.sizes) == 1:
            return np.full(shape, self.mean, np.float32)
        picked = generator.integers(len(self.sizes), size=shape, dtype=np.uint16)
        return (self.sizes * np.float32(self.mean))[picked]


class Latencies:
    """A histogram of seconds, in bins of float32's sign, exponent and first seven bits of fraction: 0.4 to 0.8 % wide."""

    def __init__(self) -> None:
        self.counts: Counts = np.zeros(1 << 16, np.int64)

    def add(self, seconds: Floats, zeros: int = 0) -> None:
        """Count all but so many zeros."""
        self.counts += np.bincount(seconds.view(np.uint32).ravel() >> 16, minlength=1 << 16)
        self.counts[0] -= zeros

    def quantile(self, share: float) -> float:
        """Seconds that a share of the requests stays below. 0 where nothing was counted."""
        total = int(self.counts.sum())
        if not total:
            return 0.0
        index = int(np.searchsorted(np.cumsum(self.counts), share * total))
        edges = np.array([index << 16, (index + 1) << 16], np.uint32).view(np.float32)
        return float(edges.mean())

    def above(self, seconds: float) -> int:
        """Requests that took longer, to the width of a bin."""
        return int(self.counts[(int(np.array([seconds], np.float32).view(np.uint32)[0]) >> 16) + 1 :].sum())


def serve(
    arrived: Counts, servers: Counts, work: Work, latencies: Latencies, generator: np.random.Generator
) -> tuple[float, float]:
    """Serve arrived[m] requests, at random times within minute m, by servers[m] >= 1 servers.

    Fills `latencies`; returns the sum of seconds waited and of seconds worked. What is left at the end is served.
    """
    waited = worked = 0.0
    before, free = int(servers[0]), np.zeros(int(servers.max()), np.float32)
    block = max(64, int(_BLOCK * len(arrived) / max(1, int(arrived.sum()))))
    for begin in range(0, len(arrived), block):
        part = _Block(arrived[begin : begin + block], servers[begin : begin + block], before, free)
        for lanes in part.lanes(work, generator):
            latencies.add(lanes.waits + lanes.work, lanes.padding)
            waited += float(lanes.waits.sum(dtype=np.float64))
            worked += float(lanes.work.sum(dtype=np.float64))
        before, free = int(servers[begin : begin + block][-1]), part.left[:, -1]
    return waited, worked


def serve_pooled(
    arrived: Counts, servers: Counts, work: Work, latencies: Latencies, generator: np.random.Generator
) -> tuple[float, float]:
    """Serve as `serve` does, where servers[m] may be 0 and what waits goes to whoever comes: a queue outside the instances.

    They are taken as one server of their joint speed: exact while there is one, and with more a wait is too short by at
    most one request's time. What is left at the end is served by one.
    """
    waited = worked = 0.0
    times = np.arange(len(arrived) + 1) * MINUTE
    capacity = np.concatenate([[0.0], np.cumsum(servers * MINUTE)])
    # Where nobody serves, the clock of capacity stands still; it must still rise for its inverse to exist.
    capacity += np.arange(len(capacity)) * 1e-9
    free = 0.0
    for _, arrivals, seconds in _drawn(arrived, work, generator):
        before = np.cumsum(seconds) - seconds
        # Lindley: a request begins when it is there and all before it are done.
        begins = before + np.maximum.accumulate(
            np.maximum(np.interp(arrivals, times, capacity), free) - before
        )
        free = float(begins[-1] + seconds[-1])
        # Not before somebody serves, where the clock of capacity hardly moves.
        starts = np.interp(begins + 1e-4, capacity, times)
        late = begins > capacity[-1]
        starts[late] = times[-1] + begins[late] - capacity[-1]
        waits = np.maximum(starts - arrivals, 0)
        latencies.add((waits + seconds).astype(np.float32))
        waited += float(waits.sum())
        worked += float(seconds.sum())
    return waited, worked


def work_by_minute(arrived: Counts, work: Work, generator: np.random.Generator) -> Seconds:
    """Seconds of work [minutes] that requests bring, as `serve_pooled` draws them from a generator in the same state."""
    brought = np.zeros(len(arrived))
    for minutes, _, seconds in _drawn(arrived, work, generator):
        brought += np.bincount(minutes, seconds, len(arrived))
    return brought


def _drawn(
    arrived: Counts, work: Work, generator: np.random.Generator
) -> Iterator[tuple[Counts, Seconds, Seconds]]:
    """Blocks of requests in the order of their coming: the minutes they come in, when, and their seconds."""
    block = max(64, int(_BLOCK * len(arrived) / max(1, int(arrived.sum()))))
    for begin in range(0, len(arrived), block):
        counts = arrived[begin : begin + block]
        minutes = np.repeat(np.arange(begin, begin + len(counts)), counts)
        times = np.sort(minutes * MINUTE + generator.random(len(minutes)) * MINUTE)
        if len(times):
            yield minutes, times, work.draw(generator, len(times)).astype(np.float64)


@dataclass(slots=True, kw_only=True)
class _Lanes:
    """Requests of minutes [requests, lanes], in seconds from the minute's start; shorter minutes are filled up."""

    minutes: Counts
    after: NDArray[np.bool_]
    arrivals: Floats
    work: Floats
    waits: Floats

    @property
    def padding(self) -> int:
        return int(np.count_nonzero(self.after))


class _Block:
    """Consecutive minutes, and the states left[servers, minutes] at their ends."""

    def __init__(self, arrived: Counts, servers: Counts, before: int, free: Floats) -> None:
        self._arrived, self._servers = arrived, servers
        self._before = np.concatenate([[before], servers[:-1]])
        self._free = free[:, None]
        self._indices = np.arange(len(free))[:, None]
        self.left = np.zeros((len(free), len(arrived)), np.float32)

    def lanes(self, work: Work, generator: np.random.Generator) -> list[_Lanes]:
        """Serve all requests, and return them."""
        order = np.argsort(self._arrived, kind="stable")  # minutes of about as many requests go together
        groups = [
            _draw(part, self._arrived[part], work, generator)
            for part in np.split(order, range(_LANES, len(order), _LANES))
        ]
        begun = np.where(self._indices < self._servers, np.float32(0), np.float32(np.inf))
        seen = np.empty_like(self.left)
        for lanes in groups:
            state = begun[:, lanes.minutes]
            _run(state, lanes, slice(0, _PREFIX))
            seen[:, lanes.minutes] = state
            _run(state, lanes, slice(_PREFIX, None))
            self.left[:, lanes.minutes] = state
        truly = self._starts(slice(None))
        forgot = np.zeros(len(self._arrived), bool)
        for lanes in groups:
            idle = lanes.waits[:_PREFIX].copy()
            state = truly[:, lanes.minutes]
            _run(state, lanes, slice(0, _PREFIX))
            same = (state == seen[:, lanes.minutes]).all(axis=0)
            forgot[lanes.minutes] = same
            lanes.waits[:_PREFIX, ~same] = idle[:, ~same]
        begun[:, forgot] = truly[:, forgot]
        self._repair(groups, begun)
        for lanes in groups:
            lanes.waits[lanes.after] = 0
        return groups

    def _starts(self, minutes: slice) -> Floats:
        """States in which minutes begin: servers added are idle, and those taken away are the busiest."""
        left = np.concatenate([self._free, self.left[:, :-1]], axis=1)[:, minutes]
        state = np.where(
            self._indices < self._before[minutes], np.maximum(left - np.float32(MINUTE), 0), np.float32(0)
        )
        state.sort(axis=0)
        state[self._indices >= self._servers[minutes]] = np.inf
        return state

    def _repair(self, groups: list[_Lanes], begun: Floats) -> None:
        """Serve again, in order and one request at a time, each minute that did not begin as the one before it ended."""
        wrong = (self._starts(slice(None)) != begun).any(axis=0)
        if not wrong.any():
            return
        where = {int(minute): (lanes, lane) for lanes in groups for lane, minute in enumerate(lanes.minutes)}
        for minute in range(len(wrong)):
            start = self._starts(slice(minute, minute + 1))[:, 0] if wrong[minute] else None
            if start is None or (start == begun[:, minute]).all():
                continue
            lanes, lane = where[minute]
            count = int(self._arrived[minute])
            heap = start[: self._servers[minute]].tolist()
            starts = []
            for arrival, seconds in zip(
                lanes.arrivals[:count, lane].tolist(), lanes.work[:count, lane].tolist(), strict=True
            ):
                begins = max(heap[0], arrival)
                heapreplace(heap, begins + seconds)
                starts.append(begins)
            lanes.waits[:count, lane] = np.array(starts, np.float32) - lanes.arrivals[:count, lane]
            self.left[: len(heap), minute] = sorted(heap)
            if minute + 1 < len(wrong):
                wrong[minute + 1] = True


def _draw(minutes: Counts, counts: Counts, work: Work, generator: np.random.Generator) -> _Lanes:
    """The requests of minutes: given their number, arrivals are uniform in time."""
    shape = (max(1, int(counts.max())), len(minutes))
    after = np.arange(shape[0])[:, None] >= counts
    times = generator.random(shape[::-1], np.float32) * np.float32(MINUTE)
    times[after.T] = np.inf
    times.sort(axis=1)
    arrivals = np.ascontiguousarray(times.T)
    seconds = work.draw(generator, shape)
    # What fills up a shorter minute changes no state: it comes before everything and takes no time.
    arrivals[after], seconds[after] = -np.inf, 0
    waits = np.empty(shape, np.float32)
    return _Lanes(minutes=minutes, after=after, arrivals=arrivals, work=seconds, waits=waits)


def _run(free: Floats, lanes: _Lanes, requests: slice) -> None:
    """The recursion: free[servers, lanes] goes on, and the waits of `requests` are filled in."""
    rows = list(free)
    done = np.empty(free.shape[1], np.float32)
    for arrival, seconds, wait in zip(
        lanes.arrivals[requests], lanes.work[requests], lanes.waits[requests], strict=True
    ):
        np.maximum(rows[0], arrival, out=wait)
        np.add(wait, seconds, out=done)
        for lower, upper in zip(rows, rows[1:], strict=False):
            np.minimum(upper, done, out=lower)
            np.maximum(upper, done, out=done)
        rows[-1][:] = done
        np.subtract(wait, arrival, out=wait)
