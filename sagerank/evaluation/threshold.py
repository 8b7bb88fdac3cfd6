"""The lowest score that is relevant often enough: a cut-off for a wanted precision, and how sure it is.

The cut-off is the lowest score at and above which the labelled pairs of all queries together have the precision. Its
interval and the precision that it keeps are of a bootstrap over queries: pairs of one query are alike, so whole queries are
drawn with replacement, the cut-off is chosen anew on what was drawn, and its precision and recall are counted on the
queries that were not, which had no part in choosing it. On the labels that chose it, precision flatters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import EvaluationError
from .metrics import Interval

_LEVEL = (2.5, 97.5)  # percentiles of the intervals
_FEW_QUERIES, _FEW_RELEVANT = 20, 30


@dataclass(frozen=True, slots=True)
class Labelled:
    """A pair: which query, its logit, and whether the document is relevant."""

    query: str
    logit: float
    relevant: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutoff:
    """Logits, and shares from 0 to 1."""

    wanted: float  # precision
    logit: float
    low: float  # of the logit
    high: float
    precision: float  # on the labels that chose it
    recall: float
    held_out_precision: Interval
    held_out_recall: Interval
    missed: float  # share of resamples in which no cut-off had the precision
    pairs: int
    relevant: int
    queries: int

    @property
    def warnings(self) -> list[str]:
        """What makes this less sure than it looks."""
        found = []
        if self.queries < _FEW_QUERIES or self.relevant < _FEW_RELEVANT:
            found.append(
                f"{self.queries} queries with {self.relevant} relevant pairs are few: label at least {_FEW_QUERIES} queries and {_FEW_RELEVANT} relevant pairs"
            )
        if self.missed > 0.05:
            found.append(
                f"in {self.missed:.0%} of the resamples no score had the precision: label more, or want less"
            )
        if self.held_out_precision.mean < self.wanted - 0.02:
            found.append(
                f"on queries that had no part in choosing it the precision is {self.held_out_precision.mean:.3f}: to have {self.wanted:g} there, ask for more"
            )
        return found


class _Pairs:
    """Labelled pairs by falling logit; a cut can be made after the last of equal ones only."""

    def __init__(self, pairs: Sequence[Labelled]) -> None:
        ordered = sorted(pairs, key=lambda pair: -pair.logit)
        names = {query: number for number, query in enumerate(dict.fromkeys(pair.query for pair in pairs))}
        self.queries = len(names)
        self.query = np.array([names[pair.query] for pair in ordered])
        self.relevant = np.array([pair.relevant for pair in ordered], dtype=float)
        self.logit = np.array([pair.logit for pair in ordered])
        self.cuts = np.append(self.logit[1:] != self.logit[:-1], True)

    def precisions(self, weight: np.ndarray) -> np.ndarray:
        """Return the precision of each cut, 0 where there is none. weight: of each query."""
        each = weight[self.query]
        taken, found = np.cumsum(each), np.cumsum(each * self.relevant)
        return np.where(self.cuts, found / np.maximum(taken, 1e-12), 0.0)

    def cut(self, weight: np.ndarray, precision: float) -> int | None:
        """Return the last place with the precision."""
        places = np.flatnonzero(self.precisions(weight) >= precision)
        return int(places[-1]) if len(places) else None

    def quality(self, weight: np.ndarray, logit: float) -> tuple[float, float]:
        """Return precision and recall of a cut-off; NaN where nothing is above it, or nothing is relevant."""
        each = weight[self.query]
        above = each * (self.logit >= logit)
        found, relevant = (above * self.relevant).sum(), (each * self.relevant).sum()
        taken = above.sum()
        return (
            float(found / taken) if taken else float("nan"),
            float(found / relevant) if relevant else float("nan"),
        )


def cutoff(pairs: Sequence[Labelled], precision: float, *, resamples: int = 1000, seed: int = 0) -> Cutoff:
    """Return the lowest score with the precision. Raises EvaluationError where none has it, with the best there is."""
    if not 0 < precision <= 1:
        raise EvaluationError(f"--precision is {precision:g}: give a share above 0, at most 1.")
    relevant = sum(pair.relevant for pair in pairs)
    if not relevant:
        raise EvaluationError(
            "None of the pairs is relevant: there is no precision to have. Check the labels."
        )
    table = _Pairs(pairs)
    all_of_them = np.ones(table.queries)
    place = table.cut(all_of_them, precision)
    if place is None:
        found = table.precisions(all_of_them)
        best = int(found.argmax())
        raise EvaluationError(
            f"No score has a precision of {precision:g}: the best is {found[best]:.3f}, of the {best + 1} pairs from the logit {table.logit[best]:.3f} on. Want less, or label more."
        )
    logit = float(table.logit[place])
    chosen, held_out = _resample(table, precision, resamples, seed)
    if not chosen:
        raise EvaluationError(
            "No resample of the queries had a cut-off with the precision: label more queries, or want less."
        )
    here = table.quality(all_of_them, logit)
    low, high = np.percentile(chosen, _LEVEL)
    return Cutoff(
        wanted=precision,
        logit=logit,
        low=float(low),
        high=float(high),
        precision=here[0],
        recall=here[1],
        held_out_precision=_interval([one for one, _ in held_out]),
        held_out_recall=_interval([one for _, one in held_out]),
        missed=1 - len(chosen) / resamples,
        pairs=len(pairs),
        relevant=relevant,
        queries=table.queries,
    )


def _resample(
    table: _Pairs, precision: float, resamples: int, seed: int
) -> tuple[list[float], list[tuple[float, float]]]:
    """Return the cut-offs that resamples of the queries chose, and their quality on the queries left out."""
    chance = np.random.default_rng(seed)
    chosen: list[float] = []
    held_out: list[tuple[float, float]] = []
    for _ in range(resamples):
        drawn = np.bincount(chance.integers(table.queries, size=table.queries), minlength=table.queries)
        place = table.cut(drawn.astype(float), precision)
        if place is None:
            continue
        chosen.append(float(table.logit[place]))
        held_out.append(table.quality((drawn == 0).astype(float), chosen[-1]))
    return chosen, held_out


def _interval(values: Sequence[float]) -> Interval:
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.percentile(known, _LEVEL)
    return Interval(float(np.mean(known)), float(low), float(high))
