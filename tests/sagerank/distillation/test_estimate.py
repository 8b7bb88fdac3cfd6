"""Sizes, hours and dollars before anything is run."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from pathlib import Path

import pytest

from sagerank.cli import main
from sagerank.distillation import DistillationError
from sagerank.distillation.estimate import job, sizes
from sagerank.distillation.recipe import Recipe
from sagerank.models.build import MICRO
from sagerank_cost.catalogue import Catalogue

from ...conftest import needs, random_model

BASE = Recipe(passages="none", teachers=("random:base",), start="random:base", layers=(0, 2, 4, 6, 8, 11))


def test_the_sizes_are_those_of_the_models(small_folder: Path) -> None:
    recipe = dataclasses.replace(
        BASE, teachers=(str(small_folder), "micro"), start=str(small_folder), layers=(0, 2)
    )
    rows = {row[0]: row for row in sizes(recipe).rows}
    teacher, student = rows[f"teacher {small_folder}"], rows["student"]
    assert teacher[3] == sum(parameter.numel() for parameter in random_model().parameters())
    kept = dataclasses.replace(random_model().config, num_hidden_layers=2)
    assert student[3] == sum(parameter.numel() for parameter in random_model(kept).parameters())
    assert rows["teacher micro"][1] == json.loads((MICRO / "config.json").read_text())["num_hidden_layers"]
    assert sizes(dataclasses.replace(BASE, teachers=("endpoint:theirs",))).rows[0] == (
        "teacher endpoint:theirs",
        *[None] * 6,
    )


def test_fewer_layers_cost_less_and_the_price_is_hours_times_the_catalogues() -> None:
    small = job(dataclasses.replace(BASE, layers=(0, 4, 8, 11)), "ml.g5.xlarge", "us-east-1")
    turbo = job(BASE, "ml.g5.xlarge", "us-east-1")
    assert small.rows[0] == turbo.rows[0], "the teacher's part is the same"
    assert 0 < small.rows[1][2] < turbo.rows[1][2]  # type: ignore[operator]
    assert turbo.rows[1][1] == BASE.steps * BASE.queries_per_step * BASE.documents
    hourly = Catalogue().hosting("us-east-1", "ml.g5.xlarge").usd
    total = turbo.rows[-1]
    assert total[3] == pytest.approx(float(Decimal(str(total[2])) * hourly), abs=0.02)
    cpu = job(BASE, "ml.c7i.large", "us-east-1")
    assert cpu.rows[-1][2] > 10 * total[2]  # type: ignore[operator]
    away = job(dataclasses.replace(BASE, teachers=("endpoint:theirs",)), "ml.g5.xlarge", "us-east-1")
    assert away.rows[0][2:] == (None, None)
    assert "without those whose speed is not known" in away.notes[0]
    with pytest.raises(DistillationError, match=r"ml\.g99"):
        job(BASE, "ml.g99.large", "us-east-1")


@needs("torch")  # as the command does
def test_the_estimate_needs_no_documents_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [
        "--teacher",
        "random:base",
        "--start",
        "random:base",
        "--layers",
        "0,4,8,11",
        "--passages",
        "none",
    ]
    assert main(["distil", *options, "--estimate", "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert [row["layers"] for row in tables["sizes"]["rows"]] == [12, 12, 4]
    assert list(tmp_path.iterdir()) == []
