"""Metrics of a run by ir-measures (trec_eval underneath), their confidence, and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ir_measures
import numpy as np
from ir_measures import AP, RR, R, nDCG
from scipy import stats

from .collection import Collection
from .first_stage import Run

# Query id -> value
PerQuery = dict[str, float]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over queries with the ends of its bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of a - b over queries, its bootstrap interval, and the p-value of the two-sided sign-flip test."""

    mean: float
    low: float
    high: float
    p: float


def per_query(collection: Collection, run: Run, *, relevant_from: int = 1) -> dict[str, PerQuery]:
    """Map a metric's name to the values by query id of every judged query; one without candidates has 0.

    ndcg@10 takes the grades as gains, linearly, as trec_eval does; the others call a grade >= relevant_from
    relevant.
    """
    measures = {
        "ndcg@10": nDCG @ 10,
        "mrr@10": RR(rel=relevant_from) @ 10,
        "map": AP(rel=relevant_from),
        "recall@10": R(rel=relevant_from) @ 10,
        "recall@100": R(rel=relevant_from) @ 100,
    }
    names = {measure: name for name, measure in measures.items()}
    # Places, not scores: equal scores keep the order they were ranked in.
    places = {
        query: {document: float(-place) for place, (document, _) in enumerate(run.get(query, []))}
        for query in collection.queries
    }
    result: dict[str, PerQuery] = {name: dict.fromkeys(collection.queries, 0.0) for name in measures}
    for value in ir_measures.iter_calc(list(measures.values()), collection.qrels, places):
        result[names[value.measure]][value.query_id] = value.value
    return result


def confidence(
    values: Sequence[float], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Mean with its percentile-bootstrap interval over queries."""
    data = np.asarray(values, np.float64)
    means = _resampled_means(data, resamples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(data.mean()), float(low), float(high))


def compare(
    a: Mapping[str, float], b: Mapping[str, float], *, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Paired by query. Raises ValueError where the two were measured on different queries."""
    if a.keys() != b.keys():
        raise ValueError("The two runs were measured on different queries: evaluate both on one collection.")
    difference = np.array([a[query] - b[query] for query in a], np.float64)
    interval = confidence(list(difference), resamples=resamples, seed=seed)
    if not difference.any():
        return Difference(0.0, 0.0, 0.0, 1.0)
    if len(difference) == 1:  # whose sign flips to one as far from 0
        return Difference(interval.mean, interval.low, interval.high, 1.0)
    # Flipping signs is what exchanging the two systems' values of a query does (Smucker et al. 2007).
    test = stats.permutation_test(
        (difference,),
        np.mean,
        permutation_type="samples",
        n_resamples=resamples,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return Difference(interval.mean, interval.low, interval.high, float(test.pvalue))


def _resampled_means(
    data: np.ndarray[tuple[int], np.dtype[np.float64]], resamples: int, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for start in range(0, resamples, 500):  # 500 x 10,000 queries of indices are 40 MB
        count = min(500, resamples - start)
        means[start : start + count] = data[generator.integers(0, len(data), (count, len(data)))].mean(1)
    return means
