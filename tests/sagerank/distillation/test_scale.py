"""The scale of a student's scores, of what the gate measured."""

from __future__ import annotations

import random

import pytest

from sagerank.distillation.gate import Rankings
from sagerank.distillation.scale import calibrated, calibration, sentence
from sagerank.evaluation.calibration import Fitted
from sagerank.evaluation.collection import Collection
from sagerank.evaluation.evaluate import Ranking
from sagerank_inference.scale import Scale


def measured(factor: float, offset: float, *, queries: int = 12) -> Rankings:
    """A student whose logits are the teacher's at another scale; the teacher's own scores are scaled too."""
    draw = random.Random(7)
    teacher = {
        f"q{q}": [
            (f"d{d}", logit) for d, logit in enumerate(sorted(draw.gauss(0, 3) for _ in range(8))[::-1])
        ]
        for q in range(queries)
    }
    student = {
        query: [(document, factor * logit + offset) for document, logit in reversed(rows)]
        for query, rows in teacher.items()
    }
    rankings = {"teacher": teacher, "student": student, "start": student, "first_stage": teacher}
    return Rankings(
        collection=Collection(name="set", documents={}, queries=dict.fromkeys(teacher, "?"), qrels={}),
        teacher_scale=Scale(2.0, 1.0),
        **{name: Ranking(name, run, {}) for name, run in rankings.items()},
    )


def test_a_student_at_another_scale_answers_its_teachers_scores() -> None:
    rows = [measured(3.0, -2.0)]
    found = calibrated(rows)
    assert isinstance(found, Fitted)
    # (3 t - 2 - shift) / temperature = (t - 1) / 2
    assert (found.temperature, found.shift) == pytest.approx((6.0, 1.0), rel=1e-4)
    assert found.after.error < 1e-3 < found.before.error
    kept = calibration(found, "http://me:secret@host/", rows)
    assert (kept.data, kept.pairs, kept.queries) == ("set", 96, 12)
    assert "secret" not in kept.target
    assert len(calibration(found, "micro", rows * 400).data) <= 1000, "an artefact takes no more"
    assert "sigmoid((logit - 1) / 6)" in sentence(found)


def test_a_scale_that_cannot_be_fitted_is_said_and_no_failure() -> None:
    found = calibrated([measured(-1.0, 0.0)])
    assert isinstance(found, str)
    assert "do not rise" in found
    assert "were not fitted to the teacher's" in sentence(calibrated([measured(1.0, 0.0, queries=2)]))
