"""Recipes refuse what cannot work, and name the nearest setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sagerank.distillation import DistillationError
from sagerank.distillation.recipe import Recipe


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


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"steps": "12"}, "steps is '12': give a whole number"),
        ({"steps": True}, "steps is 'True': give a whole number"),
        ({"hidden_layers": "3,7"}, "hidden_layers is '3,7': give a list, each of it a whole number"),
        ({"teachers": [1]}, "teachers is .*: give a list, each of it text"),
        ({"hidden_weight": float("nan")}, "hidden_weight is 'nan': give a finite number"),
        ({"lexical": float("inf")}, "lexical is 'inf': give a finite number"),
        ({"gate": None}, "gate is 'None': give a list"),
    ],
)
def test_a_value_of_another_kind_is_a_sentence(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(DistillationError, match=reason):
        Recipe.from_json({"passages": "p", "teachers": ["micro"]} | settings, "recipe.json")
