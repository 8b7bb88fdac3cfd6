"""Temperature and shift: known answers, how true scores are after them, and a threshold that is the teacher's and the student's."""

from __future__ import annotations

import json
import math
import random
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagerank import RerankClient
from sagerank.cli import main
from sagerank.distillation.precision import build_gated
from sagerank.evaluation import SAMPLE, EvaluationError
from sagerank.evaluation.calibration import Known, fit, reliability
from sagerank.evaluation.scorer import open_scorer, scale_of
from sagerank.models.amend import amend
from sagerank.models.build import MICRO, archive, build
from sagerank.transport import EngineTransport
from sagerank_inference.archive import copy, manifest_sha256, unpack
from sagerank_inference.artefact import ArtefactError, Calibration, Manifest, sha256
from sagerank_inference.contract import sigmoid
from sagerank_inference.engine import Engine
from sagerank_inference.scale import AS_IT_IS, Scale
from sagerank_inference.settings import Settings

from ...conftest import needs
from ...servers import Server, running

HELDOUT = SAMPLE / "heldout"
ARGUMENTS = [
    "eval",
    "calibrate",
    "--data",
    str(HELDOUT),
    "--top-k",
    "10",
    "--queries",
    "20",
    "--threads",
    "2",
]
CALIBRATION = Calibration(temperature=2.0, shift=1.0, target="judgements", data="mine", pairs=9, queries=3)


def drawn(scale: Scale, queries: int = 200, seed: int = 0) -> list[Known]:
    """Judged pairs, relevant with the probability that the scale gives their logit."""
    chance = random.Random(seed)
    found = []
    for query in range(queries):
        middle = chance.gauss(0, 2)
        for _ in range(30):
            logit = chance.gauss(middle, 4)
            found.append(Known(str(query), logit, float(chance.random() < scale.score(logit))))
    return found


def test_the_scale_that_made_the_judgements_is_found_and_scores_are_true_with_it() -> None:
    found = fit(drawn(Scale(3.0, 2.0)), before=AS_IT_IS)
    assert (found.temperature, found.shift) == pytest.approx((3.0, 2.0), abs=0.25)
    assert found.after.error < 0.02 < 0.1 < found.before.error
    assert found.after.brier < found.before.brier
    assert (found.pairs, found.queries) == (6000, 200)
    true = fit(drawn(Scale()), before=AS_IT_IS)
    assert true.before.error < 0.02, "what was true before is true after"
    assert (true.temperature, true.shift) == pytest.approx((1.0, 0.0), abs=0.1)


def test_it_is_where_the_likelihood_is_highest() -> None:
    """Against every neighbour on a grid, by the definition of the likelihood."""
    pairs = drawn(Scale(3.0, 2.0), queries=20)
    found = fit(pairs, before=AS_IT_IS)

    def likelihood(scale: Scale) -> float:
        return sum(
            math.log(scale.score(p.logit) if p.probability else 1 - scale.score(p.logit)) for p in pairs
        )

    best = likelihood(found.scale)
    for factor in (0.98, 0.999, 1.001, 1.02):
        for step in (-0.05, -0.002, 0, 0.002, 0.05):
            other = Scale(found.temperature * factor, found.shift + step)
            assert likelihood(other) < best


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 20), st.floats(-10, 10), st.floats(0.3, 5), st.integers(0, 99))
def test_a_student_that_is_the_teacher_at_another_scale_gets_the_teachers_scores(
    factor: float, offset: float, spread: float, seed: int
) -> None:
    chance = random.Random(seed)
    teacher = [chance.gauss(-1, spread) for _ in range(100)]
    pairs = [
        Known(str(number % 10), factor * logit + offset, sigmoid(logit))
        for number, logit in enumerate(teacher)
    ]
    found = fit(pairs, before=AS_IT_IS)
    assert found.temperature == pytest.approx(factor, rel=1e-3)
    assert [found.scale.score(pair.logit) for pair in pairs] == pytest.approx(
        [pair.probability for pair in pairs], abs=1e-4
    )
    assert found.after.brier < 1e-7, "on queries left out too"


def test_a_reliability_table_by_hand() -> None:
    table = reliability(np.array([0.05, 0.15, 0.95, 1.0]), np.array([0.0, 1.0, 1.0, 0.0]))
    assert [row.pairs for row in table.bins] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (table.bins[9].score, table.bins[9].known) == (0.975, 0.5)
    assert math.isnan(table.bins[2].score)
    assert table.error == pytest.approx((0.05 + 0.85 + 2 * 0.475) / 4)
    assert table.brier == pytest.approx((0.05**2 + 0.85**2 + 0.05**2 + 1) / 4)


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (drawn(Scale())[:29], "29 pairs of 1 queries are too few"),
        ([replace(pair, query="q") for pair in drawn(Scale())], "of 1 queries are too few"),
        ([replace(pair, probability=0.0) for pair in drawn(Scale())], "No pair is relevant"),
        ([replace(pair, probability=1.0) for pair in drawn(Scale())], "All pairs are relevant"),
        ([replace(pair, probability=0.3) for pair in drawn(Scale())], "All pairs have one score"),
        ([replace(pair, logit=1.0) for pair in drawn(Scale())], "The model gives all pairs one score"),
        ([replace(pair, logit=-pair.logit) for pair in drawn(Scale())], "do not rise with what is known"),
        ([replace(pair, logit=1e9 * pair.logit) for pair in drawn(Scale())], "of no usual size"),
        (
            [replace(pair, probability=float(pair.logit > 0)) for pair in drawn(Scale())],
            "separates all relevant pairs",
        ),
        ([*drawn(Scale()), Known("q", math.nan, 1.0)], "Of 6,001 pairs 1 have a score of the model"),
        ([*drawn(Scale()), Known("q", 0.0, math.inf)], "1 have a probability that is known"),
        ([*drawn(Scale()), Known("q", 0.0, 1.5)], "has to be a probability"),
    ],
)
def test_what_cannot_be_fitted_is_a_sentence(pairs: list[Known], sentence: str) -> None:
    with pytest.raises(EvaluationError, match=sentence):
        fit(pairs, before=AS_IT_IS)


def scaled(folder: Path, factor: float, offset: float) -> Manifest:
    """Make `folder` micro whose logits are factor * logit + offset: its head says so."""
    copy(MICRO, folder)
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])

    def change(name: str, value: Any) -> None:
        begin, end = (8 + size + at for at in header[name]["data_offsets"])
        data[begin:end] = value(np.frombuffer(data[begin:end], "<f4")).astype("<f4").tobytes()

    change("classifier.weight.scale", lambda old: old * factor)
    change("classifier.bias", lambda old: old * factor + offset)
    path.write_bytes(data)
    manifest = Manifest.read(folder)
    golden = tuple(replace(pair, logit=pair.logit * factor + offset) for pair in manifest.golden)
    changed = replace(
        manifest, files=manifest.files | {path.name: sha256(path)}, golden=golden, model="student"
    )
    changed.write(folder)
    return changed


def texts(name: str, count: int) -> list[str]:
    return [json.loads(line)["text"] for line in (HELDOUT / name).read_text().splitlines()[:count]]


def kept(model: Path, lowest: float) -> list[list[int]]:
    """What a client gets of some passages with that min_score, query by query."""
    engine, documents = Engine.load(model, Settings(model_dir=model)), texts("corpus.jsonl", 60)
    with RerankClient(EngineTransport(engine)) as client:
        return [
            [one.index for one in client.rerank(query, documents, min_score=lowest).results]
            for query in texts("queries.jsonl", 20)
        ]


def test_a_threshold_chosen_on_the_teacher_is_the_students(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = tmp_path / "student"
    scaled(student, 2.0, 3.0)
    threshold = ["eval", "threshold", *ARGUMENTS[2:], "--precision", "0.6", "--json"]
    assert main(threshold) == 0
    teachers = json.loads(capsys.readouterr().out)["score"]
    lowest = teachers - 1e-3  # a cut-off is some pair's own score, and rounding would decide about that one
    wanted = kept(MICRO, lowest)
    assert 0 < sum(map(len, wanted)) < 20 * 60
    assert kept(student, lowest) != wanted, "before, its scores are others"
    assert main([*ARGUMENTS, "--model", str(student), "--teacher", "micro", "--store", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["temperature"], found["shift"]) == pytest.approx((2.0, 3.0), abs=1e-3)
    assert found["before"]["error"] > 0.02 > 1e-4 > found["after"]["error"]
    assert found["target"].startswith("sagerank-micro@")
    assert found["manifest_sha256"] == sha256(student / "manifest.json") == manifest_sha256(student)
    assert kept(student, lowest) == wanted
    assert main([*threshold, "--model", str(student)]) == 0
    assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(teachers, abs=1e-4)


def test_a_server_shows_its_logits_by_the_calibration_that_its_artefact_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, plain = tmp_path / "model", tmp_path / "plain"
    copy(MICRO, model)
    copy(MICRO, plain)
    amend(model, CALIBRATION)
    threshold = ["eval", "threshold", *ARGUMENTS[2:], "--precision", "0.6", "--json"]
    shown = []
    with running(SAGERANK_MODEL_DIR=str(model)) as server:
        server.wait_until_ready()
        url = f"http://127.0.0.1:{server.port}"
        for spec in (url, str(model)):
            scale = scale_of(open_scorer(spec))
            assert (scale.temperature, scale.shift) == pytest.approx((2.0, 1.0), abs=1e-6)
            assert main([*threshold, "--model", spec]) == 0
            shown.append(json.loads(capsys.readouterr().out)["score"])
            assert main([*ARGUMENTS, "--model", str(plain), "--teacher", spec, "--store", "--json"]) == 0
            found = json.loads(capsys.readouterr().out)
            assert (found["temperature"], found["shift"]) == pytest.approx((2.0, 1.0), abs=1e-3)
        assert scale_of(open_scorer(f"micro>{url}@5")).shift == pytest.approx(1.0, abs=1e-6)
    assert shown[0] == pytest.approx(shown[1], abs=1e-6), "what a request may say is a score that is served"


def test_a_server_without_a_calibration_shows_the_sigmoid_of_its_logits(server: Server) -> None:
    assert scale_of(open_scorer(f"http://127.0.0.1:{server.port}")) == AS_IT_IS


@pytest.mark.parametrize("packed", [False, True])
def test_names_that_cannot_be_shown_leave_the_artefact_whole(tmp_path: Path, packed: bool) -> None:
    model = tmp_path / ("model.tar.gz" if packed else "model")
    if packed:
        archive("micro", model)
    else:
        copy(MICRO, model)
    data = tmp_path / "my\u00a0data\n"
    shutil.copytree(HELDOUT, data)
    mine = ["--data", str(data), *ARGUMENTS[4:], "--model", str(model), "--store"]
    assert main(["eval", "calibrate", *mine]) == 0
    kept = (unpack(model, tmp_path / "read") if packed else Manifest.read(model)).calibration
    assert kept is not None
    assert kept.data == "my_data_"
    before = model.read_bytes() if packed else (model / "manifest.json").read_bytes()
    with pytest.raises(ArtefactError, match="calibration has to have"):
        amend(model, replace(CALIBRATION, data="\n"))
    assert (model.read_bytes() if packed else (model / "manifest.json").read_bytes()) == before


@pytest.mark.parametrize("packed", [False, True])
def test_it_is_written_with_store_only(
    tmp_path: Path, packed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    model, plot = tmp_path / ("model.tar.gz" if packed else "model"), tmp_path / "reliability.svg"
    if packed:
        archive("micro", model, code=True)
    else:
        copy(MICRO, model)
    before = (model if packed else model / "manifest.json").read_bytes()
    cache = ["--cache", str(tmp_path / "scores.jsonl")]
    assert main([*ARGUMENTS, *cache, "--model", str(model), "--plot", str(plot)]) == 0
    shown = capsys.readouterr().out
    assert "Nothing was written" in shown
    assert "expected calibration error" in shown
    assert "B  before" in shown
    assert "as it should be" in plot.read_text()
    assert (model if packed else model / "manifest.json").read_bytes() == before
    assert main([*ARGUMENTS, *cache, "--model", str(model), "--store"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"is another one now, {manifest_sha256(model)}: what is deployed" in shown
    folder = tmp_path / "read"
    kept = (unpack(model, folder, code=packed) if packed else Manifest.read(model)).calibration
    assert kept is not None
    assert (kept.target, kept.data) == ("judgements", "heldout")
    # Fitted anew it is the same: logits are what it is fitted to, and the scores before are those with it.
    assert main([*ARGUMENTS, *cache, "--model", str(model), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["temperature"] == kept.temperature
    assert again["before"]["error"] < 0.05
    if packed:
        assert (folder / "code").is_dir(), "what else the archive holds stays"


@needs("torch")
def test_a_rebuilt_artefact_an_int8_one_and_a_cascade_keep_it(tmp_path: Path, second: Path) -> None:
    model = tmp_path / "model"
    copy(second, model)
    pinned = manifest_sha256(model)
    written = amend(model, CALIBRATION)
    with pytest.raises(ArtefactError, match="is of another artefact"):
        Manifest.read(model, pinned)
    assert written == Manifest.read(model)
    assert build(str(model), tmp_path / "again").calibration == CALIBRATION
    assert build(f"{MICRO}>{model}@5", tmp_path / "cascade").calibration == CALIBRATION
    assert scale_of(open_scorer(str(tmp_path / "cascade"))) == Scale(2.0, 1.0)
    assert scale_of(open_scorer(f"micro>{model}@5")) == Scale(2.0, 1.0)
    assert archive(str(model), tmp_path / "model.tar.gz").calibration == CALIBRATION
    source = tmp_path / "micro"
    copy(MICRO, source)
    amend(source, CALIBRATION)
    for precision in ("int8", "bf16"):
        assert (
            build_gated(str(source), tmp_path / precision, precision, queries=20).calibration == CALIBRATION
        )
    other = tmp_path / "trained"
    copy(MICRO, other)
    amend(other, CALIBRATION)
    weights = scaled(tmp_path / "scaled", 2.0, 0.0)
    assert weights.calibration is None
    (other / "model.safetensors").write_bytes((tmp_path / "scaled" / "model.safetensors").read_bytes())
    assert build(str(other), tmp_path / "new").calibration is None, "other weights are another model"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["calibrate"], "Give one --labels or one --data"),
        (["calibrate", "--data", "x", "--model", "micro", "--model", "tiny"], "calibrate takes one --model"),
        (["calibrate", "--data", "x", "--store"], "--store writes into an artefact"),
        (["calibrate", "--data", str(HELDOUT), "--plot", "x.txt"], "ends in .svg, .png or .pdf"),
        (["threshold", "--data", "x", "--teacher", "tiny"], "--teacher goes with `sagerank eval calibrate`"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_json_has_no_nan() -> None:
    found = fit([replace(pair, logit=pair.logit / 100) for pair in drawn(Scale())], before=AS_IT_IS)
    assert [row.pairs for row in found.before.bins].count(0) == 8, "all scores are near 0.5"
    facts = json.loads(json.dumps(found.facts(), allow_nan=False))
    assert facts["before"]["bins"][0]["score"] is None
