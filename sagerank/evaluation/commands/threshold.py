"""`sagerank eval threshold`: the cut-off for a wanted precision, and where to keep it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from sagerank_cost.text import fit
from sagerank_inference.artefact import Threshold
from sagerank_inference.scale import Scale

from ...models.amend import amend
from ..metrics import Interval
from ..scorer import scale_of
from ..scores import ScoreStore
from ..threshold import Cutoff, Labelled, cutoff
from . import inputs, judged


def run(options: argparse.Namespace, store: ScoreStore) -> int:
    spec = (options.model or ["micro"])[0]
    if options.store:
        judged.check_artefact(Path(spec))
    scorer = inputs.scorer(spec, options)
    name, queries = judged.read(options)
    pairs = [
        Labelled(query.key, logit, relevant)
        for query, logits in judged.scored(name, queries, scorer, store)
        for logit, relevant in zip(logits, query.relevant, strict=True)
    ]
    found = cutoff(pairs, options.precision)
    if options.store:
        amend(Path(spec), _threshold(found))
    scale = scale_of(scorer)
    if options.json:
        facts = dataclasses.asdict(found) | {"data": name, "model": spec, "score": scale.score(found.logit)}
        print(json.dumps(_finite(facts), indent=2))
        return 0
    _show(found, name, spec, scale, stored=bool(options.store))
    return 0


def _threshold(found: Cutoff) -> Threshold:
    return Threshold(
        logit=found.logit,
        low=found.low,
        high=found.high,
        precision=found.wanted,
        pairs=found.pairs,
        queries=found.queries,
    )


def _show(found: Cutoff, name: str, spec: str, scale: Scale, *, stored: bool) -> None:
    def both(logit: float) -> str:
        return f"{scale.score(logit):.4f} (logit {logit:.3f})"

    print(
        fit(
            f"{spec}: keep what scores {both(found.logit)} or more, for a precision of {found.wanted:g} on {name}.",
            "",
            [
                ("", "value", "95 % interval"),
                (
                    "score",
                    f"{scale.score(found.logit):.4f}",
                    f"{scale.score(found.low):.4f} to {scale.score(found.high):.4f}",
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
        print(fit(f'In a request: "min_score": {scale.score(found.logit)}'))


def _cells(interval: Interval) -> tuple[str, str]:
    return f"{interval.mean:.3f}", f"{interval.low:.3f} to {interval.high:.3f}"


def _finite(value: Any) -> Any:
    """Return the value with null where there is no number: JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
