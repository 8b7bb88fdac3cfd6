"""Judged pairs of --data or --labels, and what a model scores them: what a cut-off and a calibration are found on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sagerank_inference.artefact import Manifest

from .. import EvaluationError
from ..scorer import Scorer
from ..scores import ScoreStore
from . import inputs


@dataclass(frozen=True, slots=True)
class Judged:
    """A query with documents, and of each whether it is relevant."""

    key: str  # which no other query has
    text: str
    documents: list[str] = field(default_factory=list)
    relevant: list[bool] = field(default_factory=list)


def read(options: argparse.Namespace) -> tuple[str, list[Judged]]:
    """Return the name of what the options name, and its queries: the lines of --labels, or the candidates of --data.

    What nobody judged of the candidates is not relevant, as trec_eval counts.
    """
    if options.labels:
        return options.labels.name, _labels(options.labels, options.relevant_from)
    collection, base = inputs.candidates(options.data[0], options)
    queries = []
    for key, rows in base.run.items():
        grades = collection.qrels[key]
        queries.append(
            Judged(
                key,
                collection.queries[key],
                [collection.documents[document] for document, _ in rows],
                [grades.get(document, 0) >= options.relevant_from for document, _ in rows],
            )
        )
    return collection.name, queries


def scored(
    name: str, queries: Sequence[Judged], scorer: Scorer, store: ScoreStore
) -> Iterator[tuple[Judged, list[float]]]:
    """Yield each query that has documents with their logits, behind a progress bar of that name."""
    pairs = sum(len(query.documents) for query in queries)
    with inputs.bar(pairs, f"{name} {scorer.name}"[:60], "pair") as progress:
        for query in queries:
            if query.documents:
                yield query, store.score(scorer, query.text, query.documents)
            progress.update(len(query.documents))


def check_artefact(path: Path) -> None:
    """Raise an error unless --store can write there: before hours of scoring rather than after."""
    if path.is_dir():
        Manifest.read(path)
    elif not path.is_file():
        raise EvaluationError(
            f"--store writes into an artefact of `sagerank build`, and {path} is no folder or model.tar.gz: build one, and give it as --model."
        )


def _labels(path: Path, relevant_from: int) -> list[Judged]:
    queries: dict[str, Judged] = {}
    for text, document, relevant in _rows(path, relevant_from):
        query = queries.setdefault(text, Judged(text, text))
        query.documents.append(document)
        query.relevant.append(relevant)
    if not queries:
        raise EvaluationError(f'{path} is empty: give lines with "query", "document" and "label".')
    return list(queries.values())


def _rows(path: Path, relevant_from: int) -> Iterator[tuple[str, str, bool]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise EvaluationError(f"{path} is not UTF-8: write it anew.") from None
    # Not splitlines(), which takes characters inside a text for ends of lines.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
            query, document, label = row["query"], row["document"], row["label"]
            f"{query}{document}".encode()  # half of a surrogate pair is no text
        except (ValueError, KeyError, TypeError, RecursionError):
            raise EvaluationError(
                f'{path}:{number} is no object with "query", "document" and "label": mend the line.'
            ) from None
        if not isinstance(query, str) or not isinstance(document, str) or not query.strip():
            raise EvaluationError(
                f"{path}:{number}: query and document must be strings, and the query not blank."
            )
        if not isinstance(label, bool | int | float):
            raise EvaluationError(f"{path}:{number}: label must be true, false or a grade.")
        yield query, document, label if isinstance(label, bool) else label >= relevant_from
