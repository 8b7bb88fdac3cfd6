"""`sagerank bench` on the command line: real measurements of micro. Times are recorded here and never judged."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sagerank.bench.conditions import instruction_set, vector_units
from sagerank.bench.throughput import peer_names
from sagerank.cli import main
from sagerank.evaluation import EvaluationError
from sagerank.models.arithmetic import flops
from sagerank.models.build import MICRO
from sagerank_inference.artefact import sha256
from sagerank_inference.tokenise import Tokeniser

from ...conftest import needs
from .conftest import QUERY, TEXTS

HERE = instruction_set(vector_units()) or platform.machine()
MICRO_WEIGHTS = sha256(MICRO / "model.safetensors")[:12]


def test_throughput_of_two_models(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two models (here twice the same weights under two names), one thread, two rounds: all fields and the picture."""
    copy = tmp_path / "copy"
    shutil.copytree(MICRO, copy)
    plot = tmp_path / "bars.svg"
    arguments = ["--documents", str(texts), "--query", QUERY, "--rounds", "2", "--threads", "1"]
    models = ["--model", "micro", "--model", str(copy)]
    assert main(["bench", "throughput", *models, *arguments, "--json", "--plot", str(plot)]) == 0
    shown = capsys.readouterr()
    rows = json.loads(shown.out)
    assert [(row["name"], row["model"]) for row in rows] == [("sagerank", "micro"), ("sagerank", str(copy))]
    first, second = rows
    assert (first["ratio_to_sagerank"], first["spread"], first["max_abs_diff"]) == (1.0, [1.0, 1.0], 0.0)
    assert second["max_abs_diff"] is None, "other weights are not compared"
    lengths = [len(ids) for ids in Tokeniser.load(MICRO)(QUERY, TEXTS).ids]
    for row in rows:
        assert row["error"] is None
        assert (row["instruction_set"], row["threads"]) == (HERE, 1)
        assert row["docs_per_second"] == pytest.approx(len(TEXTS) / row["seconds"])
        assert row["docs_per_50_ms"] == pytest.approx(0.05 * row["docs_per_second"])
        assert row["spread"][0] <= row["ratio_to_sagerank"] <= row["spread"][1]
        needed = flops(MICRO, lengths)
        assert needed
        assert row["gflops"] == pytest.approx(1e-9 * needed / row["seconds"])
        assert row["ceiling_gflops"] > 0
        assert row["share_of_ceiling"] > 0
    assert "ceiling: " in shown.err
    assert "1 threads on" in shown.err
    assert f"model micro, weights {MICRO_WEIGHTS}" in shown.err
    assert not any(text in shown.err for text in TEXTS)
    drawn = plot.read_text()
    assert "documents per 50 ms" in drawn
    assert "micro" in drawn
    assert "sagerank" not in drawn.partition("<!--")[2], "two of our models are told apart by their names"


def test_a_profile_adds_up(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "bars.svg"
    arguments = ["--documents", str(texts), "--query", QUERY, "--rounds", "2", "--plot", str(plot)]
    assert main(["bench", "profile", *arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    kinds = {row["kind"]: row for row in rows}
    assert {"products", "attention", "scale, add, quantise", "copies"} <= set(kinds)
    assert "Gemm" in kinds["products"]["operators"]
    assert "If" not in kinds["other"]["operators"], "the nodes inside are counted"
    whole = sum(row["milliseconds"] for row in rows)
    for row in rows:
        assert row["precision"] == "fp32"
        assert row["milliseconds"] == pytest.approx(row["share"] * whole)
        assert sum(row["operators"].values()) == pytest.approx(row["milliseconds"], abs=0.002)
        assert row["without"] == pytest.approx(whole / (whole - row["milliseconds"]))
    assert "milliseconds a document" in plot.read_text()
    assert main(["bench", "profile", *arguments]) == 0
    assert "products" in capsys.readouterr().out


@needs("torch")
def test_throughput_of_a_device(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As on a GPU, whose name is all that is missing here."""
    arguments = ["--documents", str(texts), "--query", QUERY, "--rounds", "1", "--threads", "1"]
    assert main(["bench", "throughput", "--device", "cpu", *arguments, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["error"] is None
    assert row["precision"] == "fp32"
    assert row["docs_per_second"] > 0
    assert row["share_of_ceiling"] > 0


def test_latency_of_few_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "latency.svg"
    command = ["bench", "latency", "--documents", "1", "3", "--calls", "4", "--threads", "1"]
    assert main([*command, "--json", "--plot", str(plot)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["documents"] for row in rows] == [1, 3]
    for row in rows:
        for part in ("total", "tokenise", "forward"):
            assert 0 < row[part]["p50"] <= row[part]["p90"] <= row[part]["p99"]
        assert row["total"]["p99"] >= row["forward"]["p50"]
        assert row["share_of_ceiling"] == pytest.approx(row["gflops"] / row["ceiling_gflops"])
    assert "micro p99" in plot.read_text()


def test_startup_has_its_stages_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "startup", "--repeats", "1", "--threads", "1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["instruction_set"], row["threads"]) == (HERE, 1)
    start = row["median"]
    assert 0 < start["imported"] < start["loaded"] < start["scored"]
    assert start["ready"] > 0
    assert row["longest"] == start, "of one start"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["throughput", "--rounds", "0"], "--rounds is 0"),
        (["throughput", "--documents", "x"], "--documents and --query go together"),
        (["throughput", "--tokens", "900"], "--tokens goes with --workload long"),
        (["throughput", "--plot", "bars.jpg"], "ends in .svg, .png or .pdf"),
        (["throughput", "--workload", "long", "--tokens", "3"], "--tokens is 3"),
        (["throughput", "--workload", "long", "--tokens", "99999"], "your own text with --documents"),
        (["latency", "--documents", "1000"], "--documents is 1000: give 1 to 100"),
        (["latency", "--calls", "-1"], "--calls is -1"),
        (["memory", "--batch", "0"], "--batch is 0"),
        (["startup", "--repeats", "0"], "--repeats is 0"),
        pytest.param(["startup", "--model", "larger"], "There is no model 'larger'", marks=needs("torch")),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert shown.out == ""


def test_peers_of_a_device_are_named() -> None:
    assert peer_names("all", "cuda") == ["sentence-transformers-torch", "transformers", "padded"]
    assert "padded" not in peer_names("all")
    with pytest.raises(
        EvaluationError, match="no peer 'fastembed' for --device cuda: give all, or some of sent"
    ):
        peer_names("fastembed", "cuda")


def test_texts_of_any_language_in_the_c_locale(texts: Path) -> None:
    """There, the bytes of a query on the command line are of another encoding than the locale's."""
    texts.write_text("L'été est chaud.\n雨は空から降る。\n", encoding="utf-8")
    command = ["throughput", "--documents", str(texts), "--query", "pourquoi l'été", "--rounds", "1"]
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sagerank.cli", "bench", *command, "--threads", "1"],
        env={**os.environ, **locale},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"documents, " in done.stdout
