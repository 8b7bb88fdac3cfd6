"""Rerank a first stage's candidates and measure both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .collection import Collection
from .first_stage import Run, ranked
from .metrics import Difference, Interval, PerQuery, compare, confidence, per_query
from .scorer import Scorer
from .scores import ScoreStore


@dataclass(frozen=True, slots=True)
class Ranking:
    """One system's run over a collection, with its metrics query by query."""

    name: str
    run: Run
    values: dict[str, PerQuery]

    def mean(self, metric: str = "ndcg@10") -> float:
        values = self.values[metric]
        return sum(values.values()) / len(values)

    def interval(self, metric: str) -> Interval:
        return confidence(list(self.values[metric].values()))

    def versus(self, other: Ranking, metric: str = "ndcg@10") -> Difference:
        return compare(self.values[metric], other.values[metric])


def first_stage(name: str, collection: Collection, run: Run, *, relevant_from: int = 1) -> Ranking:
    return Ranking(name, run, per_query(collection, run, relevant_from=relevant_from))


def rerank(
    collection: Collection,
    candidates: Run,
    scorer: Scorer,
    store: ScoreStore,
    *,
    relevant_from: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Ranking:
    """Score every candidate of every query; nothing is added to the candidates, and none is dropped."""
    run: Run = {}
    for query, text in collection.queries.items():
        identifiers = [document for document, _ in candidates.get(query, [])]
        if identifiers:
            scores = store.score(scorer, text, [collection.documents[document] for document in identifiers])
            run[query] = ranked(dict(zip(identifiers, scores, strict=True)))
        progress(len(identifiers))
    return Ranking(scorer.name, run, per_query(collection, run, relevant_from=relevant_from))
