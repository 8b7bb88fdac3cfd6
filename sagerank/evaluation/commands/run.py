"""`sagerank eval`: a first stage and its rerankings by each model, with confidence and paired differences."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from sagerank_cost.text import fit

from ..collection import Collection
from ..evaluate import Ranking
from ..first_stage import write_run
from ..scores import ScoreStore
from . import inputs

METRICS = ("ndcg@10", "mrr@10", "map", "recall@10", "recall@100")


def run(options: argparse.Namespace, store: ScoreStore) -> int:
    specs = options.model or ["micro"]
    scorers = [inputs.scorer(spec, options) for spec in specs]
    results = []
    for source in options.data:
        collection, base = inputs.candidates(source, options)
        rankings = [inputs.ranking(collection, base, scorer, store, options) for scorer in scorers]
        results.append(_result(collection, base, rankings))
        if not options.json:
            _show(results[-1], specs)
        if options.save_run:
            write_run(rankings[-1].run, options.save_run, "sagerank")
    if options.json:
        print(json.dumps(results[0] if len(results) == 1 else results, indent=2))
    return 0


def _result(collection: Collection, base: Ranking, rankings: Sequence[Ranking]) -> dict[str, Any]:
    models = []
    for place, ranking in enumerate(rankings):
        difference = {"first_stage": dataclasses.asdict(ranking.versus(base))}
        for other in rankings[:place]:
            difference[other.name] = dataclasses.asdict(ranking.versus(other))
        models.append(_row(ranking) | {"ndcg@10_minus": difference})
    return {
        "data": collection.name,
        "documents": len(collection.documents),
        "queries": len(collection.queries),
        "first_stage": _row(base),
        "models": models,
    }


def _row(ranking: Ranking) -> dict[str, Any]:
    interval = ranking.interval("ndcg@10")
    means = {metric: ranking.mean(metric) for metric in METRICS}
    return {"name": ranking.name, **means, "ndcg@10_95": [interval.low, interval.high]}


def _show(result: dict[str, Any], specs: Sequence[str]) -> None:
    """The models by the names they were asked for by: those of JSON say which weights they are."""
    models = list(zip(specs, result["models"], strict=True))
    asked = {row["name"]: spec for spec, row in models}
    cells: list[tuple[str, ...]] = [("ranking", *METRICS, "NDCG@10, 95 %")]
    for name, row in (("first stage", result["first_stage"]), *models):
        low, high = row["ndcg@10_95"]
        cells.append((name, *(f"{row[metric]:.3f}" for metric in METRICS), f"{low:.3f} to {high:.3f}"))
    first = result["first_stage"]["name"]
    title = f"{result['data']}: {result['queries']} queries, {result['documents']:,} documents, first stage {first}"
    differences = [
        f"{spec} - {asked.get(other, 'first stage')}: {difference['mean']:+.4f} NDCG@10 "
        f"(95 % {difference['low']:+.4f} to {difference['high']:+.4f}, p = {difference['p']:.4f})"
        for spec, row in models
        for other, difference in row["ndcg@10_minus"].items()
    ]
    print(fit(title, cells, *differences))
