"""Requests over time: a constant rate, a daily curve, or what a log says."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import CostError

MINUTES_PER_DAY = 1440
# A month as AWS bills it: 730 hours.
MINUTES_PER_MONTH = 730 * 60


@dataclass(frozen=True, slots=True)
class Traffic:
    """rates: mean requests per second of each minute of a period that repeats: a day, or a month.

    documents and tokens: of a typical request and document.
    """

    rates: NDArray[np.float64]
    documents: int
    tokens: int
    name: str

    @property
    def requests(self) -> float:
        """In a month."""
        return self.mean * 60 * MINUTES_PER_MONTH

    @property
    def mean(self) -> float:
        return float(self.rates.mean())

    @property
    def peak(self) -> float:
        return float(self.rates.max())

    def scaled(self, factor: float) -> Traffic:
        return Traffic(self.rates * factor, self.documents, self.tokens, self.name)


def constant(
    rate: float, *, documents: int = 100, tokens: int = 150, minutes: int = MINUTES_PER_DAY
) -> Traffic:
    _check(rate, documents, tokens)
    return Traffic(np.full(minutes, float(rate)), documents, tokens, f"{rate:g} requests/s")


def daily(
    mean: float,
    *,
    swing: float = 0.8,
    peak_hour: float = 14.0,
    documents: int = 100,
    tokens: int = 150,
    minutes: int = MINUTES_PER_DAY,
) -> Traffic:
    """A cosine over the day round `mean`; swing 0.8 means the peak is 1.8 times it and the night 0.2 times."""
    _check(mean, documents, tokens)
    if not 0 <= swing <= 1:
        raise CostError(f"The swing is {swing:g}: give 0 (constant) to 1 (nothing at night).")
    hour = (np.arange(minutes) % MINUTES_PER_DAY) / 60
    rates = mean * (1 + swing * np.cos((hour - peak_hour) / 24 * 2 * math.pi))
    return Traffic(
        rates,
        documents,
        tokens,
        f"{mean:g} requests/s on average, {mean * (1 + swing):g} at {peak_hour:g}:00",
    )


def from_log(path: Path) -> Traffic:
    """A CSV of requests: time (seconds, ascending), documents, tokens (mean of a document). Repeated to fill a month.

    Raises CostError with the line of what is malformed.
    """
    times: list[float] = []
    documents: list[int] = []
    tokens: list[float] = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            lacking = {"time", "documents", "tokens"} - set(reader.fieldnames or [])
            if lacking:
                raise CostError(
                    f"{path} lacks the column {', '.join(sorted(lacking))}: it needs time, documents, tokens."
                )
            for row in reader:
                where = f"{path}:{reader.line_num}"
                try:
                    time, count, size = float(row["time"]), int(row["documents"]), float(row["tokens"])
                except (TypeError, ValueError):
                    raise CostError(f"{where}: time, documents and tokens must be numbers.") from None
                if not (math.isfinite(time) and time >= 0 and count > 0 and math.isfinite(size) and size > 0):
                    raise CostError(f"{where}: time must be at least 0, documents and tokens above 0.")
                if times and time < times[-1]:
                    raise CostError(f"{where}: the time {time:g} is before the line above: sort the file.")
                times.append(time)
                documents.append(count)
                tokens.append(size)
    except FileNotFoundError:
        raise CostError(f"{path} does not exist.") from None
    if not times:
        raise CostError(f"{path} holds no request.")
    minute = ((np.array(times) - times[0]) // 60).astype(np.int64)
    rates = np.bincount(minute).astype(np.float64) / 60
    month = (
        np.resize(rates, MINUTES_PER_MONTH) if len(rates) < MINUTES_PER_MONTH else rates[:MINUTES_PER_MONTH]
    )
    mean_documents = sum(documents) / len(documents)
    weighted = float(np.dot(documents, tokens)) / sum(documents)
    return Traffic(month, max(1, round(mean_documents)), max(1, round(weighted)), path.name)


def _check(rate: float, documents: int, tokens: int) -> None:
    if not (math.isfinite(rate) and rate > 0):
        raise CostError(f"The rate is {rate:g} requests/s: give more than 0.")
    if documents < 1 or tokens < 1:
        raise CostError(f"A request has at least 1 document of 1 token, not {documents} of {tokens}.")
