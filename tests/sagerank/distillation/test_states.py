"""Hidden states of a larger model, which a student's layers learn to give."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sagerank.distillation import DistillationError
from sagerank.distillation.claim import settle
from sagerank.distillation.distil import distil
from sagerank.distillation.recipe import Recipe, TrainConfig
from sagerank.distillation.states import error, of_bert, of_jina_bert, watched
from sagerank.distillation.student import from_bert, from_layers
from sagerank.distillation.train import Example, loss_of, train

from ...conftest import random_model
from .test_student import bert_state
from .test_train import TINY

IDS = torch.tensor([[2, 17, 30, 3, 44, 51, 17, 3], [2, 9, 3, 12, 3, 0, 0, 0]])
LENGTHS = torch.tensor([8, 5])


def test_states_of_a_bert_are_those_of_transformers() -> None:
    from transformers import BertConfig, BertModel

    state = bert_state(torch.Generator().manual_seed(1))
    state["bert.embeddings.position_embeddings.weight"].normal_(generator=torch.Generator().manual_seed(2))
    model = BertModel(
        BertConfig(
            vocab_size=90, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=40
        )
    ).eval()
    model.load_state_dict(
        {name.removeprefix("bert."): tensor for name, tensor in state.items()}, strict=False
    )
    # The student has other ids for the same tokens.
    rows = torch.randperm(90, generator=torch.Generator().manual_seed(3))
    ours = rows.argsort()[IDS]
    separator = int(rows.argsort()[3])
    with torch.inference_mode():
        expected = model(
            IDS,
            attention_mask=(torch.arange(8) < LENGTHS[:, None]).long(),
            token_type_ids=torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 1]]),
            output_hidden_states=True,
        ).hidden_states
    found = of_bert(state, rows.tolist(), [0, 2], heads=4, separator=separator)(ours, LENGTHS)
    for index, states in zip([0, 2], found, strict=True):
        for pair, length in enumerate(LENGTHS.tolist()):
            assert torch.allclose(states[pair, :length], expected[index + 1][pair, :length], atol=1e-5)


def test_the_error_is_a_share_of_the_variance_of_real_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    theirs = torch.randn(2, 8, 24, generator=generator)
    off = theirs.clone()
    off[0] += 0.5
    off[1, :5] += 0.5
    off[1, 5:] = 99.0  # padding
    real = torch.cat([theirs[0], theirs[1, :5]])
    assert float(error([off], [theirs], LENGTHS)) == pytest.approx(0.25 / float(real.var()))
    # Token 0 alone, where a side has no more.
    first = error([off[:, :1]], [theirs], LENGTHS)
    assert float(first) == pytest.approx(0.25 / float(theirs[:, 0].var()))
    assert float(error([off, off[:, :1]], [theirs] * 2, LENGTHS)) == pytest.approx(
        float(error([off], [theirs], LENGTHS) + first)
    )


def test_a_student_that_learns_states_comes_near_them(tmp_path: Path) -> None:
    """Its scores say nothing here: what it learns it has from the states."""
    state = bert_state(torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    examples = [
        Example(
            tuple((2, *torch.randint(4, 90, (6,), generator=generator).tolist(), 3) for _ in range(4)),
            (0.0,) * 4,
        )
        for _ in range(8)
    ]
    model = from_bert(
        state, range(90), layers=[0, 2], neurons=24, heads=4, separator=3, sample=[examples[0].ids[0]]
    )
    states = of_bert(state, range(90), [1, 2], heads=4, separator=3)
    config = TrainConfig(
        steps=60, queries_per_step=4, learning_rate=3e-3, warmup_steps=5, error_weight=1e-6, kl_weight=0.0
    )

    def away() -> float:
        with torch.inference_mode():
            return float(loss_of(model, examples, config, states))

    before = away()
    train(model, examples, config, tmp_path, states=states)
    assert away() < before / 3
    with torch.inference_mode():
        none = loss_of(model, examples, dataclasses.replace(config, hidden_weight=0.0), states)
        assert float(none) == float(loss_of(model, examples, config))


def test_states_of_a_jinabert_are_those_of_its_layers() -> None:
    donor = random_model(dataclasses.replace(TINY, num_hidden_layers=3))
    student = from_layers(donor, [0, 1, 2])
    with torch.inference_mode():
        ids = IDS % TINY.vocab_size
        with watched(student) as own:
            student(ids, LENGTHS)
        theirs = of_jina_bert(donor, [0, 1, 2])(ids, LENGTHS)
        assert own[-1].shape[1] == 1
        assert float(error(own, theirs, LENGTHS)) < 1e-10


def test_layers_that_cannot_be_learned_are_refused() -> None:
    state = bert_state(torch.Generator().manual_seed(1))
    with pytest.raises(DistillationError, match="`start` has layers 0 to 2"):
        of_bert(state, range(90), [0, 3], heads=4, separator=3)
    with pytest.raises(DistillationError, match="give one for each"):
        Recipe(passages="p", teachers=("micro",), start="micro", layers=(0, 1), hidden_layers=(1,))
    with pytest.raises(DistillationError, match="are those of `start`, which is empty"):
        Recipe(passages="p", teachers=("micro",), layers=(0, 1), hidden_layers=(0, 1))
    state["bert.embeddings.position_embeddings.weight"] = torch.zeros(4, 24)
    with pytest.raises(DistillationError, match="max_tokens is above 4"):
        of_bert(state, range(90), [0], heads=4, separator=3)(IDS, LENGTHS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_layers": (0, 7)}, "Layer 7 of hidden_layers does not exist"),
        ({"layers": (0, 9)}, "Layer 9 of layers does not exist"),
        ({"max_tokens": 65}, "max_tokens is above 64"),
    ],
)
def test_a_mistake_in_the_layers_costs_no_work_folder(
    tmp_path: Path, documents: Path, change: dict[str, Any], reason: str
) -> None:
    """It is found before anything is scored, and the recipe is not the folder's yet."""
    start = tmp_path / "bert"
    start.mkdir()
    state = bert_state(torch.Generator().manual_seed(1))
    state["bert.embeddings.position_embeddings.weight"] = torch.zeros(64, 24)
    save_file(state, start / "model.safetensors")
    recipe = Recipe(
        passages=str(documents), teachers=("micro",), start=str(start), layers=(0, 1), hidden_layers=(0, 1),
        max_tokens=64,
    )  # fmt: skip
    with pytest.raises(DistillationError, match=reason):
        distil(dataclasses.replace(recipe, **change), tmp_path / "work")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["lock"]
    settle(tmp_path / "work", recipe)
