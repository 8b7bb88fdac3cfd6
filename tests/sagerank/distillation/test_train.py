"""Training: what is learnt, each loss, and that a killed run ends with the same weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sagerank.distillation import DistillationError
from sagerank.distillation.recipe import TrainConfig
from sagerank.distillation.student import new_student
from sagerank.distillation.train import Example, loss_of, read_log, train
from sagerank_inference.checkpoint import JinaBertConfig

from ...conftest import random_model

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


def test_a_checkpoint_and_a_log_that_lost_something_go_on_or_are_sentences(tmp_path: Path) -> None:
    few = dataclasses.replace(CONFIG, steps=20)
    train(new_student(TINY, seed=0), task(0), few, tmp_path)
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    older = {name: value for name, value in state["config"].items() if name != "hidden_weight"}
    torch.save(state | {"config": older}, path)
    train(new_student(TINY, seed=0), task(0), few, tmp_path)  # of a version that had no such setting
    for damaged in ({"a": 1}, [1], state | {"model": {}}, state | {"optimizer": {}}, {"config": few.steps}):
        torch.save(damaged, path)
        with pytest.raises(DistillationError, match="checkpoint.pt is not whole: copy it again"):
            train(new_student(TINY, seed=0), task(0), few, tmp_path)
    path.unlink()
    log = tmp_path / "log.jsonl"
    with log.open("a") as file:
        file.write('{"step": 40, "lo')
    train(new_student(TINY, seed=0), task(0), few, tmp_path)
    assert [row["step"] for row in read_log(tmp_path)] == [20]
    with log.open("a") as file:
        file.write('{"loss": 1}\n')
    with pytest.raises(DistillationError, match="has a line without a step"):
        read_log(tmp_path)
