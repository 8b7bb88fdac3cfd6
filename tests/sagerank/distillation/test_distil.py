"""The whole way from text to a judged student on the sample of 250 queries and 8 pairs each, and the command line."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sagerank.cli import _parser, main
from sagerank.distillation.card import model_card
from sagerank.distillation.distil import distil
from sagerank.distillation.recipe import Recipe
from sagerank_inference import jina_bert
from sagerank_inference.artefact import Manifest

from ...conftest import SMALL
from .conftest import COMMAND
from .test_gate import LOST


def test_the_sample_gives_a_better_student_and_a_killed_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, work = tmp_path / "student", tmp_path / "work"
    command = [
        *COMMAND,
        "--output",
        str(output),
        "--work",
        str(work),
        "--retention",
        "0.4",
        "--name",
        "sample-student",
    ]
    process = subprocess.Popen([sys.executable, "-m", "sagerank.cli", *command], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 1800  # a guard against hanging: a busy machine may take long
    while not (work / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (work / "checkpoint.pt").exists()
    scored = (work / "scores.jsonl").read_bytes()
    assert main([*command, "--json", "--plot", str(tmp_path / "curve.svg")]) == 0
    assert "before training" in (tmp_path / "curve.svg").read_text()
    (row,) = json.loads(capsys.readouterr().out)["gate"]
    assert (work / "scores.jsonl").read_bytes() == scored, "no pair is scored twice"
    assert row["student"] > row["start"] + 0.10, (
        "60 steps are worth 0.10 NDCG@10 and more over the layers as they were cut out"
    )
    # From the same candidates and scores, without a kill: the same bytes.
    (tmp_path / "whole").mkdir()
    for name in ("candidates.jsonl", "scores.jsonl"):
        shutil.copyfile(work / name, tmp_path / "whole" / name)
    recipe = dataclasses.replace(Recipe.read(work / "recipe.json"), dtype="float16")
    whole = distil(recipe, tmp_path / "whole", threads=1) / "model.safetensors"
    assert whole.read_bytes() == (work / "student" / "model.safetensors").read_bytes()
    manifest = Manifest.read(output)
    manifest.verify(output)
    assert manifest.model == "sample-student"
    card = (output / "README.md").read_text()
    assert f"{row['student']:.3f}" in card
    assert "openstax-astronomy | CC-BY-4.0" in card
    assert "- heldout: 0 of its 60 queries, 0 of its 300 documents" in card
    (shown,) = re.findall(r"^`sagerank (.+)`$", card, re.M)
    assert _parser().parse_args(shlex.split(shown)).name == "sample-student"
    assert str(tmp_path) not in card
    # A student of this student: its card tells both stages.
    second = tmp_path / "second"
    shutil.copytree(work / "student", second / "student")
    shutil.copyfile(work / "candidates.jsonl", second / "candidates.jsonl")
    later = dataclasses.replace(recipe, start=str(work / "student"), learning_rate=1e-5)
    card = model_card(later, second, [LOST], name="second", licence="mit", scores="Scores.")
    assert "On mine the first stage alone ranks better than the student" in card
    assert re.findall(r"^### (.+)$", card, re.M) == ["Stage 1 of 2", "Stage 2 of 2"]
    assert "of the student of the stage before" in card
    assert re.findall(r'"learning_rate": (.+),', card) == ["0.001", "1e-05"]
    # A stricter gate on the same work: nothing is trained again, and nothing is written.
    strict = [*COMMAND, "--output", str(tmp_path / "none.tar.gz"), "--work", str(work), "--retention", "2"]
    assert main(strict) == 2
    assert "does not pass the gate, and no artefact was written" in capsys.readouterr().err
    assert not (tmp_path / "none.tar.gz").exists()
    assert main([*strict, "--steps", "61"]) == 2
    assert "was begun with another steps" in capsys.readouterr().err


def test_a_student_from_nothing_has_its_own_vocabulary(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    config = tmp_path / "shape" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps(dataclasses.replace(SMALL, num_hidden_layers=1).to_json()))
    recipe = Recipe(
        passages=str(corpus[0]), queries=str(corpus[1]), teachers=("micro",), student=str(config), vocabulary=300, made_queries=4,
        documents=4, steps=2, queries_per_step=4, max_tokens=32, teacher_tokens=32,
    )  # fmt: skip
    student = jina_bert.load(distil(recipe, tmp_path / "work"))
    assert student.config.num_hidden_layers == 1
    assert student.config.vocab_size <= 300


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--queries", "q", "--teacher", "micro", "--output", "o"], "--passages is missing"),
        (["--passages", "p", "--queries", "q", "--teacher", "micro"], "--output is missing"),
        (["--passages", "p", "--queries", "q", "--teacher", "micro", "--output", "o"], "--gate is missing"),
        (
            [
                "--passages",
                "/none/p",
                "--queries",
                "q",
                "--teacher",
                "micro",
                "--output",
                "/tmp/x-none",
                "--gate",
                "g",
            ],
            "/none/p",
        ),
        (
            [
                "--passages",
                "p",
                "--queries",
                "q",
                "--teacher",
                "micro",
                "--output",
                "o",
                "--gate",
                "g",
                "--plot",
                "x.bmp",
            ],
            "a plot ends in",
        ),
        (["--recipe", "/none.json"], "/none.json does not exist"),
        (["--passages", "p", "--queries", "q", "--teacher", "micro", "--sagemaker"], "--role is missing"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distil", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error
    assert len(error.splitlines()) == 1


def test_a_gpu_that_is_not_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = ["--passages", "p", "--teacher", "micro", "--start", "micro", "--layers", "0", "--output", "o"]
    assert main(["distil", *options, "--device", "cuda"]) == 2
    error = capsys.readouterr().err.strip()
    assert "--device is cuda, and PyTorch" in error
    assert len(error.splitlines()) == 1
