"""`sagerank eval` and `sagerank eval table` on real collections: rankings, tables, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sagerank.cli import main
from sagerank.evaluation import SAMPLE
from sagerank.evaluation.collection import load
from sagerank.evaluation.evaluate import first_stage, rerank
from sagerank.evaluation.first_stage import bm25, read_run
from sagerank.evaluation.published import PUBLISHED
from sagerank.evaluation.scores import ScoreStore
from sagerank.models.build import MICRO
from sagerank_inference.artefact import Manifest

from ...conftest import ROOT, needs
from ..conftest import Words

HELDOUT = SAMPLE / "heldout"


SHARED = ROOT.parent / "shared/data"


def test_candidates_are_reranked_and_never_added(folder: Path) -> None:
    collection = load(str(folder))
    run = bm25(collection, 1)
    assert [document for document, _ in run["q2"]] == ["d3"]
    base = first_stage("bm25", collection, {"q1": [("d2", 2.0), ("d1", 1.0)], "q2": [("d1", 1.0)]})
    ranking = rerank(collection, base.run, Words(), ScoreStore(None))
    assert [document for document, _ in ranking.run["q1"]] == ["d1", "d2"]
    assert [document for document, _ in ranking.run["q2"]] == ["d1"], "the missed d3 is not injected"
    assert ranking.values["ndcg@10"] == {"q1": pytest.approx(1.0), "q2": 0.0}
    assert ranking.versus(base).mean > 0


def test_micro_ranks_text_it_never_saw(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = [
        "eval",
        "--data",
        str(HELDOUT),
        "--top-k",
        "20",
        "--queries",
        "30",
        "--json",
        "--threads",
        "2",
    ]
    cache, run = tmp_path / "scores.jsonl", tmp_path / "run.trec"
    assert main([*arguments, "--cache", str(cache), "--save-run", str(run)]) == 0
    result = json.loads(capsys.readouterr().out)
    model, base = result["models"][0], result["first_stage"]
    assert result["queries"] == 30
    assert model["recall@100"] == base["recall@100"], "reranking finds nothing new"
    assert model["ndcg@10"] > 0.45, "random order of these candidates gives about 0.2"
    difference = model["ndcg@10_minus"]["first_stage"]
    assert difference["mean"] == pytest.approx(model["ndcg@10"] - base["ndcg@10"])
    lines = cache.read_bytes()
    # The written run is a first stage again, and nothing is scored a second time.
    assert main([*arguments, "--cache", str(cache), "--run", str(run)]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["first_stage"]["ndcg@10"] == pytest.approx(model["ndcg@10"], abs=1e-9)
    assert cache.read_bytes() == lines


@needs("torch")
def test_the_table_marks_what_cannot_be_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plot = tmp_path / "quality.svg"
    small = [
        "eval",
        "table",
        "--data",
        str(HELDOUT),
        "--queries",
        "3",
        "--top-k",
        "5",
        "--model",
        "micro",
        "--model",
        "base",
    ]
    assert main([*small, "--json", "--plot", str(plot)]) == 0
    rows = {row["scorer"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["micro"]["ndcg"] > 0
    assert rows["micro"]["documents_per_50_ms"] > 0
    assert rows["micro"]["millions"] == round(Manifest.read(MICRO).parameters / 1e6, 1)
    assert rows["base"]["ndcg"] is None
    assert "cannot be downloaded publicly" in rows["base"]["not_run"]
    assert rows["base"]["published_ndcg"] == 52.45
    drawn = plot.read_text()
    assert "micro" in drawn
    assert "not run" in drawn, "the picture holds the table as well"
    assert main(small) == 0
    shown = capsys.readouterr().out
    assert "not run" in shown
    assert "52.45" in shown


def test_published_rows_are_the_announcements() -> None:
    best = max(PUBLISHED, key=lambda row: row.ndcg)
    assert (best.name, best.ndcg) == ("jina-reranker-v1-base-en", 52.45)
    assert len(PUBLISHED) == 8
    assert sum(row.ndcg for row in PUBLISHED) == pytest.approx(392.92)
    assert sum(row.hit_rate for row in PUBLISHED) == pytest.approx(6.5877)
    assert sum(row.mrr for row in PUBLISHED) == pytest.approx(5.2476)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["eval"], "--data is missing"),
        (["eval", "--data", "x", "--data", "y", "--run", "r"], "exactly one --data"),
        (["eval", "--data", str(HELDOUT), "--top-k", "0"], "--top-k is 0"),
        (["eval", "--data", str(HELDOUT), "--model", "nano"], "no model 'nano'"),
        (["eval", "--data", "x", "--data", "y/x"], "Two --data are called 'x'"),
        (
            ["eval", "--data", "x", "--model", "a", "--model", "b", "--save-run", "r"],
            "one --data and one --model",
        ),
        (
            ["eval", "--data", "x", "--plot", "p.svg"],
            "--plot goes with `sagerank eval table, cascade or calibrate`",
        ),
        (["eval", "rag", "--data", "x", "--questions", "q"], "one --data or one --questions"),
        (["eval", "rag", "--data", "x", "--run", "r"], "--run does not go with rag"),
        (["eval", "rag", "--data", str(HELDOUT)], "--embedder is missing"),
        (["eval", "rag", "--data", str(HELDOUT), "--embedder", "x:y"], "bge:FOLDER"),
        (["eval", "table", "--data", "nowhere", "--plot", "x.gif"], "ends in .svg"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test collections are not here")
@pytest.mark.parametrize(
    ("name", "low", "high"), [("scifact", 0.66, 0.70), ("nfcorpus", 0.31, 0.33), ("cranfield", 0.41, 0.44)]
)
def test_bm25_is_where_it_should_be(name: str, low: float, high: float) -> None:
    collection = load(str(SHARED / name))
    assert low < first_stage("bm25", collection, bm25(collection, 100)).mean() < high


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test collections are not here")
def test_the_official_run_has_its_published_value() -> None:
    collection = load(str(SHARED / "trec-dl-2019-rerank"))
    run = read_run(SHARED / "trec-dl-2019-rerank" / "run.bm25.trec", collection, 100)
    assert first_stage("run", collection, run).mean() == pytest.approx(0.5058, abs=5e-5)
