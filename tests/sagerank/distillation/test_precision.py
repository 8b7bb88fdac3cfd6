"""int8 and bf16: what the gate lets through, and that float32 is left alone."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import shutil
from pathlib import Path

import onnx
import pytest
import torch

from sagerank.cli import main
from sagerank.distillation.gate import GateFailed, check
from sagerank.distillation.precision import TOP_K, Comparison, Thresholds, build_gated, shortfalls
from sagerank.evaluation import SAMPLE
from sagerank.models.build import MICRO, SHAPES, build, check_graphs
from sagerank.models.quantise import quantise
from sagerank_inference import jina_bert
from sagerank_inference.artefact import ArtefactError, Manifest
from sagerank_inference.checkpoint import CheckpointError, JinaBertConfig
from sagerank_inference.contract import best_first
from sagerank_inference.engine import Engine
from sagerank_inference.onnx_model import OnnxModel, has_bfloat16
from sagerank_inference.settings import Settings

from ...conftest import SMALL, needs, random_model

QUERIES = 60  # of the gate's 250, to keep this short


BEIR = SAMPLE / "heldout"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of the gate are kept here: the second build of a test scores nothing again."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, list[Comparison]]:
    folder, shown = tmp_path_factory.mktemp("int8") / "micro", list[Comparison]()
    build_gated("micro", folder, queries=QUERIES, cache=cache, show=shown.extend)
    return folder, shown


@pytest.fixture(scope="module")
def fast(built: tuple[Path, list[Comparison]]) -> Engine:
    folder, _ = built
    return Engine.load(folder, Settings(model_dir=folder))


def test_micro_passes_the_gate_with_room(built: tuple[Path, list[Comparison]]) -> None:
    [judged] = built[1]
    assert (judged.queries, judged.pairs) == (QUERIES, QUERIES * TOP_K)
    assert judged.fp32 > 0.6
    assert abs(judged.difference.mean) < 0.005
    assert judged.difference.low <= judged.fast - judged.fp32 <= judged.difference.high
    assert judged.agreement > 0.97
    assert 0 < judged.error < 0.03
    assert judged.mean_error <= judged.max_error


def test_its_manifest_says_what_it_is(built: tuple[Path, list[Comparison]]) -> None:
    folder, [judged] = built
    manifest, reference = Manifest.read(folder), Manifest.read(MICRO)
    assert (manifest.precision, reference.precision, reference.tolerance) == ("int8", "fp32", 0.0)
    assert manifest.golden == reference.golden
    assert judged.max_error <= manifest.tolerance < judged.max_error + 0.2
    assert set(manifest.files) == set(reference.files)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    fast_ones = [node for node in model.graph.node if node.op_type == "MatMulIntegerToFloat"]
    # The first layer in full: query, key, value, output, gate, up, down. The last has none but for token 0.
    assert len(fast_ones) == 7


def test_scores_are_near_and_an_error_larger_than_rounding_is_still_seen(
    fast: Engine, micro: Engine, built: tuple[Path, list[Comparison]], tmp_path: Path
) -> None:
    texts = ["Mars is red.", "Bread is baked. " * 60, "", "The planet Mars has iron oxide on its surface."]
    exact, near = (engine.score("why is mars red", texts).values for engine in (micro, fast))
    assert near == pytest.approx(exact, abs=0.5)
    assert near != exact
    manifest = Manifest.read(built[0])
    logits = [pair.logit for pair in manifest.golden]
    manifest.check_golden([logit + 0.9 * manifest.tolerance for logit in logits], 1e-3)
    with pytest.raises(ArtefactError, match="golden pairs"):
        manifest.check_golden([logits[0] + 1.1 * manifest.tolerance, *logits[1:]], 1e-3)


def test_a_pairs_score_does_not_depend_on_its_company(fast: Engine) -> None:
    pairs = fast.tokeniser("what causes rain", ["Clouds cool.", "Rain falls from clouds. " * 30, "x"]).ids
    together = fast.forward(pairs)
    alone = [fast.forward([pair])[0] for pair in pairs]
    assert together == pytest.approx(alone, abs=1e-5)
    assert fast.forward(pairs) == together


def test_nor_among_long_pairs_however_large_the_batch(tmp_path: Path) -> None:
    """Five int8 layers of sharp weights, where one activation that moves by a step moves the logit by far more than this."""
    sharp = dataclasses.replace(SMALL, hidden_size=96, num_hidden_layers=6, intermediate_size=192)
    source, exact, fast = (tmp_path / name for name in ("source", "exact", "fast"))
    jina_bert.save(random_model(sharp), source, torch.float32)
    shutil.copyfile(MICRO / "tokenizer.json", source / "tokenizer.json")
    exact.mkdir()
    fast.mkdir()
    build(str(source), exact)
    generator = random.Random(0)
    pairs = [
        [generator.randrange(sharp.vocab_size) for _ in range(size)]
        for size in (5, 900, 90, 760, 800, 400, 20, 1000, 700)
    ]
    assert sum(map(len, pairs)) > 4096
    quantise(exact, fast, pairs[:1])
    for threads in (1, 2):
        model = OnnxModel(fast, threads=threads)
        assert model(pairs) == pytest.approx([model([pair])[0] for pair in pairs], abs=2e-5)


def test_equal_models_give_equal_bytes(
    built: tuple[Path, list[Comparison]], cache: Path, tmp_path: Path
) -> None:
    folder, _ = built
    build_gated("micro", tmp_path / "again", queries=QUERIES, cache=cache)
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("thresholds", "sentence"),
    [
        (Thresholds(error=1e-4), "the mean score error is .* on sample"),
        (Thresholds(agreement=1.01), "of the first ten agree .* on sample"),
        (Thresholds(ndcg_drop=-1.0), "NDCG@10 falls by .* on sample"),
    ],
)
def test_every_threshold_can_refuse(
    built: tuple[Path, list[Comparison]], thresholds: Thresholds, sentence: str
) -> None:
    assert shortfalls(built[1], Thresholds()) == []
    check("int8 does not pass", shortfalls(built[1], Thresholds()))
    with pytest.raises(GateFailed, match=sentence):
        check("int8 does not pass", shortfalls(built[1], thresholds))


def test_a_score_that_is_no_number_is_refused(built: tuple[Path, list[Comparison]]) -> None:
    broken = dataclasses.replace(built[1][0], fast=math.nan, mean_error=math.nan)
    with pytest.raises(GateFailed, match="NDCG@10 falls by nan.*score error is nan"):
        check("int8 does not pass", shortfalls([broken], Thresholds()))


def test_what_does_not_pass_is_not_written(cache: Path, tmp_path: Path) -> None:
    output, shown = tmp_path / "out", list[Comparison]()
    output.mkdir()
    (output / "manifest.json").write_text("the one before")
    strict = Thresholds(error=1e-4)
    with pytest.raises(GateFailed, match="nothing was written"):
        build_gated("micro", output, queries=QUERIES, cache=cache, thresholds=strict, show=shown.extend)
    assert [path.read_text() for path in output.iterdir()] == ["the one before"]
    assert len(shown) == 1


@needs("torch")
def test_the_gate_takes_a_folder_and_the_command_line_tells(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    output = tmp_path / "model.tar.gz"
    command = ["build", "--precision", "int8", "--output", str(output), "--gate", str(BEIR)]
    command += ["--gate-queries", "20"]
    assert main([*command, "--max-score-error", "0.0001"]) == 2
    shown = capsys.readouterr()
    assert "heldout" in shown.out
    assert "nothing was written" in shown.err
    assert "mean score error" in shown.err
    assert not output.exists()
    # Twenty queries are few: one that changes places moves the mean by more than the default allows.
    assert main([*command, "--max-ndcg-drop", "0.05", "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    assert (built["precision"], built["gate"][0]["data"], built["gate"][0]["queries"]) == (
        "int8",
        "heldout",
        20,
    )
    assert main(["rerank", "--model", str(output), "why", str(BEIR / "queries.jsonl"), "--top-n", "1"]) == 0


def test_random_weights_are_shown_and_not_held_to_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    small = JinaBertConfig(
        vocab_size=61056, hidden_size=48, num_hidden_layers=2, num_attention_heads=12, intermediate_size=96
    )
    monkeypatch.setitem(SHAPES, "tiny", small)
    shown: list[Comparison] = []
    none = Thresholds(ndcg_drop=-1, agreement=2, error=-1)
    manifest = build_gated(
        "random:tiny", tmp_path / "r", queries=3, cache=tmp_path, thresholds=none, show=shown.extend
    )
    assert manifest.model == "random:tiny"
    assert shown[0].pairs == 3 * TOP_K
    assert Engine.load(tmp_path / "r", Settings(model_dir=tmp_path / "r")).manifest.precision == "int8"


def test_int8_of_int8_is_refused(built: tuple[Path, list[Comparison]], cache: Path, tmp_path: Path) -> None:
    folder, _ = built
    with pytest.raises(CheckpointError, match="computes in int8 already"):
        build_gated(str(folder), tmp_path / "twice", cache=cache)
    with pytest.raises(CheckpointError, match="int8 artefact"):
        build(str(folder), tmp_path)
    before = (MICRO / "manifest.json").read_bytes()
    with pytest.raises(CheckpointError, match="another --output"):
        build_gated("micro", MICRO, cache=cache)
    assert (MICRO / "manifest.json").read_bytes() == before


@pytest.fixture(scope="module")
def other(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, which loses more in int8 than the gate allows."""
    folder = tmp_path_factory.mktemp("other")
    build(str(small_folder), folder)
    return folder


def test_a_cascade_is_refused_for_the_stage_that_falls_short(
    other: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    output = tmp_path / "model.tar.gz"
    command = ["build", "--precision", "int8", "--model", f"micro>{other}@3", "--output", str(output)]
    assert main([*command, "--gate-queries", str(QUERIES)]) == 2
    shown = capsys.readouterr()
    assert "sample, micro " in shown.out
    assert f"sample, {other} " in shown.out
    assert f"on sample for {other}" in shown.err
    assert "for micro" not in shown.err
    assert not output.exists()


def test_every_stage_of_a_cascade_is_the_models_own_int8_artefact(
    built: tuple[Path, list[Comparison]], other: Path, cache: Path, tmp_path: Path
) -> None:
    folder, shown = tmp_path / "cascade", list[Comparison]()
    loose = Thresholds(ndcg_drop=1, agreement=0, error=9)
    manifest = build_gated(
        f"micro>{other}@3", folder, queries=QUERIES, cache=cache, thresholds=loose, show=shown.extend
    )
    assert [row.model for row in shown] == ["micro", str(other)]
    assert dataclasses.replace(shown[0], data="sample") == built[1][0]
    for path in built[0].iterdir():
        assert (folder / "stages/0" / path.name).read_bytes() == path.read_bytes(), path.name
    stages = [Manifest.read(stage) for stage in manifest.stages(folder)]
    assert [stage.precision for stage in stages] == ["int8", "int8"]
    # What `sagerank verify` goes by, whose golden pairs the last model scores.
    assert (manifest.precision, manifest.keep) == ("int8", (3,))
    assert (manifest.golden, manifest.tolerance) == (stages[1].golden, stages[1].tolerance)
    texts = ["Mars is red.", "Bread is baked.", "", "The dust of Mars has iron oxide.", "Venus is hot."]
    found, first, last = (
        Engine.load(each, Settings(model_dir=each)).score("why is mars red", texts).values
        for each in (folder, *manifest.stages(folder))
    )
    best = best_first(first, 3)
    assert [found[index] for index in best] == pytest.approx([last[index] for index in best], abs=0.02)
    with pytest.raises(CheckpointError, match="sagerank-micro computes in int8 already"):
        build_gated(str(folder), tmp_path / "twice", cache=cache)


def test_a_cascade_may_mix_precisions(
    built: tuple[Path, list[Comparison]], other: Path, cache: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    manifest = build(f"{other}>{built[0]}@2", folder)
    assert (manifest.precision, manifest.tolerance) == ("fp32>int8", Manifest.read(built[0]).tolerance)
    Engine.load(folder, Settings(model_dir=folder))
    with pytest.raises(CheckpointError, match=f"{built[0]} computes in int8 already"):
        build_gated(f"{other}>{built[0]}@2", tmp_path / "twice", cache=cache)


def test_bf16_passes_the_same_gate_and_is_float32_where_the_processor_lacks_it(
    micro: Engine, cache: Path, tmp_path: Path
) -> None:
    folder, shown = tmp_path / "bf16", list[Comparison]()
    manifest = build_gated("micro", folder, "bf16", queries=QUERIES, cache=cache, show=shown.extend)
    [judged] = shown
    assert (judged.precision, manifest.precision) == ("bf16", "bf16")
    # Eight bits of a factor: far from float32's error, and below int8's.
    assert 1e-3 < judged.mean_error < judged.max_error <= manifest.tolerance < judged.max_error + 0.2
    assert check_graphs(folder)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (folder / name).read_bytes() == (MICRO / name).read_bytes()
    engine = Engine.load(folder, Settings(model_dir=folder))
    texts = ["Mars is red.", "", "Bread is baked. " * 60]
    exact, near = (each.score("why is mars red", texts).values for each in (micro, engine))
    assert near == pytest.approx(exact, abs=manifest.tolerance if has_bfloat16() else 1e-4)


def test_bf16_that_does_not_pass_is_not_written(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    output = tmp_path / "model.tar.gz"
    command = ["build", "--precision", "bf16", "--output", str(output), "--gate-queries", "20"]
    assert main([*command, "--max-score-error", "0.0001"]) == 2
    shown = capsys.readouterr()
    assert "bf16 does not pass the gate, and nothing was written" in shown.err
    assert "bf16" in shown.out
    assert not output.exists()
    assert main(command) == 0
    assert (
        main(["build", "--precision", "int8", "--model", str(output), "--output", str(tmp_path / "no")]) == 2
    )
    assert "computes in bf16 already" in capsys.readouterr().err
