"""What finds a question's contexts before a reranker orders them: BM25, latent semantic analysis, or a bi-encoder."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from . import EvaluationError
from .collection import Collection
from .embedder import FAMILIES, Embedder, open_embedder
from .first_stage import bm25, stems
from .progress import Progress
from .questions import Questions
from .scorer import ScorerError

# Question id -> context ids, best first
Ranking = dict[str, list[str]]


def _silent(*_: object) -> None:
    """Report to nobody."""


class Retriever(Protocol):
    name: str

    def retrieve(self, questions: Questions, count: int, progress: Progress = _silent) -> Ranking:
        """The best `count` contexts of every question; fewer where it finds no more."""
        ...


class Lexical:
    """BM25, as `sagerank eval` has it for a first stage."""

    name = "bm25"

    def retrieve(self, questions: Questions, count: int, progress: Progress = _silent) -> Ranking:
        collection = Collection(
            name=self.name, documents=questions.contexts, queries=questions.questions, qrels={}
        )
        found = bm25(collection, count)
        progress(self.name, len(found), len(found))
        return {query: [context for context, _ in rows] for query, rows in found.items()}


class Latent:
    """Latent semantic analysis (Deerwester et al. 1990), fitted to the contexts: a bi-encoder without a download."""

    name = "lsa"

    def retrieve(self, questions: Questions, count: int, progress: Progress = _silent) -> Ranking:
        # Not kept on disk: these vectors depend on all contexts, and are made in no time.
        return Nearest(latent(list(questions.contexts.values()))).retrieve(questions, count, progress)


class Nearest:
    """The contexts whose vectors are nearest to the question's, by cosine.

    vectors: folder in which embeddings are kept, so that a killed run goes on and a second one embeds nothing.
    """

    def __init__(self, embedder: Embedder, vectors: Path | None = None) -> None:
        self.name, self._embedder, self._vectors = embedder.name, embedder, vectors

    def retrieve(self, questions: Questions, count: int, progress: Progress = _silent) -> Ranking:
        identifiers = list(questions.contexts)
        contexts = self._embed("passages", list(questions.contexts.values()), progress)
        asked = self._embed("queries", list(questions.questions.values()), progress)
        nearest = np.argsort(-(asked @ contexts.T), axis=1, kind="stable")[:, :count].tolist()
        return {
            query: [identifiers[index] for index in row]
            for query, row in zip(questions.questions, nearest, strict=True)
        }

    def _embed(self, side: str, texts: Sequence[str], progress: Progress) -> NDArray[np.float32]:
        """[texts, dimension]; parts of 256 are kept under a hash of the embedder and their texts."""
        parts = []
        for start in range(0, len(texts), 256):
            chunk = texts[start : start + 256]
            if self._vectors is None:
                parts.append(getattr(self._embedder, side)(chunk))
            else:
                key = hashlib.sha256(json.dumps([self.name, side, chunk]).encode()).hexdigest()[:32]
                path = self._vectors / f"{key}.npy"
                if not path.exists():
                    self._vectors.mkdir(parents=True, exist_ok=True)
                    part = self._vectors / f"{key}.part.npy"
                    np.save(part, getattr(self._embedder, side)(chunk))
                    part.replace(path)
                parts.append(np.load(path))
            progress(f"{self.name}: embed {side}", start + len(chunk), len(texts))
        return np.concatenate(parts)


def latent(contexts: Sequence[str], dimension: int = 128) -> Embedder:
    """Fit an embedder to the contexts: TF-IDF of their stems, projected onto its first singular vectors.

    A text that shares no stem with them has a vector of zeros. Raises EvaluationError for fewer than two contexts
    or stems: there is nothing to project.
    """
    columns = {stem: column for column, stem in enumerate(sorted(set().union(*stems(contexts))))}
    if min(len(contexts), len(columns)) < 2:
        raise EvaluationError("lsa is fitted to the contexts: give at least two, of different words.")

    def counts(texts: Sequence[str]) -> sparse.csr_array:
        cells = Counter(
            (row, columns[stem])
            for row, words in enumerate(stems(texts))
            for stem in words
            if stem in columns
        )
        places = np.array(list(cells), np.int64).reshape(-1, 2).T
        values = 1 + np.log(np.array(list(cells.values()), np.float64))
        return sparse.csr_array((values, (places[0], places[1])), shape=(len(texts), len(columns)))

    fitted = counts(contexts)
    frequency = np.bincount(fitted.indices, minlength=len(columns))
    weight = sparse.diags_array(1 + np.log((1 + len(contexts)) / (1 + frequency)))
    rows = fitted @ weight
    lengths = sparse.diags_array(1 / np.maximum(sparse.linalg.norm(rows, axis=1), 1e-12))
    size = min(dimension, len(contexts) - 1, len(columns) - 1)
    # Equal contexts give equal vectors: the iteration starts from ones and not at random.
    _, _, axes = sparse.linalg.svds(lengths @ rows, k=size, v0=np.ones(min(fitted.shape)))

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        projected = counts(texts) @ weight @ axes.T
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        return np.asarray(projected / np.maximum(norms, 1e-12), np.float32)

    return Embedder(f"{Latent.name}/{size}", embed)


def open_retriever(spec: str, *, threads: int = 1, vectors: Path | None = None) -> Retriever:
    """Open bm25 or lsa, which need no weights, or any embedder of `open_embedder`; its vectors are kept in a folder."""
    if spec == Lexical.name:
        return Lexical()
    if spec == Latent.name:
        return Latent()
    if ":" not in spec:
        families = ", ".join(f"{name}:FOLDER" for name in FAMILIES)
        raise ScorerError(f"The embedder {spec!r} is unknown: give bm25, lsa, {families} or hf:NAME.")
    return Nearest(open_embedder(spec, threads=threads), vectors)
