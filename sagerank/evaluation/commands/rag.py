"""`sagerank eval rag`: hit rate and MRR of each embedder, alone and with each reranker."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from sagerank_cost.text import fit

from ..announcement import compared, not_run, rag_cells, reasons
from ..progress import bars
from ..questions import Questions, from_collection, read_questions
from ..rag import RagRow, benchmark, mean_over_embedders
from ..retrieval import open_retriever
from ..scorer import Scorer
from ..scores import ScoreStore
from . import inputs


def run(options: argparse.Namespace, store: ScoreStore) -> int:
    questions, retrieve = _questions(options), options.top_k or 10
    vectors = options.cache and options.cache.with_name(f"{options.cache.name}.vectors")
    retrievers = [
        open_retriever(spec, threads=options.threads or 1, vectors=vectors) for spec in options.embedder
    ]
    means, scorers = _rerankers(options)
    with bars() as progress:
        rows = benchmark(
            questions,
            retrievers,
            list(scorers.values()),
            store,
            retrieve=retrieve,
            keep=options.keep,
            progress=progress,
        )
    measured = {row.reranker: row for row in mean_over_embedders(rows)}
    for row in means:
        if row["scorer"] in scorers:
            _fill(row, measured[scorers[row["scorer"]].name])
    alone = measured[None]
    means.insert(0, {"name": "none", "scorer": None, "hit_rate": alone.hit_rate, "mrr": alone.mrr})
    if options.json:
        print(json.dumps({"rows": [dataclasses.asdict(row) for row in rows], "mean": means}, indent=2))
        return 0
    title = (
        f"{len(questions.questions)} questions, {len(questions.contexts):,} contexts: "
        f"{retrieve} retrieved, {options.keep} kept"
    )
    cells = [("embedder", "reranker", "hit rate", "MRR")]
    cells += [(row.embedder, row.reranker or "none", f"{row.hit_rate:.4f}", f"{row.mrr:.4f}") for row in rows]
    print(fit("Mean over embedders; gap to the published value in points", rag_cells(means), *reasons(means)))
    print(fit("", title, cells))
    return 0


def _questions(options: argparse.Namespace) -> Questions:
    if options.questions:
        found = read_questions(options.questions)
    else:
        found = from_collection(
            inputs.collection(options.data[0], options), relevant_from=options.relevant_from
        )
    return found.first(options.queries)


def _rerankers(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Scorer]]:
    """A row for each with its published values, and those that can be had, by what they were asked for as."""
    rows: list[dict[str, Any]] = []
    scorers: dict[str, Scorer] = {}
    for spec, entry in compared(options.model):
        row: dict[str, Any] = {
            "name": entry.name if entry else spec,
            "scorer": spec,
            "published_hit_rate": entry.hit_rate if entry else None,
            "published_mrr": entry.mrr if entry else None,
            "hit_rate": None,
            "mrr": None,
        }
        rows.append(row)
        with not_run(row):
            scorers[spec] = inputs.scorer(spec, options)
    return rows, scorers


def _fill(row: dict[str, Any], mean: RagRow) -> None:
    row |= {"hit_rate": mean.hit_rate, "mrr": mean.mrr}
    for name in ("hit_rate", "mrr"):
        published = row[f"published_{name}"]
        row[f"{name}_gap"] = None if published is None else 100 * (row[name] - published)
