"""Shapes, parameters and quality of the models, and cascades of them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sagerank.models.build import MICRO, SHAPES
from sagerank_cost import CostError
from sagerank_cost.models import MODELS, choice
from sagerank_inference.checkpoint import JinaBertConfig


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: choice("tinny"), "did you mean tiny"),
        (lambda: choice("tiny>tiny"), "a model twice"),
        (lambda: choice("tiny>base@x"), "@ goes with"),
    ],
)
def test_what_is_wrong_gets_a_sentence(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(CostError, match=sentence):
        call()


def test_shapes_and_parameters_are_the_builds() -> None:
    shapes = dict(SHAPES)
    own = json.loads((MICRO / "config.json").read_text(encoding="utf-8"))
    fields = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    shapes["micro"] = JinaBertConfig(**{field: own[field] for field in fields})
    assert set(MODELS) == set(shapes)
    for name, config in shapes.items():
        model = MODELS[name]
        assert model.parameters == config.parameters, name
        assert (model.vocabulary, model.hidden, model.layers, model.heads, model.intermediate) == (
            config.vocab_size,
            config.hidden_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.intermediate_size,
        )


def test_quality_is_the_announcements() -> None:
    from sagerank.evaluation.published import PUBLISHED

    published = {row.scorer: row.ndcg for row in PUBLISHED}
    assert {name: model.ndcg for name, model in MODELS.items() if model.ndcg} == {
        name: published[name] for name in ("base", "turbo", "tiny")
    }
    assert choice("tiny>base@20").ndcg is None
