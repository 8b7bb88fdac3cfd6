"""The picture holds what was measured, and is reproducible."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sagerank.distillation.draw import picture
from sagerank.distillation.gate import StudentQuality
from sagerank.evaluation import EvaluationError
from sagerank.evaluation.metrics import Difference


def test_the_picture_holds_the_gate_and_the_last_run_of_each_step(tmp_path: Path) -> None:
    steps = [(10, 3.0), (20, 9.0), (20, 2.0), (30, 1.0)]  # killed after 20, and gone on from 10
    log = "".join(json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in steps)
    (tmp_path / "log.jsonl").write_text(log)
    row = StudentQuality(
        data="heldout",
        queries=40,
        first_stage=0.611,
        start=0.222,
        student=0.733,
        teacher=0.844,
        over_first_stage=Difference(0.122, 0.1, 0.2, 0.01),
    )
    for name in ("a.svg", "b.svg", "c.png"):
        picture(tmp_path, [row], tmp_path / name)
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    for word in ("heldout, 40 queries", "before training", "0.611", "0.222", "0.733", "0.844"):
        assert word in drawn
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "log.jsonl").write_text(log.replace('{"step": 20, "loss": 9.0}\n', ""))
    picture(tmp_path, [row], tmp_path / "d.svg")
    assert (tmp_path / "d.svg").read_text() == drawn
    with pytest.raises(EvaluationError, match="ends in"):
        picture(tmp_path, [row], tmp_path / "curve.bmp")
