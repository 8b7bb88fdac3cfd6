"""What an artefact says of its scores: applied in every form of answer, and never to a ranking or a logit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagerank.models.build import MICRO
from sagerank_inference import handler
from sagerank_inference.archive import copy
from sagerank_inference.artefact import ArtefactError, Calibration, Manifest, Threshold
from sagerank_inference.contract import Scores, Timings, sigmoid
from sagerank_inference.dialects import parse, render
from sagerank_inference.engine import Engine
from sagerank_inference.scale import AS_IT_IS, Scale
from sagerank_inference.settings import Settings

from ..servers import running

TIMINGS = Timings(0.0, 0.0, 0.0)
CALIBRATION = Calibration(
    temperature=2.5, shift=-1.0, target="judgements", data="mine", pairs=300, queries=20
)
DOCS = ["Clouds cool, and drops fall.", "Cats sleep.", "Rain forms when moist air rises."]


@given(st.floats(-1e30, 1e30))
def test_without_a_calibration_a_score_is_the_sigmoid_bit_for_bit(logit: float) -> None:
    assert AS_IT_IS.score(logit) == sigmoid(logit)


@given(
    st.lists(st.floats(-50, 50), min_size=2, max_size=9),
    st.floats(1e-3, 1e3),
    st.floats(-20, 20),
)
def test_it_keeps_every_order(logits: list[float], temperature: float, shift: float) -> None:
    scale = Scale(temperature, shift)
    assert [scale.score(logit) for logit in sorted(logits)] == sorted(map(scale.score, logits))
    assert scale.score(shift) == 0.5
    assert all(0 <= scale.score(logit) <= 1 for logit in (*logits, 3e38, -3e38))


@pytest.mark.parametrize(
    ("path", "body", "read"),
    [
        ("/v1/rerank", {"query": "q", "documents": ["a", "b"]}, lambda a: [r["relevance_score"] for r in a["results"]]),
        ("/v2/rerank", {"query": "q", "documents": ["a", "b"], "model": "m"}, lambda a: [r["relevance_score"] for r in a["results"]]),
        ("/rerank", {"query": "q", "texts": ["a", "b"]}, lambda a: [r["score"] for r in a]),
        ("/score", {"text_1": "q", "text_2": ["a", "b"]}, lambda a: [r["score"] for r in a["data"]]),
    ],
)  # fmt: skip
def test_every_form_of_answer_shows_it(path: str, body: dict[str, Any], read: Any) -> None:
    scale, logits = Scale(2.0, 1.0, cutoff=2.0), (3.0, -1.0)

    def shown(fields: dict[str, Any] = {}, accept: str = "") -> Any:  # noqa: B006 - only read
        call = parse(json.dumps(body | fields).encode(), None, path=path, scale=scale)
        scores = [[Scores(logits, 1, (1, 1), TIMINGS)]]
        answer = render(call, scores, model="m", request_id="r", accept=accept)[0]
        return answer if accept else read(json.loads(answer))

    assert shown() == [sigmoid(1.0), sigmoid(-1.0)]
    assert shown(accept="text/csv") == f"{sigmoid(1.0)!r}\n{sigmoid(-1.0)!r}\n".encode()
    assert shown({"raw_scores": True}) == [3.0, -1.0], "logits stay the model's"
    if path != "/score":
        assert shown({"min_score": 0.5}) == [sigmoid(1.0)]
        assert shown({"min_score": "calibrated"}) == [sigmoid(1.0)], "the cut-off is of the logit"
        assert shown({"min_score": "calibrated", "raw_scores": True}) == [3.0]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Micro with a calibration, and a cut-off."""
    folder = tmp_path / "model"
    copy(MICRO, folder)
    cut = Threshold(logit=0.0, low=-1.0, high=1.0, precision=0.5, pairs=300, queries=20)
    replace(Manifest.read(folder), calibration=CALIBRATION, threshold=cut).write(folder)
    return folder


def test_server_handler_and_engine_answer_alike(model: Path) -> None:
    """The golden pairs are checked on the way, by their logits: all three start."""
    engine = Engine.load(model, Settings(model_dir=model))
    assert engine.manifest.scale == Scale(2.5, -1.0, 0.0)
    logits = engine.score("what causes rain", DOCS).values
    expected = [Scale(2.5, -1.0).score(logit) for logit in logits]
    body = json.dumps({"query": "what causes rain", "documents": DOCS, "min_score": "calibrated"}).encode()
    by_engine = json.loads(engine.answer(parse(body, None, scale=engine.manifest.scale), request_id="r")[0])
    kept = {item["index"]: item["relevance_score"] for item in by_engine["results"]}
    assert kept == pytest.approx({i: expected[i] for i, logit in enumerate(logits) if logit >= 0}, abs=1e-6)
    loaded = handler.model_fn(str(model))
    try:
        call = handler.input_fn(body, "application/json")
        by_handler = json.loads(handler.output_fn(handler.predict_fn(call, loaded), "application/json")[0])
    finally:
        handler.model_fn(str(MICRO))  # its settings are the module's
    with running(SAGERANK_MODEL_DIR=str(model)) as server:
        server.wait_until_ready()
        status, by_server = server.post(body)
    assert status == 200
    for answer in (by_handler, by_server):
        found = {item["index"]: item["relevance_score"] for item in answer["results"]}
        assert found == pytest.approx(kept, abs=1e-6)


def test_a_manifest_keeps_it_and_one_without_is_written_as_before(model: Path, tmp_path: Path) -> None:
    assert Manifest.read(model).calibration == CALIBRATION
    other = tmp_path / "other"
    copy(MICRO, other)
    before = (other / "manifest.json").read_bytes()
    Manifest.read(other).write(other)
    assert (other / "manifest.json").read_bytes() == before
    assert b"calibration" not in before


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"temperature": 1e9},
        {"temperature": "1"},
        {"shift": None},
        {"shift": True},
        {"target": ""},
        {"data": "two\nlines"},
        {"pairs": 0},
        {"queries": 1.5},
        {"more": 1},
    ],
)
def test_a_damaged_calibration_is_refused(model: Path, wrong: dict[str, Any]) -> None:
    raw = json.loads((model / "manifest.json").read_text())
    raw["calibration"] |= wrong
    (model / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(ArtefactError, match="calibration has to have|other fields"):
        Manifest.read(model)
