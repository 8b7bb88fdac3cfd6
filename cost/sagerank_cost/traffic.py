"""Requests over time: a constant rate, a daily curve, or what a log says."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from . import CostError
from .formulas import Counts
from .store import rows

Sizes = NDArray[np.float32]

MINUTES_PER_DAY = 1440
# A month as AWS bills it: 730 hours.
MINUTES_PER_MONTH = 730 * 60
# Days whose requests formulas count, so that chance evens out. From this mean on, a minute's number is as good as normal.
_DAYS, _NORMAL_FROM = 4, 200
# Sizes that requests are drawn from where some are known.
_KNOWN = 4096
# Documents of a logged request, and tokens of one: what is more is a mistake.
_MOST = 1_000_000


@cache
def spread(variation: float) -> Sizes:
    """Relative lengths of texts [1 or 1024]: lognormal, with mean 1 and this coefficient of variation.

    Raises CostError for a variation outside 0 to 2.
    """
    if not 0 <= variation <= 2:
        raise CostError(f"The variation of requests is {variation:g}: give 0 (all equal) to 2.")
    if variation == 0:
        return np.ones(1, np.float32)
    sigma = math.sqrt(math.log1p(variation**2))
    normal = NormalDist()
    sizes = np.exp(sigma * np.array([normal.inv_cdf((index + 0.5) / 1024) for index in range(1024)]))
    relative: Sizes = (sizes / sizes.mean()).astype(np.float32)
    return relative


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Requests over a period that repeats, such as a day. `rates` [minutes] are the mean requests a second of its minutes.

    A typical request has `documents`, and a typical document with its query `tokens`. `sizes` are the work of requests
    relative to their mean, which is 1; every request has one of them.
    """

    rates: NDArray[np.float64]
    documents: int
    tokens: int
    name: str
    sizes: Sizes = field(default_factory=lambda: spread(0.3))

    @property
    def requests(self) -> float:
        """Requests in a month."""
        return self.mean * 60 * MINUTES_PER_MONTH

    @property
    def mean(self) -> float:
        return float(self.rates.mean())

    @property
    def peak(self) -> float:
        return float(self.rates.max())

    @cached_property
    def variation(self) -> float:
        """Coefficient of variation of the sizes."""
        return float(self.sizes.std())

    @cached_property
    def typical_sizes(self) -> NDArray[np.float64]:
        """64 quantiles of the sizes, ascending."""
        return np.quantile(self.sizes, (np.arange(64) + 0.5) / 64).astype(np.float64)

    @cached_property
    def usual_size(self) -> float:
        """What 95 in 100 of the `typical_sizes` stay below."""
        return float(np.quantile(self.typical_sizes, 0.95))

    @cached_property
    def largest_size(self) -> float:
        """What 999 in 1,000 sizes stay below."""
        return float(np.quantile(self.sizes, 0.999))

    @cached_property
    def sample(self) -> NDArray[np.float64]:
        """Rates [minutes] over whole periods, of _DAYS at least: those of `counts`."""
        return np.tile(self.rates, -(-_DAYS * MINUTES_PER_DAY // len(self.rates)))

    @cached_property
    def counts(self) -> Counts:
        """How many requests come in every minute of `sample`, drawn so that no minute brings fewer where rates are higher."""
        return Counts(_poisson(60 * self.sample))

    def minutes(self, least: int) -> int:
        """So many minutes, rounded up to whole periods: parts of a day would weigh some hours more than others."""
        return -(-least // len(self.rates)) * len(self.rates)

    def known(self, share: float, rest: float) -> tuple[Traffic, float]:
        """The same requests where a share of them takes only `rest` (0 to 1) of its work, and their mean work by what it was.

        It is whole requests that are known, of any size: those that are not take as long as ever, which a latency limit has to see.
        """
        sizes = np.concatenate([self.sizes * np.float32(rest), self.sizes])
        order = np.argsort(sizes)
        weights = np.repeat([share, 1 - share], len(self.sizes))[order].cumsum()
        at = np.searchsorted(weights / weights[-1], (np.arange(_KNOWN) + 0.5) / _KNOWN)
        picked = sizes[order][at]
        found = replace(self, sizes=(picked / picked.mean()).astype(np.float32))
        # What the rates alone decide is the same, and takes a while to find.
        vars(found).update(sample=self.sample, counts=self.counts)
        return found, 1 - share * (1 - rest)

    def scaled(self, factor: float) -> Traffic:
        """The same curve, `factor` times as high."""
        return replace(
            self, rates=self.rates * factor, name=f"{self.mean * factor:g} requests/s, shaped as {self.name}"
        )


def _poisson(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """A draw for each mean, always from the same uniform numbers, so that it rises with the mean."""
    uniform = np.random.default_rng(0).random(len(means))
    small = np.minimum(means, _NORMAL_FROM)
    term = np.exp(-small)
    below, drawn = term.copy(), np.zeros(len(means))
    for count in range(1, int(small.max() + 9 * math.sqrt(small.max()) + 20)):
        drawn += uniform > below
        term = term * small / count
        below += term
    large = means > _NORMAL_FROM
    if large.any():
        normal = NormalDist()
        z = np.array([normal.inv_cdf(value or 1e-300) for value in uniform[large].tolist()])
        # Cornish and Fisher's expansion, to the skewness.
        spread_out = means[large] + z * np.sqrt(means[large]) + (z**2 - 1) / 6
        drawn[large] = np.maximum(drawn[large], np.round(spread_out))
    return drawn


def constant(rate: float, *, documents: int = 100, tokens: int = 150, variation: float = 0.3) -> Traffic:
    """The same number of requests in every minute. Raises CostError for traffic that makes no sense."""
    return daily(rate, swing=0.0, documents=documents, tokens=tokens, variation=variation)


def daily(
    mean: float,
    *,
    swing: float = 0.8,
    peak_hour: float = 14.0,
    documents: int = 100,
    tokens: int = 150,
    variation: float = 0.3,
) -> Traffic:
    """A cosine over the day round `mean`: with a swing of 0.8 the peak is 1.8 times it, and the night 0.2 times.

    Raises CostError for traffic that makes no sense.
    """
    if not 1e-9 <= mean <= 1e9:
        raise CostError(f"The rate is {mean:g} requests/s: give 1e-9 to 1e9.")
    if documents < 1 or tokens < 1:
        raise CostError(f"A request has at least 1 document of 1 token, not {documents} of {tokens}.")
    if not 0 <= swing <= 1:
        raise CostError(f"The swing is {swing:g}: give 0 (constant) to 1 (nothing at night).")
    hour = np.arange(MINUTES_PER_DAY) / 60
    rates = mean * (1 + swing * np.cos((hour - peak_hour) / 24 * 2 * math.pi))
    name = f"{mean:g} requests/s"
    if swing:
        name += f" on average, {mean * (1 + swing):g} at {peak_hour:g}:00"
    return Traffic(rates=rates, documents=documents, tokens=tokens, name=name, sizes=spread(variation))


def from_log(path: Path) -> Traffic:
    """Traffic as in a CSV of requests: time (seconds, ascending), documents, tokens (mean of a document).

    It repeats, and sizes are documents x tokens of its requests. Raises CostError with the line of what
    is malformed.
    """
    times: list[float] = []
    documents: list[int] = []
    tokens: list[float] = []
    for line, row in rows(path, "time", "documents", "tokens"):
        where = f"{path}:{line}"
        try:
            time, count, size = float(row["time"]), int(row["documents"]), float(row["tokens"])
        except ValueError:
            raise CostError(f"{where}: time, documents and tokens must be numbers.") from None
        if not (math.isfinite(time) and time >= 0 and 0 < count <= _MOST and 0 < size <= _MOST):
            raise CostError(
                f"{where}: time must be at least 0, documents and tokens above 0 and up to {_MOST:,}."
            )
        if times and time < times[-1]:
            raise CostError(f"{where}: the time {time:g} is before the line above: sort the file.")
        times.append(time)
        documents.append(count)
        tokens.append(size)
    if not times:
        raise CostError(f"{path} holds no request: it needs a line for each, under time,documents,tokens.")
    if times[-1] - times[0] > 60 * MINUTES_PER_MONTH:
        raise CostError(
            f"{path} spans {(times[-1] - times[0]) / 86400:.0f} days: time is in seconds, of a month at most."
        )
    minute = ((np.array(times) - times[0]) // 60).astype(np.int64)
    rates = np.bincount(minute).astype(np.float64) / 60
    work = np.array(documents, np.float64) * np.array(tokens)
    sizes = (work / work.mean()).astype(np.float32)
    if len(sizes) > 4096:
        sizes = np.sort(sizes)[np.linspace(0, len(sizes) - 1, 4096).round().astype(np.int64)]
        sizes /= sizes.mean()
    return Traffic(
        rates=rates,
        documents=max(1, round(sum(documents) / len(documents))),
        tokens=max(1, round(float(work.sum()) / sum(documents))),
        name=os.fsencode(path.name).decode("utf-8", "backslashreplace"),  # whatever the locale
        sizes=sizes,
    )
