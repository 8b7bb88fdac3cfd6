"""`sagerank eval threshold`: the cut-off for a wanted precision, and where to keep it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sagerank_cost.text import fit
from sagerank_inference.artefact import Manifest, Threshold
from sagerank_inference.dialects import sigmoid

from ...models.threshold import store as keep
from .. import EvaluationError
from ..evaluate import Ranking
from ..metrics import Interval
from ..scorer import Scorer
from ..scores import ScoreStore
from ..threshold import Cutoff, Labelled, cutoff
from . import inputs


def run(options: argparse.Namespace, store: ScoreStore) -> int:
    spec = (options.model or ["micro"])[0]
    if options.store:
        Manifest.read(Path(spec)) if Path(spec).is_dir() else _check_archive(Path(spec))
    scorer = inputs.scorer(spec, options)
    if options.labels:
        name, pairs = options.labels.name, _labelled(options.labels, options, scorer, store)
    else:
        collection, base = inputs.candidates(options.data[0], options)
        ranking = inputs.ranking(collection, base, scorer, store, options)
        name, pairs = collection.name, _judged(ranking, collection.qrels, options.relevant_from)
    found = cutoff(pairs, options.precision)
    if options.store:
        keep(Path(spec), _threshold(found))
    if options.json:
        facts = dataclasses.asdict(found) | {"data": name, "model": spec, "score": sigmoid(found.logit)}
        print(json.dumps(_finite(facts), indent=2))
        return 0
    _show(found, name, spec, stored=bool(options.store))
    return 0


def _check_archive(path: Path) -> None:
    if not path.is_file():
        raise EvaluationError(
            f"--store writes into an artefact of `sagerank build`, and {path} is no folder or model.tar.gz: build one, and give it as --model."
        )


def _judged(ranking: Ranking, qrels: dict[str, dict[str, int]], relevant_from: int) -> list[Labelled]:
    """Return the candidates of a collection; what nobody judged is not relevant, as trec_eval counts."""
    return [
        Labelled(query, logit, qrels[query].get(document, 0) >= relevant_from)
        for query, rows in ranking.run.items()
        for document, logit in rows
    ]


def _labelled(path: Path, options: argparse.Namespace, scorer: Scorer, store: ScoreStore) -> list[Labelled]:
    """Return the pairs of a file, scored query by query."""
    rows: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for query, document, relevant in _rows(path, options.relevant_from):
        rows[query].append((document, relevant))
    if not rows:
        raise EvaluationError(f'{path} is empty: give lines with "query", "document" and "label".')
    pairs = []
    for query, documents in rows.items():
        logits = store.score(scorer, query, [document for document, _ in documents])
        pairs += [
            Labelled(query, logit, relevant) for logit, (_, relevant) in zip(logits, documents, strict=True)
        ]
    return pairs


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


def _threshold(found: Cutoff) -> Threshold:
    return Threshold(
        logit=found.logit,
        low=found.low,
        high=found.high,
        precision=found.wanted,
        pairs=found.pairs,
        queries=found.queries,
    )


def _show(found: Cutoff, name: str, spec: str, *, stored: bool) -> None:
    def both(logit: float) -> str:
        return f"{sigmoid(logit):.4f} (logit {logit:.3f})"

    print(
        fit(
            f"{spec}: keep what scores {both(found.logit)} or more, for a precision of {found.wanted:g} on {name}.",
            "",
            [
                ("", "value", "95 % interval"),
                (
                    "score",
                    f"{sigmoid(found.logit):.4f}",
                    f"{sigmoid(found.low):.4f} to {sigmoid(found.high):.4f}",
                ),
                ("logit", f"{found.logit:.3f}", f"{found.low:.3f} to {found.high:.3f}"),
                ("precision on these labels", f"{found.precision:.3f}", ""),
                ("recall on these labels", f"{found.recall:.3f}", ""),
                ("precision on queries left out", *_cells(found.held_out_precision)),
                ("recall on queries left out", *_cells(found.held_out_recall)),
            ],
            "",
            f"{found.pairs:,} pairs of {found.queries:,} queries, {found.relevant:,} relevant.",
        )
    )
    for warning in found.warnings:
        inputs.note(warning)
    if stored:
        print(fit(f'Stored in {spec}: requests may say "min_score": "calibrated".'))
    else:
        print(fit(f'In a request: "min_score": {sigmoid(found.logit)}'))


def _cells(interval: Interval) -> tuple[str, str]:
    return f"{interval.mean:.3f}", f"{interval.low:.3f} to {interval.high:.3f}"


def _finite(value: Any) -> Any:
    """Return the value with null where there is no number: JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
