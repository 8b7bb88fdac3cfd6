"""The whole way from text to a judged student, small and real: mining, teachers, first weights, training, the gate."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import onnx
import pytest
import torch
from moto.moto_api._internal import moto_api_backend
from moto.server import ThreadedMotoServer
from onnx import TensorProto, helper, numpy_helper
from sagerank_inference import jina_bert
from sagerank_inference.artefact import Manifest
from sagerank_inference.checkpoint import JinaBertConfig
from tokenizers import Tokenizer
from torch.nn import functional as F

from sagerank.cli import _parser, main
from sagerank.distillation import DistillationError, training_job
from sagerank.distillation.card import model_card
from sagerank.distillation.distil import distil
from sagerank.distillation.gate import GateFailed, Judged, check
from sagerank.distillation.mine import Candidates, Text, mine, read_jsonl, read_text
from sagerank.distillation.overlap import Overlap, overlap
from sagerank.distillation.recipe import Recipe, TrainConfig, parse_teachers
from sagerank.distillation.student import from_bert, from_layers, new_student, read_bert
from sagerank.distillation.teacher import SHIFT, SLOPE, EmbeddingTeacher, assigned, open_teacher, targets
from sagerank.distillation.train import Example, loss_of, train
from sagerank.distillation.training_job import Job, launch
from sagerank.distillation.vocabulary import pruned_wordpiece, train_wordpiece
from sagerank.evaluation import SAMPLE
from sagerank.evaluation.collection import Collection
from sagerank.evaluation.metrics import Difference
from sagerank.evaluation.scores import ScoreStore
from sagerank.models.build import MICRO

from ..conftest import SMALL, random_model, run_python
from .test_evaluation import Words, embedder_folder

__all__ = ["embedder_folder"]

TOPICS = [
    "glacier ice valley",
    "engine fuel piston",
    "bread flour yeast",
    "violin string bow",
    "planet orbit moon",
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, Path]:
    passages: list[dict[str, object]] = [
        {
            "id": f"p{i}",
            "text": f"{TOPICS[i % 5]} fact{i} is here today. " * 30,
            "source": "free",
            "licence": "CC-BY-4.0",
        }
        for i in range(40)
    ]
    passages += [{"id": "sa", "text": "glacier secret", "source": "shared", "licence": "CC-BY-SA-4.0"}]
    queries: list[dict[str, object]] = [
        {"id": f"q{i}", "text": f"{TOPICS[i % 5]} fact{i}", "source": "free", "positive_passage_id": f"p{i}"}
        for i in range(10)
    ]
    queries += [
        {"id": "qs", "text": "glacier secret", "source": "shared", "positive_passage_id": "sa"},
        {"id": "qn", "text": "violin", "source": "free", "positive_passage_id": None},
    ]
    return write(tmp_path / "p.jsonl", passages), write(tmp_path / "q.jsonl", queries)


# -- mining ------------------------------------------------------------------------------------------------------


def mined(text: Text, seed: int = 0, **options: Any) -> list[Candidates]:
    return list(mine(text, vectors=None, documents=6, limit=100, seed=seed, **options))


def test_candidates_hold_the_positive_once_and_nothing_share_alike(corpus: tuple[Path, Path]) -> None:
    text = read_text(*corpus, made=0, seed=0)
    items = mined(text)
    assert len(items) == 11, "the share-alike source has no passage left, so its query goes too"
    for item in items:
        number = item.query.split()[-1]
        if number != "violin":
            assert sum(f"{number} " in document for document in item.documents) == 1
        assert len(set(item.documents)) == len(item.documents) == len(item.lexical) == 6
        assert all(len(document.split()) in (40, 80, 160) for document in item.documents), "mixed lengths"
        assert not any("secret" in document for document in item.documents)
        assert max(item.lexical) <= 1.0
    assert items == mined(text), "a seed gives the same candidates"
    assert items != mined(text, seed=1)


def test_vectors_bring_what_words_miss(corpus: tuple[Path, Path]) -> None:
    text = Text(("ice glacier", "frozen river", *(f"filler {i}" for i in range(60))), (("glacier", 0),))
    passages = np.zeros((62, 2), np.float32)
    passages[:, 1] = 1
    passages[1] = (1, 0)
    queries = np.array([[1, 0]], np.float32)
    (item,) = mine(text, vectors=(queries, passages), documents=4, limit=1, seed=0)
    assert "frozen river" in item.documents
    assert item.lexical[item.documents.index("ice glacier")] == 1.0


def test_made_queries_are_sentences_and_keywords_of_their_passage(corpus: tuple[Path, Path]) -> None:
    text = read_text(*corpus, made=30, seed=0)
    made = text.queries[11:]
    assert len(made) >= 15
    for query, place in made:
        assert place is not None
        assert all(word in text.passages[place].lower() for word in query.lower().split())


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": "p0", "text": "x", "source": "free", "licence": "MIT"}, ":42: the id 'p0' occurs twice"),
        (
            {"id": "z", "text": " ", "source": "free", "licence": "MIT"},
            ":42: text must be a string that is not empty",
        ),
        ({"id": "z", "text": "x", "source": "free"}, ":42: licence must be"),
    ],
)
def test_a_wrong_passage_is_named(corpus: tuple[Path, Path], row: dict[str, object], reason: str) -> None:
    with corpus[0].open("a") as end:
        end.write(json.dumps(row) + "\n")
    with pytest.raises(DistillationError) as caught:
        read_text(*corpus, made=0, seed=0)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": "q0", "text": "x", "source": "free"}, ":13: the id 'q0' occurs twice"),
        (
            {"id": "z", "text": "x", "source": "free", "positive_passage_id": "p99"},
            ":13: the positive 'p99' is not a passage of p.jsonl",
        ),
        ({"id": "z", "text": "", "source": "free"}, ":13: text must be a string that is not empty"),
    ],
)
def test_a_wrong_query_is_named(corpus: tuple[Path, Path], row: dict[str, object], reason: str) -> None:
    with corpus[1].open("a") as end:
        end.write(json.dumps(row) + "\n")
    with pytest.raises(DistillationError) as caught:
        read_text(*corpus, made=0, seed=0)
    assert reason in str(caught.value)


def test_a_damaged_file_is_named_and_a_cut_line_dropped(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": 2')
    assert list(read_jsonl(path)) == [{"a": 1}]
    path.write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(DistillationError, match=r"x.jsonl:2: not JSON"):
        list(read_jsonl(path))
    zipped = tmp_path / "x.jsonl.gz"
    zipped.write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(DistillationError, match="not a whole gzip file"):
        list(read_jsonl(zipped))


# -- teachers ----------------------------------------------------------------------------------------------------


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


# -- first weights -----------------------------------------------------------------------------------------------


def bert_state(
    generator: torch.Generator, *, vocabulary: int = 90, h: int = 24, f: int = 40, layers: int = 3
) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}

    def put(name: str, *shape: int, spread: float = 0.3, centre: float = 0.0) -> None:
        state[name] = centre + spread * torch.randn(*shape, generator=generator)

    def affine(name: str, out: int, inner: int) -> None:
        put(f"{name}.weight", out, inner)
        put(f"{name}.bias", out)

    def norm(name: str) -> None:
        put(f"{name}.weight", h, spread=0.1, centre=1.0)
        put(f"{name}.bias", h, spread=0.1, centre=0.05)

    put("bert.embeddings.word_embeddings.weight", vocabulary, h)
    put("bert.embeddings.token_type_embeddings.weight", 2, h)
    state["bert.embeddings.position_embeddings.weight"] = torch.zeros(512, h)
    norm("bert.embeddings.LayerNorm")
    for i in range(layers):
        layer = f"bert.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            affine(f"{layer}.attention.self.{name}", h, h)
        affine(f"{layer}.attention.output.dense", h, h)
        norm(f"{layer}.attention.output.LayerNorm")
        affine(f"{layer}.intermediate.dense", f, h)
        affine(f"{layer}.output.dense", h, f)
        norm(f"{layer}.output.LayerNorm")
    affine("bert.pooler.dense", h, h)
    affine("classifier", 1, h)
    return state


def transformers_logit(state: dict[str, torch.Tensor], ids: list[int], segments: list[int]) -> float:
    from transformers import BertConfig, BertForSequenceClassification

    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=90,
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=40,
            num_labels=1,
        )
    ).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("position_ids" in name for name in missing)
    with torch.inference_mode():
        return float(model(torch.tensor([ids]), token_type_ids=torch.tensor([segments])).logits)


def test_a_bert_becomes_a_jinabert_exactly_but_for_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no position embeddings and flat slopes nothing is left to differ: biases become part of the gate."""
    state = bert_state(torch.Generator().manual_seed(1))
    ids = [2, 17, 30, 3, 44, 51, 17, 3]
    expected = transformers_logit(state, ids, [0, 0, 0, 0, 1, 1, 1, 1])
    monkeypatch.setattr(jina_bert, "alibi_slopes", lambda heads: [0.0] * heads)
    model = from_bert(state, range(90), layers=range(3), neurons=40, heads=4, separator=3, sample=[ids])
    with torch.inference_mode():
        assert float(model(torch.tensor([ids]), torch.tensor([8]))) == pytest.approx(expected, abs=1e-4)


def test_a_student_keeps_the_chosen_layers_neurons_and_tokens() -> None:
    state = bert_state(torch.Generator().manual_seed(1))
    rows = [2, 3, 17, 30, 44]
    model = from_bert(state, rows, layers=[0, 2], neurons=16, heads=4, separator=1, sample=[[0, 2, 1, 3, 1]])
    assert model.config == JinaBertConfig(
        vocab_size=5,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=16,
        segment_separator_id=1,
    )
    words = model.state_dict()["bert.embeddings.word_embeddings.weight"]
    assert torch.equal(words[2], state["bert.embeddings.word_embeddings.weight"][17])
    kept = model.state_dict()["bert.encoder.layer.1.mlp.wo.weight"]
    columns = state["bert.encoder.layer.2.output.dense.weight"]
    assert all(any(torch.equal(column, other) for other in columns.T) for column in kept.T)


def test_an_int8_onnx_bert_gives_its_weights_back(tmp_path: Path) -> None:
    """The form that dynamic quantisation leaves: named vectors, transposed int8 matrices known by their node."""
    weight = np.random.default_rng(0).integers(-127, 127, (24, 40)).astype(np.int8)
    initializers = [
        numpy_helper.from_array(weight, "onnx::MatMul_1_quantized"),
        numpy_helper.from_array(np.float32(0.02), "onnx::MatMul_1_scale"),
        numpy_helper.from_array(np.int8(3), "onnx::MatMul_1_zero_point"),
        numpy_helper.from_array(
            np.zeros((9, 24), np.uint8) + 130, "bert.embeddings.word_embeddings.weight_quantized"
        ),
        numpy_helper.from_array(np.float32(0.1), "bert.embeddings.word_embeddings.weight_scale"),
        numpy_helper.from_array(np.uint8(128), "bert.embeddings.word_embeddings.weight_zero_point"),
        numpy_helper.from_array(np.ones(40, np.float32), "bert.encoder.layer.0.intermediate.dense.bias"),
    ]
    nodes = [
        helper.make_node(
            "Gather",
            ["bert.embeddings.word_embeddings.weight_quantized", "input_ids"],
            ["x"],
            "/bert/embeddings/word_embeddings/Gather",
        ),
        helper.make_node(
            "MatMulInteger",
            ["x", "onnx::MatMul_1_quantized"],
            ["y"],
            "/bert/encoder/layer.0/intermediate/dense/MatMul_quant",
        ),
    ]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["s"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT32, ["s", 40])]
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "q", inputs, outputs, initializers)),
        tmp_path / "model.onnx",
    )
    state = read_bert(tmp_path)
    assert state["bert.encoder.layer.0.intermediate.dense.weight"].numpy() == pytest.approx(
        (weight.T.astype(np.float32) - 3) * 0.02
    )
    assert state["bert.embeddings.word_embeddings.weight"].numpy() == pytest.approx(0.2)
    with pytest.raises(ValueError, match="holds neither"):
        read_bert(tmp_path / "none")


def test_turbo_is_layers_of_base() -> None:
    base = random_model()
    turbo = from_layers(base, [0, 2])
    assert turbo.config.num_hidden_layers == 2
    old, new = base.state_dict(), turbo.state_dict()
    assert torch.equal(new["bert.encoder.layer.1.mlp.wo.weight"], old["bert.encoder.layer.2.mlp.wo.weight"])
    with pytest.raises(DistillationError, match="Layer 3 does not exist: the donor has layers 0 to 2"):
        from_layers(base, [0, 3])


def test_a_pruned_vocabulary_still_cuts_every_word() -> None:
    full = train_wordpiece(["glacier ice valley glaciers iceland river"] * 10, size=120)
    counts = {"glacier": 9.0, "ice": 5.0}
    raw, rows = pruned_wordpiece(full.to_str(), counts, 40)
    small = Tokenizer.from_str(raw)
    assert small.get_vocab_size() == len(rows) == 40
    for token, index in small.get_vocab().items():
        assert full.token_to_id(token) == rows[index]
    encoded = small.encode("glacier", "ice valley river")
    assert "[UNK]" not in encoded.tokens
    assert encoded.tokens[:3] == ["[CLS]", "glacier", "[SEP]"]
    assert encoded.ids[0] == small.token_to_id("[CLS]"), "the template follows the new ids"


# -- training ----------------------------------------------------------------------------------------------------


TINY = JinaBertConfig(
    vocab_size=60, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32
)


def task(seed: int) -> list[Example]:
    """A document is good when it holds one of the tokens from 50: learnable within seconds, and never seen in
    this form.
    """
    generator = np.random.default_rng(seed)
    examples = []
    for _ in range(64):
        ids, logits = [], []
        for place in range(4):
            body = generator.integers(10, 50, 6).tolist()
            if place == 0:
                body[int(generator.integers(6))] = int(generator.integers(50, 60))
            ids.append((2, int(generator.integers(10, 50)), 3, *body, 3))
            logits.append(5.0 if place == 0 else -5.0)
        examples.append(Example(tuple(ids), tuple(logits)))
    return examples


def accuracy(model: torch.nn.Module, examples: list[Example]) -> float:
    hits = 0
    with torch.inference_mode():
        for example in examples:
            logits = [float(model(torch.tensor([ids]), torch.tensor([len(ids)]))) for ids in example.ids]
            hits += logits.index(max(logits)) == 0
    return hits / len(examples)


CONFIG = TrainConfig(steps=100, queries_per_step=8, learning_rate=3e-3, warmup_steps=5, checkpoint_every=20)


def test_a_student_learns_what_it_has_not_seen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, unseen = new_student(TINY, seed=0), task(1)
    before = accuracy(model, unseen)
    train(model, task(0), CONFIG, tmp_path)
    assert before < 0.5
    assert accuracy(model, unseen) > 0.8


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole, broken = new_student(TINY, seed=0), new_student(TINY, seed=0)
    train(whole, task(0), CONFIG, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(step: int, loss: float) -> None:
        if step == 40:
            raise Killed

    with pytest.raises(Killed):
        train(broken, task(0), CONFIG, tmp_path / "broken", on_checkpoint=kill)
    again = new_student(TINY, seed=5)
    train(again, task(0), CONFIG, tmp_path / "broken")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    with pytest.raises(ValueError, match="other settings"):
        train(again, task(0), dataclasses.replace(CONFIG, steps=101), tmp_path / "broken")


def test_each_loss_is_what_its_name_says() -> None:
    model = random_model(TINY)
    example = Example(((2, 12, 3, 20, 3), (2, 12, 3, 30, 31, 3)), (4.0, -2.0))
    with torch.inference_mode():
        student = torch.cat([model(torch.tensor([ids]), torch.tensor([len(ids)])) for ids in example.ids])
        off: dict[str, Any] = {"steps": 1, "kl_weight": 0.0, "error_weight": 0.0}
        error = loss_of(model, [example], TrainConfig(**(off | {"error_weight": 1.0})))
        margin = loss_of(model, [example], TrainConfig(**off, margin_weight=1.0))
        ranking = loss_of(model, [example], TrainConfig(**(off | {"kl_weight": 1.0}), temperature=2.0))
    teacher = torch.tensor(example.logits)
    assert float(error) == pytest.approx(float(((student - teacher) ** 2).mean()), rel=1e-4)
    assert float(margin) == pytest.approx(float((student[0] - student[1] - 6.0) ** 2) / 2, rel=1e-4)
    p, q = F.softmax(teacher / 2, 0), F.softmax(student / 2, 0)
    assert float(ranking) == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-3)


def test_accumulation_changes_memory_and_not_the_result(tmp_path: Path) -> None:
    whole, parts = new_student(TINY, seed=0), new_student(TINY, seed=0)
    config = dataclasses.replace(CONFIG, steps=3)
    train(whole, task(0), config, tmp_path / "a")
    train(parts, task(0), dataclasses.replace(config, accumulate=3), tmp_path / "b")
    for name, tensor in whole.state_dict().items():
        assert torch.allclose(tensor, parts.state_dict()[name], atol=2e-4), name


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"kl_weight": 0.0, "error_weight": 0.0}, "at least one must be above 0"),
        ({"teachers": ()}, "teachers is empty"),
        ({"start": "micro"}, "layers is empty"),
        ({"documents": 1}, "documents is 1"),
        ({"dtype": "int4"}, "dtype is 'int4'"),
        ({"retention": 3.0}, "retention between 0 and 2"),
    ],
)
def test_a_recipe_refuses_what_cannot_work(change: dict[str, Any], reason: str) -> None:
    values: dict[str, Any] = {"passages": "p", "queries": "q", "teachers": ("micro",)}
    with pytest.raises(DistillationError, match=reason.replace("(", r"\(")):
        Recipe(**(values | change))


def test_a_recipe_names_the_nearest_setting(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text('{"passages": "p", "queries": "q", "teachers": ["micro"], "learning_rat": 1}')
    with pytest.raises(DistillationError, match="did you mean 'learning_rate'"):
        Recipe.read(path)
    path.write_text(
        json.dumps(
            Recipe(passages="p", queries="q", teachers=("micro",), layers=(0, 1), start="micro").to_json()
        )
    )
    assert Recipe.read(path).layers == (0, 1)


# -- the whole, on the sample of 250 queries x 8 pairs ---------------------------------------------------------------

COMMAND = [
    "distil", "--passages", str(SAMPLE / "passages.jsonl.gz"), "--queries", str(SAMPLE / "queries.jsonl.gz"),
    "--teacher", "micro", "--start", "micro", "--layers", "0,0", "--made-queries", "0", "--lexical", "0", "--steps", "60",
    "--queries-per-step", "8", "--learning-rate", "1e-3", "--warmup-steps", "5", "--max-tokens", "96", "--checkpoint-every", "10",
    "--dtype", "float16", "--gate", str(SAMPLE / "heldout"), "--gate-queries", "40", "--threads", "1",
]  # fmt: skip


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
    assert main([*command, "--json"]) == 0
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
    card = model_card(later, second, [], name="second", licence="mit")
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


def test_test_text_in_the_training_text_is_counted() -> None:
    sentence = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    documents = {
        "a": f"Before, {sentence.upper()}; after.",
        "b": sentence[:40],
        "c": "short text",
        "d": "other",
    }
    collection = Collection("set", documents, {"q": "What is it?", "r": "unseen"}, {})
    text = Text((f"x {sentence} y", "Short, text."), (("what is IT", None), ("else", 0)))
    assert overlap(collection, text) == Overlap("set", 1, 2, 2, 4)


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


def test_the_gate_names_every_shortfall() -> None:
    recipe = Recipe(passages="p", queries="q", teachers=("micro",), retention=0.9, first_stage_margin=0.02)
    good = Judged("good", 9, 0.4, 0.1, 0.5, 0.5, Difference(0.1, 0.0, 0.2, 0.01))
    bad = dataclasses.replace(good, data="bad", student=0.3)
    check(recipe, [good])
    with pytest.raises(GateFailed) as caught:
        check(recipe, [good, bad])
    assert "80.0% of the teacher's 0.500, below 90.0%" in str(caught.value)
    assert "on bad NDCG@10 0.300 is more than 0.02 below the first stage's 0.400" in str(caught.value)


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


# -- on AWS ------------------------------------------------------------------------------------------------------


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    moto_api_backend.reset()  # its state is the process's
    boto3.client("s3").create_bucket(
        Bucket="ours", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    yield
    server.stop()


def test_a_training_job_carries_all_it_needs(
    aws: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    role = "arn:aws:iam::123456789012:role/training"
    command = [
        *COMMAND,
        "--sagemaker",
        "--role",
        role,
        "--bucket",
        "ours",
        "--image",
        "image:1",
        "--hours",
        "2",
    ]
    assert main(command) == 0
    name = capsys.readouterr().out.split()[2]
    job = boto3.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert job["EnableManagedSpotTraining"] is True
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 14400}
    assert (
        job["CheckpointConfig"]["LocalPath"]
        == json.loads(job["HyperParameters"]["work"])
        == "/opt/ml/checkpoints"
    )
    s3 = boto3.client("s3")
    keys = {item["Key"] for item in s3.list_objects_v2(Bucket="ours")["Contents"]}
    for channel in job["InputDataConfig"]:
        prefix = channel["DataSource"]["S3DataSource"]["S3Uri"].removeprefix("s3://ours/")
        assert any(key.startswith(prefix) for key in keys), channel["ChannelName"]
    uri = json.loads(job["HyperParameters"]["sagemaker_submit_directory"])
    body = s3.get_object(Bucket="ours", Key=uri.removeprefix("s3://ours/"))["Body"].read()
    # What the container does: unpack, and start the program with the hyperparameters as options. Here its paths lead to the channels.
    code = tmp_path / "code"
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        archive.extractall(code, filter="data")
    recipe = json.loads((code / "recipe.json").read_text())
    assert recipe["passages"] == "/opt/ml/input/data/passages/passages.jsonl.gz"
    assert recipe["gate"] == ["/opt/ml/input/data/gate0"]
    assert recipe["teachers"] == ["micro"], "a model the job has itself stays a name"
    local = recipe | {
        "passages": str(SAMPLE / "passages.jsonl.gz"),
        "queries": str(SAMPLE / "queries.jsonl.gz"),
        "gate": [str(SAMPLE / "heldout")],
    }
    (code / "recipe.json").write_text(
        json.dumps(local | {"limit": 20, "steps": 2, "gate_queries": 3, "retention": 0.0})
    )
    options = {
        key: json.loads(value)
        for key, value in job["HyperParameters"].items()
        if not key.startswith("sagemaker_")
    }
    options |= {"work": str(tmp_path / "work"), "output": str(tmp_path / "model")}
    program = json.loads(job["HyperParameters"]["sagemaker_program"])
    started = [
        sys.executable,
        program,
        *(part for key, value in options.items() for part in (f"--{key}", str(value))),
    ]
    done = subprocess.run(started, cwd=code, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    Manifest.read(tmp_path / "model").verify(tmp_path / "model")


def test_what_the_job_installs_is_what_its_code_imports() -> None:
    """Of the packages that `distil` needs here the container gets all but PyTorch, which it has, and what only the
    other commands import.
    """
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    stated = {line for name in ("client", "cpu", "build", "eval", "eval-hf") for line in extras[name]}
    assert set(training_job._REQUIREMENTS.split()) <= stated
    others = {"ir_datasets", "matplotlib", "plotext", "prometheus_client", "rich", "starlette", "uvicorn"}
    done = run_python(
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(others)}))\n"
        "import sagerank.distillation.__main__, sagerank.distillation.distil, sagerank.distillation.gate, sagerank.distillation.card, tqdm"
    )
    assert done.returncode == 0, done.stderr
    installed = {re.split("[<>=]", line)[0].replace("-", "_") for line in training_job._REQUIREMENTS.split()}
    wanted = {re.split("[<>=]", line)[0].replace("-", "_") for line in stated if "[" not in line}
    assert wanted - installed == others | {"torch"}


def test_a_teacher_that_answers_over_a_network_stays_where_it_is() -> None:
    passages, queries = str(SAMPLE / "passages.jsonl.gz"), str(SAMPLE / "queries.jsonl.gz")
    teachers = ("http://10.0.0.7:8080=2", "endpoint:ranker@eu-west-1", "hf:BAAI/bge-reranker-base")
    moved, folders = training_job._relocate(Recipe(passages=passages, queries=queries, teachers=teachers))
    assert moved.teachers == teachers
    assert folders.keys() == {"passages", "queries"}
    with pytest.raises(DistillationError, match="takes no cascade"):
        training_job._relocate(Recipe(passages=passages, queries=queries, teachers=("micro>base@8",)))


def test_a_missing_path_is_found_before_anything_is_created(aws: None, tmp_path: Path) -> None:
    recipe = Recipe(passages=str(tmp_path / "none"), queries="q", teachers=("micro",))
    with pytest.raises(DistillationError, match="passages: .*none does not exist"):
        launch(recipe, Job(role="r", bucket="ours", image="i"), "x", session=boto3.Session())
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket="ours")
    assert boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []
