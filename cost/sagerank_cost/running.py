"""What runs for how long in each mode, and how long requests wait for it: by formulas, from the traffic and a request's seconds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from . import CostError
from .autoscale import follow_backlog
from .formulas import QUEUE_SECONDS, START_MINUTES, Floats, Wait, cold_starts, fleet, lag, there, wait
from .traffic import Traffic

SERVERLESS_CONCURRENCY = 200
Waits = tuple[Wait, ...]

_DAY_SECONDS = 86_400.0
# Of the time of instances behind a queue, what is in use where they come and go; their number is never quite right.
_QUEUE_BUSY = 0.96
# Shares of use between which waits are taken together.
_LOADS = (-1.0, 0.5, 0.7, 0.8, 0.88, 0.95)


@dataclass(frozen=True, kw_only=True)
class Running:
    """The mean number of instances billed (serverless: of workers busy), the most, and their share of time in use.

    `waiting` gives the waits of the requests that percentiles are of: of the busiest hour; in modes whose requests wait for minutes,
    and serverless, of all. `failing` is the share of requests that find no instance and get no answer.
    """

    mean: float
    peak: int
    utilisation: float
    waiting: Callable[[], Waits]
    failing: float = 0.0
    notes: tuple[str, ...] = ()

    @cached_property
    def waits(self) -> Waits:
        """What `waiting` gives, found when it is first asked for: most deployments are refused or dearer before."""
        return self.waiting()


def running_instances(traffic: Traffic, seconds: float, *, target: float, least: int, most: int) -> Running:
    """Instances that are scaled so that each is in use for the share `target` of its time, and at least `least` of them.

    Raises CostError, to be read after the deployment's name, where more than `most` are needed.
    """
    each = 60 * target / seconds
    _check(math.ceil(traffic.peak * 60 / each - 1e-9), most)
    serving, billed = (np.minimum(count, most) for count in fleet(traffic.counts, each, least=max(1, least)))
    rates, failing = traffic.sample, 0.0
    notes: tuple[str, ...] = ()
    if not least:
        up, first, meanwhile = there(rates)
        failing, billed = float(np.average(first + meanwhile, weights=rates)), billed - 1 + up
        notes = (
            f"{failing:.1%} of the requests meet no instance and fail: a client has to ask again for {START_MINUTES + 1} minutes or more",
        )
    mean = float(billed.mean())
    return Running(
        mean=mean,
        peak=math.ceil(float(billed.max()) - 1e-9),
        utilisation=min(1.0, float(rates.mean()) * seconds / mean),
        waiting=lambda: _busiest_hour(traffic, serving, seconds),
        failing=failing,
        notes=notes,
    )


def _busiest_hour(traffic: Traffic, serving: Floats, seconds: float) -> Waits:
    """The waits in the hour of the period in which they are longest on average."""
    rates = traffic.sample
    behind = lag(rates, serving, seconds)
    # Where more come than can be served, what is left behind is counted on its own.
    load = np.minimum(rates * seconds / serving, 0.95)
    hours = np.arange(len(rates)) % len(traffic.rates) // 60
    # Which hour that is, one server's wait tells well enough.
    badness = np.bincount(hours, rates * (behind + seconds * load / (1 - load) / serving))
    worst = hours == int(np.argmax(badness / np.maximum(np.bincount(hours, rates), 1e-12)))
    rates, serving, behind, load = (each[worst] for each in (rates, serving, behind, load))
    groups = []
    for count in np.unique(serving):
        for late in (False, True):
            here = (serving == count) & ((behind > 0) == late)
            weights = rates[here]
            if weights.sum() > 0:
                busy, fixed = (float(np.average(each[here], weights=weights)) for each in (load, behind))
                share = float(weights.sum() / rates.sum())
                groups.append(Wait(share, fixed, *wait(int(count), busy, seconds, traffic.variation)))
    return tuple(groups)


def running_workers(traffic: Traffic, seconds: float, cold_start: float) -> Running:
    """Serverless workers, one for each request: cold where none is warm, which takes `cold_start` seconds more.

    Raises CostError, to be read after the deployment's name, where more are needed than an endpoint has.
    """
    busy = traffic.peak * seconds
    if busy + 3 * math.sqrt(busy) > SERVERLESS_CONCURRENCY:
        raise CostError(
            f"needs about {busy:.0f} requests at once at the peak; an endpoint has {SERVERLESS_CONCURRENCY} at most."
        )
    rates, times = np.unique(traffic.rates, return_counts=True)
    cold = float(np.average(cold_starts(rates, seconds, cold_start), weights=rates * times))
    note = f"{cold:.1%} of the requests start a worker, which is taken to last {cold_start:g} s: an assumption, so measure yours (--cold-start)"
    return Running(
        mean=traffic.mean * seconds,
        peak=math.ceil(busy),
        utilisation=1.0,
        waiting=lambda: (Wait(1 - cold), Wait(cold, cold_start)),
        notes=(note,),
    )


def running_queued(traffic: Traffic, seconds: float, *, least: int, most: int) -> Running:
    """Instances behind a queue, as many as hold it at QUEUE_SECONDS of work each; those that may go to zero are none while nobody asks.

    Raises CostError, to be read after the deployment's name, where more than `most` are needed.
    """
    rates = traffic.rates
    load = _smooth(rates * seconds, round(QUEUE_SECONDS / 60))
    _check(math.ceil(float(load.max()) - 1e-9), most)
    running = np.maximum(load / _QUEUE_BUSY * (load > _LOADS[-1] * max(1, least)), max(1, least))
    if not least:
        running *= np.where(running > 1, 1.0, there(rates)[0])
    mean = float(running.mean())
    return Running(
        mean=mean,
        peak=math.ceil(float(running.max()) - 1e-9),
        utilisation=min(1.0, float(load.mean()) / mean),
        waiting=lambda: _behind(traffic, load, seconds, least=least, most=most),
        notes=("asynchronous hours are taken at the hosting price: one bill of 2023 shows them equal",),
    )


def _behind(traffic: Traffic, load: Floats, seconds: float, *, least: int, most: int) -> Waits:
    """Waits in a queue before instances that follow it: for those before, by the minute, or else as `load` makes them by chance."""
    counts = traffic.counts.each
    serving, _ = follow_backlog(counts.astype(np.int64), counts * seconds, seconds, least=least, most=most)
    load = np.resize(load, len(counts)) / max(1, least)
    capacity = np.concatenate([[0.0], np.cumsum(serving * 60.0)]) + np.arange(len(counts) + 1) * 1e-9
    work = counts * seconds
    before = np.cumsum(work) - work
    # Lindley: a request begins when it is there and all before it are done; that is counted in seconds of capacity.
    begins = before + np.maximum.accumulate(capacity[:-1] - before)
    minutes = np.arange(len(counts) + 1)
    waits = np.maximum(np.interp(begins + 1e-4, capacity, minutes) - minutes[:-1], 0) * 60
    long = waits > 1
    groups = []
    for low, high in itertools.pairwise(_LOADS):
        here = counts * (~long & (load > low) & (load <= high))
        if here.sum():
            middle = float(np.average(load, weights=here))
            groups.append(Wait(float(here.sum()), 0.0, *wait(1, middle, seconds, traffic.variation)))
    order = np.argsort(waits[long])
    for part in np.array_split(order, 32):
        share = float(counts[long][part].sum())
        if share:
            groups.append(Wait(share, float(np.average(waits[long][part], weights=counts[long][part]))))
    whole = max(1.0, float(counts.sum()))
    return tuple(replace(group, share=group.share / whole) for group in groups) or (Wait(1.0),)


def _uniform(low: float, high: float) -> Waits:
    """Waits between two bounds, all of them as likely."""
    return tuple(Wait(1 / 8, low + (high - low) * (part + 0.5) / 8) for part in range(8))


def _smooth(values: Floats, width: int) -> Floats:
    """Means over so many minutes, of a period that repeats."""
    if len(values) <= width:
        return np.full_like(values, values.mean())
    around = np.concatenate([values[-width + 1 :], values])
    found: Floats = np.convolve(around, np.ones(width) / width, "valid")
    return found


def running_jobs(traffic: Traffic, seconds: float, *, most: int) -> Running:
    """A transform job a day, which scores what came in since the last, on as many instances as finish it within the day.

    Raises CostError, to be read after the deployment's name, where more than `most` are needed.
    """
    work, start = traffic.mean * _DAY_SECONDS * seconds, 60.0 * START_MINUTES
    count = max(1, math.ceil(work / (_DAY_SECONDS - start)))
    _check(count, most)
    mean = (work + count * start) / _DAY_SECONDS
    long = work / count + start
    return Running(
        mean=mean,
        peak=count,
        utilisation=work / _DAY_SECONDS / mean,
        # A request waits for the day to end, and for its place in the job.
        waiting=lambda: _uniform(long, _DAY_SECONDS + start),
        notes=(
            f"a job a day of about {long / 60:,.0f} minutes, instances: {count}; transform hours are taken at the hosting price: one bill of 2023 shows them equal",
        ),
    )


def _check(needed: int, most: int) -> None:
    if needed > most:
        raise CostError(
            f"needs {needed} instances at the peak, more than {most}: take a larger type or a smaller model, or allow more."
        )
