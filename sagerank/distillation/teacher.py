"""Teachers: whatever scores a pair. A cross-encoder gives logits; a bi-encoder gives cosines, brought to their scale."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sagerank.evaluation.embedder import FAMILIES, Embedder, open_embedder
from sagerank.evaluation.scorer import ClientScorer, Scorer, open_scorer
from sagerank.evaluation.scores import ScoreStore

from .mine import Candidates

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# Of a document, or a pair, in the gate: whole passages, as a server has them.
GATE_TOKENS = 512
# Requests to servers that are under way at once.
_TOGETHER = 4
# Cosines of about 0.45 (unrelated) to 0.85 (an answer) become -9 to 7, the range of a cross-encoder's logits.
SLOPE, SHIFT = 40.0, -27.0


class EmbeddingTeacher:
    """A bi-encoder as a teacher: each text is embedded once, so that any number of pairs costs little more."""

    def __init__(self, embedder: Embedder) -> None:
        self.name = f"cosine:{embedder.name}*{SLOPE:g}{SHIFT:+g}"
        self._embedder = embedder
        self._vectors: dict[tuple[bool, str], NDArray[np.float32]] = {}

    def remember(self, texts: Sequence[str], vectors: NDArray[np.float32], *, queries: bool) -> None:
        """Vectors that mining has made already."""
        self._vectors |= {(queries, text): vector for text, vector in zip(texts, vectors, strict=True)}

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        missing = [text for text in dict.fromkeys(documents) if (False, text) not in self._vectors]
        if missing:
            self.remember(missing, self._embedder.passages(missing), queries=False)
        if (True, query) not in self._vectors:
            self.remember([query], self._embedder.queries([query]), queries=True)
        vector = self._vectors[True, query]
        return [SLOPE * float(self._vectors[False, text] @ vector) + SHIFT for text in documents]


def open_teacher(spec: str, *, threads: int, max_tokens: int) -> Scorer:
    """A bi-encoder (bge|e5|minilm:FOLDER), or any scorer of `sagerank eval`."""
    if spec.partition(":")[0] in FAMILIES:
        return EmbeddingTeacher(open_embedder(spec, threads=threads))
    return open_scorer(spec, threads=threads, max_tokens=max_tokens)


def each(
    teachers: Iterable[Scorer], ask: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[_Result]:
    """Map `ask`, which asks the teachers, over the items, in order: several at once where all are servers, which are waited for."""
    if not all(isinstance(teacher, ClientScorer) for teacher in teachers):
        yield from map(ask, items)
        return
    with ThreadPoolExecutor(_TOGETHER) as pool:
        yield from pool.map(ask, items)


def assigned(query: str, shares: dict[str, float], seed: int) -> str:
    """Draw the teacher of a query. The draw depends on the query alone, so that more queries change none."""
    return random.Random(f"{seed} {query}").choices(list(shares), list(shares.values()))[0]


def targets(item: Candidates, teacher: Scorer, store: ScoreStore, *, lexical: float) -> tuple[float, ...]:
    """Return what the student is to score: the teacher's logits, plus `lexical` times the share of the best BM25.

    A little BM25 in the target keeps rare words decisive, where the teachers lose to it.
    """
    scores = store.score(teacher, item.query, item.documents)
    return tuple(score + lexical * words for score, words in zip(scores, item.lexical, strict=True))
