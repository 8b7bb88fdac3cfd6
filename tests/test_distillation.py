"""The whole way from text to a student, small and real: mining, an ONNX teacher, training."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from tokenizers import Tokenizer

from distillation.mine import Candidates, mine, read_jsonl
from distillation.teacher import CrossEncoder, candidate_key, score_all
from distillation.train import Example, TrainConfig, new_student, train
from distillation.vocabulary import read_tokenizer, train_wordpiece, transfer_embeddings
from inference.checkpoint import JinaBertConfig
from sagerank.build import MICRO

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
    passages = [
        {"id": f"p{i}", "text": f"{TOPICS[i % 5]} fact {i} " * 3, "source": "free", "licence": "CC-BY-4.0"}
        for i in range(40)
    ]
    passages += [{"id": "sa", "text": "glacier secret", "source": "shared", "licence": "CC-BY-SA-4.0"}]
    queries = [
        {"id": f"q{i}", "text": f"{TOPICS[i % 5]} {i}", "source": "free", "positive_passage_id": f"p{i}"}
        for i in range(10)
    ]
    queries += [{"id": "qs", "text": "glacier secret", "source": "shared", "positive_passage_id": "sa"}]
    return write(tmp_path / "p.jsonl", passages), write(tmp_path / "q.jsonl", queries)


def mined(corpus: tuple[Path, Path]) -> list[Candidates]:
    return list(mine(*corpus, hard=3, random_negatives=2, words=6, limit=100, seed=0))


def test_candidates_hold_the_positive_once_and_nothing_share_alike(corpus: tuple[Path, Path]) -> None:
    items = mined(corpus)
    assert len(items) == 10
    for item in items:
        number = item.query.split()[-1]
        assert sum(f"fact {number} " in document + " " for document in item.documents) >= 1
        assert len(set(item.documents)) == len(item.documents) == 6
        assert all(len(document.split()) <= 6 for document in item.documents)
        assert not any("secret" in document for document in item.documents)
    assert items == mined(corpus), "a seed gives the same candidates"
    assert items != list(mine(*corpus, hard=3, random_negatives=2, words=6, limit=100, seed=1))


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


def test_scores_are_the_teachers_whatever_the_company(teacher_folder: Path) -> None:
    teacher = CrossEncoder(teacher_folder)
    tokenizer = Tokenizer.from_file(str(MICRO / "tokenizer.json"))
    documents = ["a", "a much longer document about glaciers and ice", "b c"] * 20
    expected = [np.mean(tokenizer.encode("query", document).ids) for document in documents]
    assert teacher.score("query", documents) == pytest.approx(expected, rel=1e-5)


def test_a_killed_scoring_goes_on(teacher_folder: Path, tmp_path: Path) -> None:
    teacher, output = CrossEncoder(teacher_folder), tmp_path / "scores.jsonl"
    items = [Candidates(f"query {i}", ("a", "b")) for i in range(6)]
    assert score_all(teacher, items[:4], output) == 4
    whole = output.read_bytes()
    output.write_bytes(whole[:-9])  # killed within the last line
    assert score_all(teacher, items, output) == 3
    rows = list(read_jsonl(output))
    assert [row["key"] for row in rows] == [candidate_key(teacher.name, item) for item in items]
    assert output.read_bytes().startswith(whole)
    assert score_all(teacher, items, output) == 0
    assert score_all(teacher, [Candidates("query 0", ("a", "c"))], output) == 1, (
        "other candidates are scored afresh"
    )


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
    model, unseen = new_student(TINY, None, seed=0), task(1)
    before = accuracy(model, unseen)
    train(model, task(0), CONFIG, tmp_path)
    assert before < 0.5
    assert accuracy(model, unseen) > 0.8


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole, broken = new_student(TINY, None, seed=0), new_student(TINY, None, seed=0)
    train(whole, task(0), CONFIG, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(step: int, loss: float) -> None:
        if step == 40:
            raise Killed

    with pytest.raises(Killed):
        train(broken, task(0), CONFIG, tmp_path / "broken", on_checkpoint=kill)
    again = new_student(TINY, None, seed=5)
    train(again, task(0), CONFIG, tmp_path / "broken")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    with pytest.raises(ValueError, match="other settings"):
        train(again, task(0), dataclasses.replace(CONFIG, steps=101), tmp_path / "broken")


def test_embeddings_come_from_the_donor_by_string() -> None:
    tokenizer = train_wordpiece(["glacier ice valley glacier ice"] * 10, size=60)
    donor = train_wordpiece(["ice valley piston"] * 10, size=60)
    rows = torch.randn(donor.get_vocab_size(), 16)
    first = transfer_embeddings(tokenizer, donor, rows, 16)
    assert first.std() == pytest.approx(0.05, rel=0.05)
    # The principal components rotate, so angles between shared tokens stay.
    shared = [
        token for token in ("ice", "valley") if token in tokenizer.get_vocab() and token in donor.get_vocab()
    ]
    assert len(shared) == 2
    ours = [first[tokenizer.token_to_id(token)] for token in shared]
    assert torch.isfinite(first).all()
    assert not torch.equal(ours[0], ours[1])
    assert tokenizer.encode("Ice", "valley").tokens == ["[CLS]", "ice", "[SEP]", "valley", "[SEP]"]


def test_the_command_line_makes_a_student(
    corpus: tuple[Path, Path], teacher_folder: Path, tmp_path: Path
) -> None:
    save_file({"word_embeddings.weight": torch.randn(14_000, 256)}, teacher_folder / "model.safetensors")
    donor = str(teacher_folder)

    def step(*arguments: object) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "distillation", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr

    candidates, scores, words, out = (
        tmp_path / name for name in ("c.jsonl", "s.jsonl", "vocabulary", "student")
    )
    step("mine", "--passages", corpus[0], "--queries", corpus[1], "--output", candidates)
    step("score", "--candidates", candidates, "--teacher", donor, "--output", scores)
    step("vocabulary", "--passages", corpus[0], "--candidates", candidates, "--size", 200, "--output", words)
    step("train", "--candidates", candidates, "--scores", scores, "--teacher", donor, "--vocabulary", words,
         "--embeddings", donor, "--steps", 2, "--output", out)  # fmt: skip
    assert {path.name for path in out.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert read_tokenizer(out).get_vocab_size() <= 200
    done = subprocess.run(
        [sys.executable, "-m", "distillation", "mine", "--passages", "/none", "--queries", "/none", "--output", "/none/x"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
