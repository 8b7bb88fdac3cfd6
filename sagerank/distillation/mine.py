"""Candidates for each training query: its positive, near passages by BM25 and by an embedder, and random ones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sagerank.evaluation.lexical import bm25s

from . import DistillationError
from .corpus import field, read_jsonl, read_passages, share_alike
from .made import claims_and_keywords

# Words kept of a passage, and how often: short ones teach most for their cost, long ones keep the student used to length.
LENGTHS = {40: 0.6, 80: 0.3, 160: 0.1}
# Queries whose similarities are computed at once.
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Candidates:
    """One query and the documents to be ranked for it. Which is the positive is not recorded: the teacher decides.

    lexical: BM25 of each document, as a share of the query's best over all passages, 0 to 1.
    """

    query: str
    documents: tuple[str, ...]
    lexical: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """Passages, and queries with the index of the passage each belongs to (None: unknown).

    kinds: by what rule each query was made; empty where people asked.
    """

    passages: tuple[str, ...]
    queries: tuple[tuple[str, int | None], ...]
    kinds: tuple[str, ...] = ()


def read_text(passages: Path, queries: Path, *, made: int, seed: int) -> Text:
    """passages: JSON Lines with id, text, source, licence; queries: id, text, positive_passage_id, source.

    Share-alike passages are left out, and the queries of sources that have none left. Each passage keeps its first
    40, 80 or 160 words (LENGTHS). `made` more queries are made from passages: sentences and keywords, whose passage
    is known.
    """
    generator = random.Random(seed)
    texts: list[str] = []
    position: dict[str, int | None] = {}
    sources: set[str] = set()
    for passage in read_passages(passages, stated=True):
        position[passage.key] = None
        if not share_alike(passage.licence):
            position[passage.key] = len(texts)
            sources.add(passage.source)
            texts.append(shortened(passage.text, generator))
    if not texts:
        raise DistillationError(f"{passages} has no passage whose licence allows its use.")
    asked: list[tuple[str, int | None]] = []
    seen: set[str] = set()
    for number, row in enumerate(read_jsonl(queries), 1):
        key, positive = field(row, "id", queries, number), row.get("positive_passage_id")
        if key in seen:
            raise DistillationError(f"{queries}:{number}: the id {key!r} occurs twice.")
        seen.add(key)
        if positive is not None and not (isinstance(positive, str) and positive in position):
            raise DistillationError(
                f"{queries}:{number}: the positive {positive!r} is not a passage of {passages.name}: give its id, or null."
            )
        if field(row, "source", queries, number) in sources:
            asked.append((field(row, "text", queries, number), position.get(positive or "")))
    return Text(tuple(texts), (*asked, *claims_and_keywords(texts, made, generator)))


def shortened(text: str, generator: random.Random) -> str:
    """The first words of a passage, a number of them drawn from LENGTHS."""
    words = generator.choices(list(LENGTHS), list(LENGTHS.values()))[0]
    return " ".join(text.split()[:words])


def mine(
    text: Text,
    *,
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    documents: int,
    limit: int,
    seed: int,
) -> Iterator[Candidates]:
    """Yield at most `limit` queries in an order drawn from `seed`, each with `documents` candidates.

    vectors: embeddings of queries and passages, rows of length 1. Of the candidates one is the positive where known,
    half near the top of BM25, or a quarter with as many near the top of the vectors and one further down, and the rest
    random. Near ones are a sample: there a first stage is wrong, and not only at its very first.
    """
    retriever = bm25s.BM25()
    retriever.index(
        bm25s.tokenize(list(text.passages), stopwords="en", show_progress=False), show_progress=False
    )
    generator = random.Random(seed)
    order = list(range(len(text.queries)))
    generator.shuffle(order)
    near = max(1, documents // (4 if vectors is not None else 2))
    everything = range(len(text.passages))
    order = order[:limit]
    for number, index in enumerate(order):
        if vectors is not None and number % _BLOCK == 0:
            # One product for many queries reads the passages' vectors once instead of once a query.
            similar = vectors[0][order[number : number + _BLOCK]] @ vectors[1].T
        query, positive = text.queries[index]
        terms = bm25s.tokenize([query], stopwords="en", show_progress=False, return_ids=False)[0]
        lexical = retriever.get_scores(terms) if terms else np.zeros(len(text.passages), np.float32)
        chosen: dict[int, None] = {} if positive is None else {positive: None}
        by_words = _top(lexical, 3 * documents)
        by_words = [index for index in by_words if lexical[index] > 0]
        if vectors is None:
            chosen |= dict.fromkeys(by_words[:1])
        else:
            by_meaning = _top(similar[number % _BLOCK], 30 * documents)
            chosen |= dict.fromkeys(by_meaning[:1])
            chosen |= dict.fromkeys(_sample(generator, by_meaning[1 : 3 * documents], near))
            chosen |= dict.fromkeys(_sample(generator, by_meaning[3 * documents :], 1))
        chosen |= dict.fromkeys(_sample(generator, by_words, near))
        while len(chosen) < min(documents, len(text.passages)):
            chosen[generator.choice(everything)] = None
        kept = list(chosen)[:documents]
        best = float(lexical.max()) or 1.0
        yield Candidates(
            query,
            tuple(text.passages[i] for i in kept),
            tuple(round(float(lexical[i]) / best, 4) for i in kept),
        )


def _top(scores: NDArray[np.float32], count: int) -> list[int]:
    count = min(count, len(scores))
    nearest = np.argpartition(-scores, count - 1)[:count]
    ordered: list[int] = nearest[np.argsort(-scores[nearest], kind="stable")].tolist()
    return ordered


def _sample(generator: random.Random, items: Sequence[int], count: int) -> list[int]:
    return generator.sample(list(items), min(count, len(items)))
