"""`sagerank eval table`: NDCG@10 and throughput of each model beside what the announcement printed."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

from sagerank_cost.text import fit, width

from ..announcement import compared, not_run, reasons, table_cells
from ..collection import Collection, CollectionError
from ..draw import Point, picture, scatter_text
from ..evaluate import Ranking
from ..published import Published
from ..scorer import EngineScorer, Scorer
from ..scores import ScoreStore
from . import inputs


def run(options: argparse.Namespace, store: ScoreStore) -> int:
    prepared = [inputs.candidates(source, options) for source in options.data]
    rows = [_row(spec, entry, prepared, store, options) for spec, entry in compared(options.model)]
    first = {collection.name: 100 * base.mean() for collection, base in prepared}
    title, cells = "NDCG@10 over " + ", ".join(first), table_cells(rows, first)
    points = [
        Point(row["name"], row["documents_per_50_ms"], row["ndcg"]) for row in rows if row["ndcg"] is not None
    ]
    if options.plot and points:
        picture(points, title, cells, options.plot)
    elif options.plot:
        inputs.note(f"no model was run, and {options.plot} was not written")
    if options.json:
        print(json.dumps({"data": list(first), "first_stage": first, "rows": rows}, indent=2))
        return 0
    what = "NDCG@10 in points. Published: mean over BEIR. Ours: mean over " + ", ".join(first)
    print(fit(what, cells, *reasons(rows)))
    if points:
        print(scatter_text(points, title, width()))
    return 0


def _row(
    spec: str,
    entry: Published | None,
    prepared: Sequence[tuple[Collection, Ranking]],
    store: ScoreStore,
    options: argparse.Namespace,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": entry.name if entry else spec,
        "scorer": spec,
        "layers": entry.layers if entry else None,
        "millions": entry.millions if entry else None,
        "published_ndcg": entry.ndcg if entry else None,
        "ndcg": None,
    }
    with not_run(row):
        scorer = inputs.scorer(spec, options)
        if isinstance(scorer, EngineScorer):
            row["millions"] = round(scorer.parameters / 1e6, 1)
        row["by_data"] = {
            collection.name: 100 * inputs.ranking(collection, base, scorer, store, options).mean()
            for collection, base in prepared
        }
        row["ndcg"] = sum(row["by_data"].values()) / len(prepared)
        row["gap"] = row["ndcg"] - entry.ndcg if entry else None
        row["documents_per_50_ms"] = _throughput(scorer, *prepared[0])
    return row


def _throughput(scorer: Scorer, collection: Collection, base: Ranking) -> float:
    """Documents per 50 ms, the announcement's unit, tokenisation included: the median of three calls.

    Each scores all candidates of the first query that has some, after one that warms up. Comparable only
    between scorers measured in one process on one machine, with the same documents.
    """
    query, found = next(((query, found) for query, found in base.run.items() if found), ("", []))
    if not found:
        raise CollectionError(f"{collection.name}: the first stage finds no document for any query.")
    text, documents = collection.queries[query], [collection.documents[document] for document, _ in found]
    times = []
    for _ in range(4):
        start = time.perf_counter()
        scorer.score(text, documents)
        times.append(time.perf_counter() - start)
    return 0.05 * len(documents) / statistics.median(times[1:])
