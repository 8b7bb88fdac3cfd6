"""The scale of a student's scores, fitted to its teacher's on the gate's pairs, so that a threshold of one is a threshold of the other."""

from __future__ import annotations

from collections.abc import Sequence

from sagerank.evaluation import EvaluationError
from sagerank.evaluation.calibration import Fitted, Known, fit
from sagerank_inference.artefact import Calibration
from sagerank_inference.scale import AS_IT_IS

from .card import public
from .gate import Rankings


def calibrated(rankings: Sequence[Rankings]) -> Fitted | str:
    """Fit temperature and shift to the teacher's scores of every candidate of the gate, or say why they cannot be."""
    pairs = [
        Known(f"{row.collection.name} {query}", logit, row.teacher_scale.score(teacher[document]))
        for row in rankings
        for query, candidates in row.student.run.items()
        for teacher in [dict(row.teacher.run[query])]
        for document, logit in candidates
    ]
    try:
        return fit(pairs, before=AS_IT_IS)
    except EvaluationError as error:
        return str(error)


def calibration(found: Fitted, teacher: str, rankings: Sequence[Rankings]) -> Calibration:
    """Return what the student's manifest says of its scores. teacher: its spec."""
    return found.calibration(public(teacher), ", ".join(row.collection.name for row in rankings))


def sentence(found: Fitted | str) -> str:
    """Say for a reader what the scores are worth."""
    if isinstance(found, str):
        return f"Scores are the sigmoid of the logits; they were not fitted to the teacher's: {found}"
    return (
        f"A score is sigmoid((logit - {found.shift:.4g}) / {found.temperature:.4g}), fitted to the teacher's scores of {found.pairs:,} pairs, so that a "
        f"threshold carries over. The expected calibration error against them is {found.after.error:.3f} on queries left out, without the fit {found.before.error:.3f}."
    )
