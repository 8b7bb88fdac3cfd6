"""Quality against cost of a cascade: NDCG@10 for every K of its last stage, and the smallest K that keeps enough of it.

Enough is a share of what the last model has when it scores all candidates. K is found by a fixed sequence of tests from
the largest K down: each asks whether the mean over queries of NDCG(K) - share x NDCG(last model alone) is above 0, by
the one-sided 95 % bound of a paired bootstrap, and the first that fails ends it. In such a sequence the 5 % hold for the
K that is found, however many were tried.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sagerank_inference.cascade import merge
from sagerank_inference.contract import best_first

from . import EvaluationError
from .collection import Collection
from .first_stage import Run, ranked
from .metrics import PerQuery, confidence, per_query
from .scorer import Cascade, EngineScorer, Scorer
from .scores import ScoreStore

_SAMPLE_QUERIES, _SAMPLE_DOCUMENTS, _ROUNDS = 2, 32, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The cost of one document in a stage, with the lowest and highest of its measurements. unit: ms or GFLOP."""

    name: str
    cost: float
    low: float
    high: float
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The cascade with `keep` documents for its last model; 0: the stages before it alone.

    share: of the last model's NDCG@10. margin: NDCG@10 above what was to be retained, and low its one-sided 95 % bound.
    cost: of a query, in the unit of the paces; cost_share: of the last model's cost on all candidates.
    """

    keep: int
    ndcg: float
    share: float
    margin: float
    low: float
    cost: float
    cost_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Quality and cost of a cascade for every K of its last model, and the K to build it with.

    chosen: the smallest K that retains enough, beyond noise; None where not even the largest does. by_mean: the
    smallest from which on the mean alone is enough.
    """

    retain: float
    last_ndcg: float
    last_cost: float
    steps: tuple[Step, ...]
    paces: tuple[Pace, ...]
    chosen: int | None
    by_mean: int | None

    @property
    def unit(self) -> str:
        """The unit of all costs: ms or GFLOP."""
        return self.paces[0].unit


def curve(
    collection: Collection,
    candidates: Run,
    before: Scorer,
    last: Scorer,
    store: ScoreStore,
    *,
    retain: float,
    paces: Sequence[Pace],
    progress: Callable[[int], None] = lambda _: None,
) -> Curve:
    """Every K of `before`>`last`; `before` may be a cascade itself. Each stage scores every candidate once."""
    first: dict[str, list[float]] = {}
    second: dict[str, list[float]] = {}
    identifiers = {
        query: [document for document, _ in candidates.get(query, [])] for query in collection.queries
    }
    texts = {
        query: [collection.documents[document] for document in ids] for query, ids in identifiers.items()
    }
    for query, documents in texts.items():
        first[query] = store.score(before, collection.queries[query], documents) if documents else []
        second[query] = store.score(last, collection.queries[query], documents) if documents else []
        progress(len(documents))

    def quality(keep: int) -> PerQuery:
        run: Run = {}
        for query, ids in identifiers.items():
            best = best_first(first[query], keep)
            again = [second[query][index] for index in best]
            scores = merge(first[query], best, again, texts[query])
            run[query] = ranked(dict(zip(ids, scores, strict=True)))
        return per_query(collection, run)["ndcg@10"]

    sizes = [len(ids) for ids in identifiers.values()]
    largest = before.keep[-1] - 1 if isinstance(before, Cascade) else max(sizes)
    alone = quality(max(sizes))
    goal = {query: retain * value for query, value in alone.items()}
    limits = [*(before.keep if isinstance(before, Cascade) else ())]
    last_ndcg, last_cost = statistics.fmean(alone.values()), statistics.fmean(sizes) * paces[-1].cost
    if not last_ndcg:
        raise EvaluationError(f"{last.name} has an NDCG@10 of 0 here: there is nothing to retain.")
    steps = []
    for keep in range(largest + 1):
        values = quality(keep)
        margin = confidence([values[query] - goal[query] for query in values], level=0.9)
        ndcg = statistics.fmean(values.values())
        cost = _cost(sizes, [*limits, keep], paces)
        steps.append(
            Step(
                keep=keep,
                ndcg=ndcg,
                share=ndcg / last_ndcg,
                margin=margin.mean,
                low=margin.low,
                cost=cost,
                cost_share=cost / last_cost,
            )
        )
    return Curve(
        retain=retain,
        last_ndcg=last_ndcg,
        last_cost=last_cost,
        steps=tuple(steps),
        paces=tuple(paces),
        chosen=_down_to(steps, lambda step: step.low >= 0),
        by_mean=_down_to(steps, lambda step: step.margin >= 0),
    )


def _down_to(steps: Sequence[Step], passes: Callable[[Step], bool]) -> int | None:
    """The smallest K of the unbroken row of passes that ends at the largest."""
    smallest = None
    for step in reversed(steps):
        if not passes(step):
            break
        smallest = step.keep
    return smallest


def _cost(sizes: Sequence[int], keep: Sequence[int], paces: Sequence[Pace]) -> float:
    """The cost of a query, on average over the queries' numbers of candidates."""
    documents = [statistics.fmean(sizes)]
    documents += [statistics.fmean(min(count, size) for size in sizes) for count in keep]
    return sum(count * pace.cost for count, pace in zip(documents, paces, strict=True))


def sample(collection: Collection, candidates: Run) -> list[tuple[str, list[str]]]:
    """The queries and documents that a pace is taken on: the first candidates of the first queries that have some."""
    queries = [query for query in collection.queries if candidates.get(query)][:_SAMPLE_QUERIES]
    return [
        (
            collection.queries[query],
            [collection.documents[document] for document, _ in candidates[query][:_SAMPLE_DOCUMENTS]],
        )
        for query in queries
    ]


def measured(stages: Sequence[Scorer], work: Sequence[tuple[str, list[str]]]) -> list[Pace]:
    """Milliseconds a document, tokenisation included; stages take turns, so disturbances fall on all."""
    times: list[list[float]] = [[] for _ in stages]
    for round_number in range(_ROUNDS + 1):
        for query, documents in work:
            for stage, values in zip(stages, times, strict=True):
                start = time.perf_counter()
                stage.score(query, documents)
                if round_number:  # the first warms up
                    values.append(1e3 * (time.perf_counter() - start) / len(documents))
    return [
        _pace(stage, statistics.median, values, "ms") for stage, values in zip(stages, times, strict=True)
    ]


def arithmetic(stages: Sequence[Scorer], work: Sequence[tuple[str, list[str]]]) -> list[Pace]:
    """GFLOP a document without padding: an estimate of cost that no machine enters into. Of sagerank's own models only."""
    paces = []
    for stage in stages:
        if not isinstance(stage, EngineScorer):
            raise EvaluationError(
                f"The arithmetic of {stage.name} is not known: leave --arithmetic out, and it is timed."
            )
        costs = [stage.gflop(query, documents) / len(documents) for query, documents in work]
        paces.append(_pace(stage, statistics.fmean, costs, "GFLOP"))
    return paces


def _pace(
    stage: Scorer, average: Callable[[Sequence[float]], float], values: Sequence[float], unit: str
) -> Pace:
    return Pace(name=stage.name, cost=average(values), low=min(values), high=max(values), unit=unit)
