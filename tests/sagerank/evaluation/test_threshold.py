"""The cut-off for a wanted precision: known answers, what it keeps on queries left out, and the artefact that keeps it."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagerank.cli import main
from sagerank.evaluation import EvaluationError
from sagerank.evaluation.threshold import Labelled, cutoff
from sagerank.models.build import MICRO, archive
from sagerank_inference.archive import copy, unpack
from sagerank_inference.artefact import ArtefactError, Manifest
from sagerank_inference.dialects import parse, sigmoid
from sagerank_inference.engine import Engine
from sagerank_inference.settings import Settings


def pairs(*rows: tuple[str, float, bool]) -> list[Labelled]:
    return [Labelled(*row) for row in rows]


def test_the_lowest_score_with_the_precision() -> None:
    labelled = pairs(
        ("a", 4, True), ("a", 3, False), ("b", 2, True), ("b", 1, True), ("c", 0, False), ("c", -1, False)
    )
    assert cutoff(labelled, 1.0).logit == 4
    found = cutoff(labelled, 0.75)
    assert (found.logit, found.precision, found.recall) == (1, 0.75, 1.0)
    assert cutoff(labelled, 0.6).logit == 0
    assert cutoff(labelled, 0.1).logit == -1


def test_equal_scores_are_kept_or_left_together() -> None:
    labelled = pairs(("a", 2, True), ("a", 1, True), ("b", 1, False), ("b", 0, False))
    assert cutoff(labelled, 0.9).logit == 2


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
def test_it_is_what_trying_every_score_finds(rows: list[tuple[int, int, bool]], precision: float) -> None:
    labelled = [Labelled(str(query), float(logit), relevant) for query, logit, relevant in rows]

    def of(cut: float) -> float:
        kept = [pair.relevant for pair in labelled if pair.logit >= cut]
        return sum(kept) / len(kept)

    good = [pair.logit for pair in labelled if of(pair.logit) >= precision]
    if not good or not any(pair.relevant for pair in labelled):
        with pytest.raises(EvaluationError, match="No score has a precision|None of the pairs is relevant"):
            cutoff(labelled, precision, resamples=20)
        return
    found = None
    with suppress(EvaluationError):  # no resample has one: few are good
        found = cutoff(labelled, precision, resamples=50)
    assert found is None or found.logit == min(good)
    assert found is None or found.precision == pytest.approx(of(found.logit))


def drawn(seed: int, queries: int) -> list[Labelled]:
    """Pairs whose probability of being relevant is the sigmoid of their logit."""
    chance = random.Random(seed)
    found = []
    for query in range(queries):
        shift = chance.gauss(0, 1)
        for _ in range(20):
            logit = chance.gauss(shift, 2)
            found.append(Labelled(str(query), logit, chance.random() < sigmoid(logit)))
    return found


def test_left_out_queries_do_not_flatter_and_the_interval_holds_the_truth() -> None:
    """The truth: the cut-off that a hundred times as many queries have."""
    truth = cutoff(drawn(0, 6000), 0.8, resamples=2)
    held = 0
    for seed in range(1, 21):
        found = cutoff(drawn(seed, 60), 0.8, resamples=300)
        held += found.low <= truth.logit <= found.high
        assert found.held_out_precision.low <= found.held_out_precision.mean <= found.held_out_precision.high
        assert abs(found.held_out_precision.mean - 0.8) < 0.1
    assert held >= 17


def test_the_same_seed_finds_the_same() -> None:
    assert cutoff(drawn(1, 30), 0.8) == cutoff(drawn(1, 30), 0.8)
    assert cutoff(drawn(1, 30), 0.8).low != cutoff(drawn(1, 30), 0.8, seed=1).low


def test_few_labels_are_called_few() -> None:
    assert any("are few" in warning for warning in cutoff(drawn(1, 10), 0.6).warnings)
    assert cutoff(drawn(1, 200), 0.6).warnings == []


def test_what_cannot_be_had_is_said() -> None:
    labelled = pairs(("a", 2, False), ("a", 1, True), ("b", 0, False))
    with pytest.raises(EvaluationError, match=r"the best is 0.500, of the 2 pairs from the logit 1.000 on"):
        cutoff(labelled, 0.9)
    with pytest.raises(EvaluationError, match="None of the pairs is relevant"):
        cutoff(pairs(("a", 1, False)), 0.9)
    with pytest.raises(EvaluationError, match="give a share above 0"):
        cutoff(labelled, 0)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of micro's own making: what it scores above its middle is relevant, but for some."""
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    chance, engine = random.Random(3), Engine.load(MICRO, Settings())
    words = ["rain", "cloud", "water", "cat", "sleeps", "river", "ice", "valley", "war", "bank\u2028line"]
    lines = []
    for number in range(30):
        query = f"{words[number % 10]} {words[number // 3]}?"
        documents = [" ".join(chance.choices(words, k=6)) for _ in range(8)]
        logits = engine.score(query, documents).values
        middle = sorted(logits)[4]
        for document, logit in zip(documents, logits, strict=True):
            relevant = (logit >= middle) != (chance.random() < 0.1)
            lines.append(
                json.dumps({"query": query, "document": document, "label": relevant}, ensure_ascii=False)
            )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_it_is_stored_in_an_artefact_and_served(
    tmp_path: Path, labels: Path, packed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / ("model.tar.gz" if packed else "model")
    if packed:
        archive("micro", model, code=True)
    else:
        copy(MICRO, model)
    code = main(
        [
            "eval",
            "threshold",
            "--labels",
            str(labels),
            "--model",
            str(model),
            "--precision",
            "0.7",
            "--store",
            "--json",
        ]
    )
    assert code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"] == 240
    assert found["score"] == sigmoid(found["logit"])
    folder = tmp_path / "read"
    manifest = unpack(model, folder) if packed else copy(model, folder)
    assert manifest.threshold is not None
    assert manifest.threshold.logit == found["logit"]
    engine = Engine.load(folder, Settings(model_dir=folder))
    body = json.dumps({"query": "rain cloud", "documents": ["water rain", "war"], "min_score": "calibrated"})
    (request,) = parse(body.encode(), None, scale=engine.manifest.scale).requests
    assert request.min_score == found["score"]
    if packed:
        whole = tmp_path / "whole"
        unpack(model, whole, code=True)
        assert (whole / "code").is_dir(), "what else the archive holds stays"


def test_the_table_says_what_to_send(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "threshold", "--labels", str(labels), "--precision", "0.7"]) == 0
    shown = capsys.readouterr().out
    assert '"min_score": ' in shown
    assert "precision on queries left out" in shown


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "labels.jsonl:1 is no object"),
        ("[" * 100_000, "labels.jsonl:1 is no object"),
        ('{"query":"q","document":"\\ud800","label":1}', "labels.jsonl:1 is no object"),
        ('{"query":"q","document":"d"}', "labels.jsonl:1 is no object"),
        ('{"query":" ","document":"d","label":1}', "the query not blank"),
        ('{"query":"q","document":"d","label":"yes"}', "label must be true, false or a grade"),
        ("", "is empty: give lines"),
    ],
)
def test_labels_that_cannot_be_read(
    tmp_path: Path, line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(f"{line}\n")
    assert main(["eval", "threshold", "--labels", str(path)]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Give one --labels or one --data"),
        (["--labels", str(MICRO / "model.onnx")], "model.onnx is not UTF-8"),
        (["--labels", "x", "--data", "y"], "Give one --labels or one --data"),
        (["--labels", "x", "--model", "micro", "--model", "tiny"], "threshold takes one --model"),
        (["--labels", "/nowhere"], "No such file"),
        (["--labels", "x", "--store"], "--store writes into an artefact"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "threshold", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert main(["eval", "run", "--data", "x", "--store"]) == 2
    assert "--store goes with `sagerank eval threshold or calibrate`" in capsys.readouterr().err


def test_a_damaged_threshold_is_refused(tmp_path: Path) -> None:
    copy(MICRO, tmp_path)
    raw = json.loads((tmp_path / "manifest.json").read_text())
    good = {"logit": 1.0, "low": 0.5, "high": 2.0, "precision": 0.9, "pairs": 9, "queries": 3}
    for wrong in (
        {**good, "logit": "x"},
        {**good, "low": 3.0},
        {**good, "precision": 2},
        {**good, "pairs": 0},
        {"logit": 1},
        3,
    ):
        (tmp_path / "manifest.json").write_text(json.dumps({**raw, "threshold": wrong}))
        with pytest.raises(ArtefactError, match="threshold|other fields"):
            Manifest.read(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({**raw, "threshold": good}))
    assert Manifest.read(tmp_path).threshold is not None
