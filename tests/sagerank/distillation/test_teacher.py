"""Teachers: their scores, their shares of the queries, and the targets that come of both."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from sagerank.distillation import DistillationError
from sagerank.distillation.heldout import training_text
from sagerank.distillation.mine import Candidates, mine
from sagerank.distillation.recipe import Recipe, parse_teachers
from sagerank.distillation.teacher import (
    SHIFT,
    SLOPE,
    EmbeddingTeacher,
    assigned,
    each,
    open_teacher,
    targets,
)
from sagerank.errors import AccessDenied
from sagerank.evaluation.scores import ScoreStore
from sagerank.models.build import MICRO

from ...servers import Server
from ..conftest import Words
from ..scripted import Script


@pytest.fixture
def teacher_folder(tmp_path: Path) -> Path:
    """A cross-encoder in ONNX whose logit is the mean id of its tokens: real runtime, foreseeable scores."""
    folder = tmp_path / "teacher"
    folder.mkdir()
    shutil.copyfile(MICRO / "tokenizer.json", folder / "tokenizer.json")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"])
        for name in ("input_ids", "attention_mask")
    ]
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["real"]),
        helper.make_node("ReduceSum", ["real", "axis"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["attention_mask", "axis"], ["count"], keepdims=1),
        helper.make_node("Cast", ["sum"], ["sum_f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["count"], ["count_f"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["sum_f", "count_f"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "teacher",
        inputs,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 1])],
        [numpy_helper.from_array(np.array([1]), "axis")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10),
        folder / "model.onnx",
    )
    return folder


def test_an_onnx_teacher_scores_alike_whatever_the_company(teacher_folder: Path) -> None:
    teacher = open_teacher(f"onnx:{teacher_folder}", threads=1, max_tokens=256)
    tokenizer = Tokenizer.from_file(str(MICRO / "tokenizer.json"))
    documents = ["a", "a much longer document about glaciers and ice", "b c"] * 20
    expected = [np.mean(tokenizer.encode("query", document).ids) for document in documents]
    assert teacher.score("query", documents) == pytest.approx(expected, rel=1e-5)


def test_a_bi_encoder_teaches_on_the_scale_of_logits(embedder_folder: Path) -> None:
    teacher = open_teacher(f"minilm:{embedder_folder}", threads=1, max_tokens=256)
    assert isinstance(teacher, EmbeddingTeacher)
    same, other = teacher.score("ice valley", ["ice valley", "piston engine"])
    assert same == pytest.approx(SLOPE + SHIFT, abs=1e-3)
    assert other < same
    again = EmbeddingTeacher(teacher._embedder)
    again.remember(["ice valley"], np.array([[1.0, 0.0]], np.float32), queries=True)
    again.remember(["x"], np.array([[0.5, 0.0]], np.float32), queries=False)
    assert again.score("ice valley", ["x"]) == [0.5 * SLOPE + SHIFT], (
        "what mining embedded is not embedded again"
    )


def test_teachers_share_the_queries_by_weight() -> None:
    shares = parse_teachers(["onnx:/a=3", "bge:/b"])
    assert shares == {"onnx:/a": 0.75, "bge:/b": 0.25}
    drawn = [assigned(f"query {i}", shares, 0) for i in range(2000)]
    assert drawn.count("onnx:/a") / 2000 == pytest.approx(0.75, abs=0.04)
    assert drawn[:50] == [assigned(f"query {i}", shares, 0) for i in range(50)]
    for wrong in ("onnx:/a=x", "onnx:/a=0", "onnx:/a=-1"):
        with pytest.raises(DistillationError, match="onnx:/a"):
            parse_teachers([wrong])


def test_the_target_is_the_teacher_and_a_little_bm25(tmp_path: Path) -> None:
    item, teacher = Candidates("a b", ("a", "b a", "c"), (0.5, 1.0, 0.0)), Words()
    with ScoreStore(tmp_path / "s.jsonl") as store:
        assert targets(item, teacher, store, lexical=4.0) == (3.0, 6.0, 0.0)
        assert targets(item, teacher, store, lexical=0.0) == (1.0, 2.0, 0.0)
    assert teacher.asked == 3


def test_a_server_teaches_as_its_model_does_here(server: Server, documents: Path, tmp_path: Path) -> None:
    recipe = Recipe(passages=str(documents), teachers=("micro",), made_queries=40)
    text = training_text(recipe)
    items = list(mine(text, vectors=None, documents=6, limit=12, seed=0))
    learnt = {}
    for spec in ("micro", f"http://127.0.0.1:{server.port}"):
        teacher = open_teacher(spec, threads=1, max_tokens=64)
        with ScoreStore(tmp_path / "scores.jsonl") as store:
            ask = partial(targets, teacher=teacher, store=store, lexical=4.0)
            learnt[spec] = [score for scores in each([teacher], ask, items) for score in scores]
    here, there = learnt.values()
    assert there == pytest.approx(here, abs=1e-5)
    assert max(here) - min(here) > 5


def test_a_server_that_goes_away_is_asked_again_for_nothing_it_said(script: Script, tmp_path: Path) -> None:
    items = [Candidates(f"query {number}", ("a", f"b {number}"), (0.0, 0.0)) for number in range(30)]
    url = f"http://127.0.0.1:{script.server_address[1]}/"

    def run() -> list[tuple[float, ...]]:
        teacher = open_teacher(url, threads=1, max_tokens=64)
        with ScoreStore(tmp_path / "scores.jsonl") as store:
            return list(each([teacher], partial(targets, teacher=teacher, store=store, lexical=0.0), items))

    teacher = open_teacher(url, threads=1, max_tokens=64)
    with ScoreStore(tmp_path / "scores.jsonl") as store:
        for item in items[:7]:
            targets(item, teacher, store, lexical=0.0)
    script.failures.extend([(403, b"{}", {})] * 60)
    with pytest.raises(AccessDenied):
        run()
    script.failures.clear()
    script.bodies.clear()
    scores = run()
    asked = {json.loads(body)["query"] for body in script.bodies}
    assert asked == {item.query for item in items[7:]}
    assert [row[0] for row in scores] == [scores[0][0]] * 30
    assert run() == scores
    assert len(script.bodies) <= 23 + 4, "a first request of each thread may ask for logits"
