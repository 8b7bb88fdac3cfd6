"""The RAG benchmark in LlamaIndex's manner: does the context of a question come back among the first k?

Each question has one context (node) it was written from. A retriever finds the `retrieve` nearest contexts,
a reranker orders them, and hit rate (is it among the first k) and MRR (1 / its place, 0 beyond k) are averaged
over questions, then over retrievers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .progress import Progress
from .questions import Questions
from .retrieval import Ranking, Retriever
from .scorer import Scorer
from .scores import ScoreStore


@dataclass(frozen=True, slots=True)
class RagRow:
    """Hit rate and MRR of one retriever with one reranker, over all questions."""

    embedder: str
    reranker: str | None  # None: the retriever's own order
    hit_rate: float
    mrr: float


def benchmark(
    questions: Questions,
    retrievers: Sequence[Retriever],
    rerankers: Sequence[Scorer],
    store: ScoreStore,
    *,
    retrieve: int = 10,
    keep: int = 5,
    progress: Progress = lambda *_: None,
) -> list[RagRow]:
    """One row for each retriever alone and with each reranker. LlamaIndex's post retrieves 10 and keeps 5."""
    rows = []
    for retriever in retrievers:
        found = retriever.retrieve(questions, retrieve, progress)
        rows.append(_row(retriever.name, None, places(questions, found, keep)))
        for reranker in rerankers:
            step = f"{retriever.name} > {reranker.name}"
            again: Ranking = {}
            for query, contexts in found.items():
                again |= reranked(questions, {query: contexts}, reranker, store)
                progress(step, len(again), len(found))
            rows.append(_row(retriever.name, reranker.name, places(questions, again, keep)))
    return rows


def reranked(questions: Questions, ranking: Ranking, reranker: Scorer, store: ScoreStore) -> Ranking:
    """The same contexts of each question, ordered by the reranker's scores; equal scores keep their order."""
    result = {}
    for query, ids in ranking.items():
        scores = store.score(reranker, questions.questions[query], [questions.contexts[key] for key in ids])
        result[query] = [key for _, key in sorted(zip(scores, ids, strict=True), key=lambda item: -item[0])]
    return result


def places(questions: Questions, ranking: Ranking, keep: int) -> dict[str, int | None]:
    """The place from 1 of each question's first expected context; None where it is not among the first `keep`."""
    return {
        query: next((place for place, key in enumerate(ranking[query][:keep], 1) if key in expected), None)
        for query, expected in questions.expected.items()
    }


def mean_over_embedders(rows: Sequence[RagRow]) -> list[RagRow]:
    """Average each reranker's hit rate and MRR over the retrievers, as the announcement's table does."""
    result = []
    for reranker in dict.fromkeys(row.reranker for row in rows):
        mine = [row for row in rows if row.reranker == reranker]
        result.append(
            RagRow(
                "mean",
                reranker,
                sum(row.hit_rate for row in mine) / len(mine),
                sum(row.mrr for row in mine) / len(mine),
            )
        )
    return result


def _row(retriever: str, reranker: str | None, found: dict[str, int | None]) -> RagRow:
    return RagRow(
        retriever,
        reranker,
        hit_rate=sum(place is not None for place in found.values()) / len(found),
        mrr=sum(1 / place for place in found.values() if place is not None) / len(found),
    )
