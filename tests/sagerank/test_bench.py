"""`sagerank bench`: real measurements of micro, small enough for a test. Times are recorded here and never judged."""

from __future__ import annotations

import csv
import importlib
import json
import math
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import sagerank_cost.memory
import torch
from sagerank_cost.models import MODELS
from sagerank_cost.store import DATA
from sagerank_inference.artefact import sha256
from sagerank_inference.engine import Engine
from sagerank_inference.tokenise import Tokeniser
from torch.utils.flop_counter import FlopCounterMode

from sagerank.bench import workload
from sagerank.bench.conditions import Conditions, Sample, conditions, sample
from sagerank.bench.memory import MemoryPoint, save
from sagerank.bench.plot import Bar, bars, curves
from sagerank.bench.process import Remote
from sagerank.bench.subject import EngineSubject
from sagerank.bench.throughput import Row, sentences
from sagerank.bench.timing import Timed, check_parity, interleave, ratios
from sagerank.cli import main
from sagerank.evaluation import EvaluationError
from sagerank.models.arithmetic import flops, shape
from sagerank.models.build import MICRO, SHAPES

from ..conftest import SMALL, random_model

MICRO_WEIGHTS = sha256(MICRO / "model.safetensors")[:12]
QUERY = "what causes rain"
TEXTS = ["Rain falls when clouds cool.", "Cats sleep all day.", "A cloud is water in the air. " * 9]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n\n")
    return path


# -- the command -------------------------------------------------------------------------------------------------


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
    assert "sagerank, micro" in drawn


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
    start = row["median"]
    assert 0 < start["imported"] < start["loaded"] < start["scored"]
    assert start["ready"] > 0
    assert row["longest"] == start, "of one start"


def test_memory_writes_points_that_the_cost_module_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "memory.csv"
    shutil.copyfile(DATA / "memory.csv", path)
    before = path.read_text().splitlines()
    command = [
        "bench",
        "memory",
        "--tokens",
        "128",
        "--batch",
        "1",
        "4",
        "--threads",
        "1",
        "--save",
        str(path),
    ]
    assert main([*command, "--json", "--plot", str(tmp_path / "memory.svg")]) == 0
    points = json.loads(capsys.readouterr().out)
    assert [(point["tokens"], point["pairs"]) for point in points] == [(128, 1), (128, 4)]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(before), "one row is new, one replaced, and the head is no row"
    (one,) = [row for row in rows if row["model"] == "micro" and row["tokens"] == "128"]
    assert float(one["peak_rss_mb"]) == points[0]["peak_rss_mb"]
    assert one["conditions"].startswith(
        "sagerank bench memory --model micro --tokens 128 --backend onnx --threads 1; "
    )
    ours = [row for row in rows if row["model"] == "micro" and row["threads"] == "1"]
    (batch,) = [row for row in ours if row["longest"] != row["tokens"]]
    assert (batch["tokens"], batch["longest"], batch["threads"]) == ("512", "128", "1")
    assert "--batch 4" in batch["conditions"]
    assert all(row["longest"] == row["tokens"] for row in ours if row is not batch)
    read = {
        (point.model, point.backend, point.tokens, point.longest, point.threads): point
        for point in sagerank_cost.memory.measured(tmp_path)
    }
    assert len(read) == len(rows)
    point = read["micro", "onnx", 512, 128, 1]
    assert point.mb == points[1]["peak_rss_mb"]
    assert point.formula_mb == pytest.approx(points[1]["formula_mb"], abs=0.1)
    assert abs(point.error) < 0.1


def test_a_shape_that_cost_does_not_know_is_not_saved(small_folder: Path, tmp_path: Path) -> None:
    point = MemoryPoint("small", "fp32", "onnx", 8, 1, 1, 1.0, 1.0, None, 0.1)
    with pytest.raises(EvaluationError, match="knows no model of the shape of small"):
        save([point], {"small": small_folder}, tmp_path / "memory.csv")


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
        (["startup", "--model", "larger"], "There is no model 'larger'"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert shown.out == ""


# -- arithmetic --------------------------------------------------------------------------------------------------


def test_the_work_is_what_pytorch_counts() -> None:
    """One pair without padding: the reference prunes the last layer as the engine does."""
    lengths = torch.tensor([37])
    model = random_model()
    # Attention as plain products: the counter does not know every fused kernel.
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):
        model(torch.full((1, 37), 7), lengths)
    assert shape(SMALL).flops(37) == counter.get_total_flops()


def test_a_shape_costs_what_the_cost_module_says_of_it() -> None:
    for name, config in SHAPES.items():
        for tokens in (150, 8192):
            assert shape(config).flops(tokens) == MODELS[name].flops(tokens)
    assert flops(MICRO, [150, 37]) == MODELS["micro"].flops(150) + MODELS["micro"].flops(37)


def test_pruning_saves_a_fifth_of_tiny() -> None:
    tiny, tokens = SHAPES["tiny"], 150
    h, f, layers = tiny.hidden_size, tiny.intermediate_size, tiny.num_hidden_layers
    unpruned = layers * tokens * (2 * (4 * h * h + 3 * h * f) + 4 * h * tokens)
    assert 1 - shape(tiny).flops(tokens) / unpruned == pytest.approx(0.22, abs=0.01)


def test_an_artefact_without_one_configuration_has_no_count(tmp_path: Path) -> None:
    assert flops(tmp_path, [8]) is None


# -- workloads ---------------------------------------------------------------------------------------------------


def test_the_passages_are_a_hundred_mixed_ones_and_the_same_each_time() -> None:
    chosen = workload.passages()
    lengths = [len(ids) for ids in Tokeniser.load(MICRO)(chosen.query, chosen.documents).ids]
    assert len(set(chosen.documents)) == 100
    assert statistics.mean(lengths) == pytest.approx(150, abs=6)
    assert (min(lengths), max(lengths)) == (75, 289)
    assert lengths != sorted(lengths)
    assert chosen == workload.passages()


def test_long_documents_fill_their_lengths_and_do_not_repeat() -> None:
    chosen = workload.long((1000, 2000, 8192))
    windows = Tokeniser.load(MICRO)(chosen.query, chosen.documents).ids
    assert len(windows) == 3, "none is longer than the context"
    for ids, wanted in zip(windows, (1000, 2000, 8192), strict=True):
        assert wanted - 12 < len(ids) <= wanted
    assert len({document[:200] for document in chosen.documents}) == 3


def test_own_documents(texts: Path, tmp_path: Path) -> None:
    assert workload.from_file(QUERY, texts).documents == tuple(TEXTS)
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(EvaluationError, match="holds no documents"):
        workload.from_file(QUERY, tmp_path / "empty.txt")


# -- parity and rounds -------------------------------------------------------------------------------------------


class InProcess:
    """An engine as a subject; it writes down when it is asked."""

    def __init__(self, name: str, engine: Engine, asked: list[str], *, fails_at: int = -1) -> None:
        self.name, self._engine, self._asked, self._fails_at = name, engine, asked, fails_at
        self._calls = 0

    def score(self, query: str, documents: Sequence[str]) -> tuple[list[float], float]:
        self._asked.append(self.name)
        self._calls += 1
        if self._calls == self._fails_at:
            raise EvaluationError("it ran out of memory.")
        return list(self._engine.score(query, documents).values), 1.0 if self.name == "a" else 4.0


def test_other_scores_are_listed_with_their_distance_and_not_timed(micro: Engine, small_folder: Path) -> None:
    from sagerank_inference.engine import load_forward
    from sagerank_inference.settings import Settings

    settings = Settings(model_dir=small_folder, threads=1)
    other = Engine(micro.manifest, micro.stages, [load_forward(small_folder, settings)], batch_tokens=1024)
    asked: list[str] = []
    same = Timed("same", "m", InProcess("same", micro, asked), tolerance=1e-6)
    apart = Timed("apart", "m", InProcess("apart", other, asked), tolerance=1e-2)
    another = Timed("another model", "n", InProcess("another", other, asked))
    missing = Timed("missing", "m", error="it cannot be installed.")
    timed = [Timed("a", "m", InProcess("a", micro, asked)), same, apart, another, missing]
    check_parity(timed, QUERY, TEXTS)
    assert timed[0].max_abs_diff == 0.0
    assert (same.error, same.max_abs_diff) == (None, 0.0)
    expected = max(
        abs(ours - theirs)
        for ours, theirs in zip(
            micro.score(QUERY, TEXTS).values, other.score(QUERY, TEXTS).values, strict=True
        )
    )
    assert apart.max_abs_diff == pytest.approx(expected)
    assert apart.error
    assert "not timed" in apart.error
    assert f"{expected:.3g}" in apart.error
    assert (another.error, another.max_abs_diff) == (None, None)
    asked.clear()
    interleave(timed, QUERY, TEXTS, rounds=2, pause=0)
    assert set(asked) == {"a", "same", "another"}
    assert apart.seconds == []
    assert missing.error == "it cannot be installed."


def test_rounds_interleave_and_a_failing_subject_drops_out(micro: Engine) -> None:
    asked: list[str] = []
    timed = [
        Timed(name, "m", InProcess(name, micro, asked, fails_at=3 if name == "c" else -1), tolerance=0.1)
        for name in "abc"
    ]
    check_parity(timed, QUERY, TEXTS)
    asked.clear()
    interleave(timed, QUERY, TEXTS, rounds=3, before=lambda: asked.append("|"), pause=0)
    # c fails when it is asked the third time: once for parity, then in the second round.
    assert "".join(asked) == "|abc|bca|ab"
    assert timed[2].error == "it ran out of memory."
    assert ratios(timed[1], timed[0]) == [0.25, 0.25, 0.25]


def test_a_score_that_is_no_number_is_not_timed(micro: Engine) -> None:
    class Broken(InProcess):
        def score(self, query: str, documents: Sequence[str]) -> tuple[list[float], float]:
            return [math.nan, *super().score(query, documents)[0][1:]], 1.0

    timed = [
        Timed("a", "m", InProcess("a", micro, [])),
        Timed("b", "m", Broken("b", micro, []), tolerance=1.0),
    ]
    check_parity(timed, QUERY, TEXTS)
    assert timed[1].error == "it scores NaN: not timed."


def test_the_sentences_say_who_is_faster_and_why_a_row_is_empty() -> None:
    rows = [
        Row("sagerank", "m", 10.0, 0.5, 0.0, 1.0, (1.0, 1.0)),
        Row("peer", "m", 2.5, 0.125, 1e-6, 0.25, (0.2, 0.5)),
        Row("other", "m", error="it cannot be installed."),
    ]
    assert sentences(rows) == [
        "sagerank is 4.00x as fast as peer (2.00 to 5.00)",
        "not timed: other: it cannot be installed.",
    ]


# -- processes, conditions, pictures -----------------------------------------------------------------------------


def test_the_engine_in_its_own_process_scores_as_here(micro: Engine) -> None:
    with EngineSubject(MICRO, threads=1) as subject:
        logits, seconds = subject.score(QUERY, TEXTS)
        assert logits == pytest.approx(list(micro.score(QUERY, TEXTS).values), abs=1e-5)
        assert seconds > 0
        assert subject.lengths(QUERY, TEXTS) == [len(ids) for ids in micro.tokeniser(QUERY, TEXTS).ids]


def test_a_process_that_dies_is_one_sentence() -> None:
    with (
        Remote(importlib.import_module, "os") as remote,
        pytest.raises(EvaluationError, match="ended before it answered"),
    ):
        remote.call("_exit", 9)


def test_conditions_warn_of_other_work() -> None:
    quiet = Sample(load=0.1, busy_cores=0.0)
    found = conditions(2, {"micro": MICRO}, quiet, quiet)
    assert found.warning is None
    assert found.models == {"micro": MICRO_WEIGHTS}
    assert found.memory_gb > 0
    assert any("load average 0.10 at the start" in line for line in found.lines())
    busy = Conditions(
        **{**{name: getattr(found, name) for name in Conditions.__slots__}, "end": Sample(3.0, 1.5)}
    )
    assert busy.warning
    assert busy.lines()[-1].startswith("warning: other work kept 1.5 cores busy")


def test_a_sample_sees_work() -> None:
    code = "while True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as worker:
        seen = sample(0.3).busy_cores
        worker.kill()
    assert seen > 0.1


def test_pictures_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    entries = [Bar("Base", 3.2, 3.1, 3.4), Bar("a peer", 21.0, ours=False)]
    for name in ("one.svg", "two.svg"):
        bars(entries, "Documents per 50 ms", "documents per 50 ms", tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    drawn = (tmp_path / "one.svg").read_text()
    assert all(label in drawn for label in ("Base", "a peer", "3.2", "21"))
    curves({"p50": [(1, 2.0), (10, 9.0)]}, "One call", "documents", "ms", tmp_path / "curve.pdf")
    assert (tmp_path / "curve.pdf").read_bytes().startswith(b"%PDF")
