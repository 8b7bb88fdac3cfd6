"""`sagerank eval calibrate`: the temperature and the shift of a model's scores, how true they are with them, and the artefact that keeps them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sagerank_cost.text import fit as shown
from sagerank_cost.text import width
from sagerank_inference.archive import manifest_sha256

from ...models.amend import amend
from ..calibration import Bin, Fitted, Known, fit
from ..draw import reliability_picture, reliability_text
from ..scorer import Scorer, scale_of
from ..scores import ScoreStore
from . import inputs, judged

_JUDGEMENTS = "judgements"


def run(options: argparse.Namespace, store: ScoreStore) -> int:
    spec = (options.model or ["micro"])[0]
    if options.store:
        judged.check_artefact(Path(spec))
    scorer = inputs.scorer(spec, options)
    teacher = inputs.scorer(options.teacher, options) if options.teacher else None
    name, queries = judged.read(options)
    known = _known(name, queries, teacher, store)
    pairs = [
        Known(query.key, logit, probability)
        for query, logits in judged.scored(name, queries, scorer, store)
        for logit, probability in zip(logits, known[query.key], strict=True)
    ]
    found = fit(pairs, before=scale_of(scorer))
    facts: dict[str, Any] = {
        "data": name,
        "model": spec,
        "target": teacher.name if teacher else _JUDGEMENTS,
        **found.facts(),
    }
    if options.store:
        amend(Path(spec), found.calibration(facts["target"], name))
        facts["manifest_sha256"] = manifest_sha256(Path(spec))
    title = f"{spec}: scores against {options.teacher or _JUDGEMENTS}, {name}"
    if options.plot:
        reliability_picture(found, title, facts["target"], options.plot)
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    _show(found, title, options.teacher)
    if options.store:
        print(shown(_stored(spec, facts["manifest_sha256"])))
    else:
        print(shown("Nothing was written: --store keeps both numbers in the artefact."))
    return 0


def _known(
    name: str, queries: Sequence[judged.Judged], teacher: Scorer | None, store: ScoreStore
) -> dict[str, list[float]]:
    """Return the probabilities that are known of each query's documents: of the judgements, or the teacher's scores."""
    if teacher is None:
        return {query.key: [float(one) for one in query.relevant] for query in queries}
    scale = scale_of(teacher)
    return {
        query.key: [scale.score(logit) for logit in logits]
        for query, logits in judged.scored(name, queries, teacher, store)
    }


def _stored(spec: str, manifest: str) -> str:
    return (
        f"Stored in {spec}. The SHA-256 of its manifest is another one now, {manifest}: what is deployed from it and pinned "
        "goes on as it was, and refuses this one until `sagerank deploy` is run again."
    )


def _show(found: Fitted, title: str, teacher: str | None) -> None:
    truth = "teacher's mean score" if teacher else "share relevant"
    cells: list[tuple[str, ...]] = [
        ("score", "pairs before", "mean score", truth, "pairs after", "mean score", truth)
    ]
    for old, new in zip(found.before.bins, found.after.bins, strict=True):
        cells.append((f"{old.low:.1f} to {old.high:.1f}", *_cells(old), *_cells(new)))
    print(
        shown(
            title,
            "",
            cells,
            "",
            [
                ("", "before", "after, on queries left out"),
                ("expected calibration error", f"{found.before.error:.4f}", f"{found.after.error:.4f}"),
                (
                    "mean squared distance" if teacher else "Brier score",
                    f"{found.before.brier:.4f}",
                    f"{found.after.brier:.4f}",
                ),
            ],
            "",
        )
    )
    print(reliability_text(found, title, width()))
    print(
        shown(
            "",
            f"Temperature {found.temperature:.4g}, shift {found.shift:+.4g}: a score is sigmoid((logit - shift) / temperature). "
            f"{found.pairs:,} pairs of {found.queries:,} queries; {truth} {found.mean:.3f} in all. The ranking stays as it is.",
        )
    )


def _cells(row: Bin) -> tuple[str, str, str]:
    if not row.pairs:
        return "0", "", ""
    return f"{row.pairs:,}", f"{row.score:.3f}", f"{row.known:.3f}"
