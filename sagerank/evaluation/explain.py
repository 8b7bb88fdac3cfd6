"""Why one ranker is better than another: their NDCG@10 by kind of query, and the queries on which they differ most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from .collection import Collection
from .evaluate import Ranking
from .kinds import Kind, dividing, pooled
from .metrics import Difference, compare

METRIC = "ndcg@10"


@dataclass(frozen=True, slots=True)
class Row:
    """Two rankers on the queries of one kind.

    difference: first - second, with the paired test's p. adjusted: that p by Holm's method, over all kinds of
    the table: many were looked at, and one of twenty differs by chance. adds: what these queries add to the difference over all queries.
    """

    group: str
    name: str
    queries: int
    first: float  # mean NDCG@10
    second: float
    difference: Difference
    adjusted: float
    adds: float


@dataclass(frozen=True, slots=True)
class Example:
    """A query: NDCG@10 of both, and the place of the best relevant document in each ranking (None: not there)."""

    query: str  # its id
    text: str
    kinds: tuple[str, ...]
    first: float
    second: float
    first_place: int | None
    second_place: int | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The comparison of two rankers on one collection: over all queries, by kind, and where the first loses and wins most."""

    queries: int
    first: float
    second: float
    difference: Difference
    rows: tuple[Row, ...]
    lost: tuple[Example, ...]
    won: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Two rankings of one collection, and the kinds of its queries."""

    collection: Collection
    first: Ranking
    second: Ranking
    kinds: Sequence[Kind]


def pool(parts: Sequence[Part]) -> Part:
    """Put collections of different names together, for more queries of a kind. Each query's id has its collection's name before it."""

    def named(of: Callable[[Part], Mapping[str, Any]]) -> dict[str, Any]:
        return {
            f"{part.collection.name}/{query}": value for part in parts for query, value in of(part).items()
        }

    def ranking(of: Callable[[Part], Ranking]) -> Ranking:
        values = {METRIC: named(lambda part: of(part).values[METRIC])}
        return Ranking(of(parts[0]).name, named(lambda part: of(part).run), values)

    collection = Collection(
        name=" + ".join(part.collection.name for part in parts),
        documents={},
        queries=named(lambda part: part.collection.queries),
        qrels=named(lambda part: part.collection.qrels),
    )
    kinds = pooled({part.collection.name: part.kinds for part in parts})
    return Part(collection, ranking(lambda part: part.first), ranking(lambda part: part.second), kinds)


def explain(part: Part, *, examples: int = 10, relevant_from: int = 1) -> Explanation:
    """Compare two rankings of the same queries. examples: how many queries are shown on either side."""
    collection, first, second, kinds = part.collection, part.first, part.second, dividing(part.kinds)
    one, other = first.values[METRIC], second.values[METRIC]
    differences = [_compare(first, second, kind.queries) for kind in kinds]
    rows = tuple(
        Row(
            kind.group,
            kind.name,
            len(kind.queries),
            fmean(one[query] for query in kind.queries),
            fmean(other[query] for query in kind.queries),
            difference,
            adjusted,
            difference.mean * len(kind.queries) / len(one),
        )
        for kind, difference, adjusted in zip(
            kinds, differences, holm([difference.p for difference in differences]), strict=True
        )
    )
    order = sorted(one, key=lambda query: (one[query] - other[query], query))

    def shown(queries: Sequence[str]) -> tuple[Example, ...]:
        return tuple(
            Example(
                query,
                collection.queries[query],
                tuple(f"{kind.group}: {kind.name}" for kind in kinds if query in kind.queries),
                one[query],
                other[query],
                *(_place(collection, ranking, query, relevant_from) for ranking in (first, second)),
            )
            for query in queries
        )

    return Explanation(
        queries=len(one),
        first=first.mean(),
        second=second.mean(),
        difference=first.versus(second),
        rows=rows,
        lost=shown([query for query in order[:examples] if one[query] < other[query]]),
        won=shown([query for query in order[::-1][:examples] if one[query] > other[query]]),
    )


def holm(values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number, in their order, by Holm's step-down method (1979)."""
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda index: values[index])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = highest
    return adjusted


def _compare(first: Ranking, second: Ranking, queries: Iterable[str]) -> Difference:
    one, other = ({query: ranking.values[METRIC][query] for query in queries} for ranking in (first, second))
    return compare(one, other)


def _place(collection: Collection, ranking: Ranking, query: str, relevant_from: int) -> int | None:
    grades = collection.qrels[query]
    found = (
        place
        for place, (document, _) in enumerate(ranking.run.get(query, []), 1)
        if grades.get(document, 0) >= relevant_from
    )
    return next(found, None)
