"""Candidates to rerank: BM25 over the collection, or somebody's TREC run file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .collection import Collection, CollectionError, numbered_lines
from .lexical import bm25s

# query id -> (document id, score), best first
Run = dict[str, list[tuple[str, float]]]


def bm25(collection: Collection, top_k: int) -> Run:
    """Lucene's BM25 (k1 1.5, b 0.75) over English tokens without stop words, by bm25s."""
    identifiers = list(collection.documents)
    index = bm25s.BM25()
    index.index(_tokens(list(collection.documents.values())), show_progress=False)
    found, scores = index.retrieve(
        _tokens(list(collection.queries.values())), k=min(top_k, len(identifiers)), show_progress=False
    )
    return {
        query: ranked(
            {
                identifiers[place]: float(score)
                for place, score in zip(row, row_scores, strict=True)
                if score > 0
            }
        )
        for query, row, row_scores in zip(collection.queries, np.asarray(found).tolist(), scores, strict=True)
    }


def stems(texts: Sequence[str]) -> list[list[str]]:
    """The stems of each text in their order, without English stop words: what BM25 counts."""
    numbered = _tokens(texts)
    names = {number: stem for stem, number in numbered.vocab.items()}
    return [[names[number] for number in text] for text in numbered.ids]


def _tokens(texts: Sequence[str]) -> bm25s.tokenization.Tokenized:
    from Stemmer import Stemmer

    return bm25s.tokenize(list(texts), stopwords="en", stemmer=Stemmer("english"), show_progress=False)


def read_run(path: Path, collection: Collection, top_k: int) -> Run:
    """The best `top_k` of each query of a TREC run file (query Q0 document rank score tag), by score.

    Raises CollectionError at the line that is malformed or names what the collection does not have. Queries of
    the collection that the file lacks stay without candidates, and count; documents without text are left out.
    """
    if not path.is_file():
        raise CollectionError(f"The run file {path} does not exist.")
    run: dict[str, dict[str, float]] = {}
    for where, line in numbered_lines(path):
        cells = line.split()
        if len(cells) != 6:
            raise CollectionError(
                f"{where}: expected query Q0 document rank score tag; found {len(cells)} cells."
            )
        query, _, document, _, score, _ = cells
        if document in collection.empty:
            continue
        if document not in collection.documents:
            raise CollectionError(
                f"{where}: the document {document!r} is not in the corpus: the run belongs to another collection."
            )
        if document in run.setdefault(query, {}):
            raise CollectionError(f"{where}: the document {document!r} occurs twice for query {query!r}.")
        try:
            run[query][document] = float(score)
        except ValueError:
            run[query][document] = math.nan
        if not math.isfinite(run[query][document]):
            raise CollectionError(f"{where}: the score {score!r} is not a finite number.")
    if not run.keys() & collection.queries.keys():
        raise CollectionError(
            f"{path} ranks none of the collection's judged queries: it belongs to another collection."
        )
    return {query: ranked(run.get(query, {}))[:top_k] for query in collection.queries}


def ranked(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    """Best first as trec_eval ranks: by the 32-bit score, equal ones by document id, descending."""
    return sorted(scores.items(), key=lambda item: (np.float32(item[1]), item[0]), reverse=True)


def write_run(run: Run, path: Path, tag: str) -> None:
    if path.exists() and not path.is_file():
        raise CollectionError(f"{path} is no regular file: give another name for the run.")
    path = path.resolve()  # what a link points to, and not the link, is replaced
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        for query, rows in run.items():
            for rank, (document, score) in enumerate(rows, 1):
                file.write(f"{query} Q0 {document} {rank} {score:.9g} {tag}\n")
    part.replace(path)
