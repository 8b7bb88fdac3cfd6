"""A person's own documents without queries or judgements, from a folder to a judged artefact and a report."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sagerank.cli import main
from sagerank.distillation.claim import claimed
from sagerank.distillation.made import KINDS
from sagerank_inference import jina_bert
from sagerank_inference.artefact import Manifest

HOSTILE = "<script>alert('x')</script>&amp;"
SETTINGS = [
    "--teacher", "micro", "--start", "micro", "--layers", "0,0", "--lexical", "0", "--made-queries", "160", "--heldout", "12",
    "--steps", "60", "--queries-per-step", "8", "--learning-rate", "1e-3", "--warmup-steps", "5", "--max-tokens", "96",
    "--checkpoint-every", "20", "--dtype", "float16", "--threads", "1", "--name", "mine & yours",
]  # fmt: skip


def command(documents: Path, output: Path, *more: str) -> list[str]:
    return ["distil", "--passages", str(documents), "--output", str(output), *SETTINGS, *more]


class Page(HTMLParser):
    """Tags, addresses and words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.addresses, self.words = list[str](), list[str](), ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")
        ]

    def handle_data(self, data: str) -> None:
        self.words += f"{data}\n"


def test_a_killed_run_goes_on_on_another_machine_and_ends_with_the_same_bytes(
    tmp_path: Path, documents: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in documents.rglob("*.*"):  # paragraphs begin as a page must not have it
        path.write_text(path.read_text().replace("\n\n", f"\n\n{HOSTILE} "))
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    work = here / "student.work"
    process = subprocess.Popen(
        [sys.executable, "-m", "sagerank.cli", *command(documents, here / "student")],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 1800  # a guard against hanging
    while not (work / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (work / "checkpoint.pt").exists()
    shutil.copytree(documents, tmp_path / "unbroken")
    # The other machine has the documents and the work folder elsewhere.
    there.mkdir()
    documents.rename(there / "texts")
    work.rename(there / "carried")
    scored = (there / "carried/scores.jsonl").read_bytes()
    student, carried = there / "small.tar.gz", ["--work", str(there / "carried")]
    with claimed(there / "carried"):
        assert main(command(there / "texts", student, *carried)) == 2
    assert "in use by another run" in capsys.readouterr().err
    assert main(command(there / "texts", student, *carried, "--retention", "0.5", "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    assert (there / "carried/scores.jsonl").read_bytes() == scored, "nothing is scored twice"
    whole = tmp_path / "whole"
    assert main(command(tmp_path / "unbroken", whole, "--retention", "0.5")) == 0
    manifest = Manifest.read(whole)
    manifest.verify(whole)
    # Its scores are to mean what the teacher's do.
    assert manifest.calibration is not None
    assert dataclasses.asdict(manifest.calibration) == said["calibration"]
    assert manifest.calibration.target.startswith("micro")
    assert f"/ {manifest.calibration.temperature:.4g})" in (whole / "README.md").read_text()
    weights = "student/model.safetensors"
    assert (there / "carried" / weights).read_bytes() == (tmp_path / "whole.work" / weights).read_bytes()
    # What was learnt, on queries that nobody trained on.
    (row,) = said["gate"]
    assert row["data"] == "held-out queries"
    assert row["teacher"] == pytest.approx(1.0)
    assert row["student"] > row["start"] + 0.1
    log = [json.loads(line) for line in (tmp_path / "whole.work/log.jsonl").read_text().splitlines()]
    assert [each["step"] for each in log] == [0, 20, 40, 60]
    assert log[-1]["agreement"] > log[0]["agreement"]
    assert "loss" not in log[0]
    card = (whole / "README.md").read_text()
    assert "Nobody judged these queries" in card
    assert str(tmp_path) not in card
    # The report: whole in itself, and what documents hold is text in it.
    text = Path(said["report"]).read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert all(address.startswith(("#", "data:,")) for address in page.addresses)
    assert page.tags.count("svg") == 4, "loss, agreement, NDCG@10, scores"
    for shown in (
        "Distillation of mine & yours",
        "It passes the gate, which asks for 50% of the teacher's.",
        "as it should be",
        *KINDS,
        "not stated",
        "texts",
        HOSTILE,
    ):
        assert shown in page.words, shown
    assert re.search(rf"{row['student']:.3f}", page.words)
    assert re.search(r"Ranked better than by the first stage: \d+ of \d+", page.words)
    # Other documents are another run's.
    next((there / "texts").rglob("*.md")).write_text("Other words than those that were mined before.")
    assert main(command(there / "texts", student, *carried)) == 2
    assert "was begun with another passages" in capsys.readouterr().err


def test_a_student_that_fails_has_a_report_that_says_why(
    tmp_path: Path, documents: Path, small_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of the three layers of a model with random weights, which is its own teacher: the way from Base to fewer layers."""
    recipe = tmp_path / "recipe.json"
    model = str(small_folder)
    recipe.write_text(
        json.dumps({"teachers": [model], "start": model, "layers": [0, 2], "steps": 4, "limit": 30})
    )
    options = ["--recipe", str(recipe), "--passages", str(documents), "--output", str(tmp_path / "out")]
    options += ["--queries-per-step", "2", "--max-tokens", "48", "--heldout", "5", "--dtype", "float32"]
    assert main(["distil", *options, "--retention", "2"]) == 2
    said = capsys.readouterr().err
    assert "does not pass the gate" in said
    assert "or ask for less with --retention" in said
    assert "It does not pass the gate: mean NDCG@10" in (tmp_path / "out.work/report.html").read_text()
    assert main(["distil", *options, "--retention", "0"]) == 0
    said = capsys.readouterr().err
    assert f"going on with what is in {tmp_path / 'out.work'}" in said
    report = (tmp_path / "out.work/report.html").read_text()
    # What was scored, of the queries that there were, and not what the recipe would allow.
    held, candidates = 5, (tmp_path / "out.work/candidates.jsonl").read_text().splitlines()
    pairs = sum(len(json.loads(line)["documents"]) for line in candidates)
    (scored,) = re.findall(r"teacher [^<]* scores<.*?<td[^>]*>([\d,]+)<", report, re.DOTALL)
    assert pairs < int(scored.replace(",", "")) <= pairs + held * 50
    student, teacher = jina_bert.load(tmp_path / "out.work/student"), jina_bert.load(small_folder)
    assert student.config.num_hidden_layers == 2
    assert student.config.hidden_size == teacher.config.hidden_size
    Manifest.read(tmp_path / "out").verify(tmp_path / "out")


def test_a_student_is_none_of_its_own_passages(
    tmp_path: Path, documents: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its card is Markdown, and with it the texts would be others than those that the work folder is of."""
    monkeypatch.chdir(documents)
    for output, more in (("student", ()), ("student.tar.gz", ()), (str(tmp_path / "x"), ("--work", "w"))):
        assert main(command(Path(), Path(output), *more)) == 2
        assert "would be one of the passages next time" in capsys.readouterr().err
    assert {path.suffix for path in documents.iterdir() if path.is_file()} <= {".md", ".txt"}
    assert not (documents / "student.work").exists()
