"""What the gate asks of a student, and whether its text has leaked into the training text."""

from __future__ import annotations

import dataclasses

import pytest

from sagerank.distillation.gate import (
    GateFailed,
    StudentQuality,
    below_first_stage,
    check,
    student_shortfalls,
)
from sagerank.distillation.mine import Text
from sagerank.distillation.overlap import Overlap, overlap
from sagerank.distillation.recipe import Recipe
from sagerank.evaluation.collection import Collection
from sagerank.evaluation.metrics import Difference

# Worse than the first stage alone, by more than chance.
LOST = StudentQuality(
    data="mine",
    queries=9,
    first_stage=0.4,
    start=0.1,
    student=0.3,
    teacher=0.5,
    over_first_stage=Difference(-0.1, -0.15, -0.05, 0.001),
)


def test_test_text_in_the_training_text_is_counted() -> None:
    sentence = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    documents = {
        "a": f"Before, {sentence.upper()}; after.",
        "b": sentence[:40],
        "c": "short text",
        "d": "other",
    }
    collection = Collection(
        name="set", documents=documents, queries={"q": "What is it?", "r": "unseen"}, qrels={}
    )
    text = Text((f"x {sentence} y", "Short, text."), (("what is IT", None), ("else", 0)))
    assert overlap(collection, text) == Overlap(
        data="set", queries=1, of_queries=2, documents=2, of_documents=4
    )


def test_the_gate_names_every_shortfall() -> None:
    recipe = Recipe(passages="p", queries="q", teachers=("micro",), retention=0.9, first_stage_margin=0.02)
    good = dataclasses.replace(
        LOST, data="good", student=0.5, over_first_stage=Difference(0.1, 0.0, 0.2, 0.01)
    )
    bad = dataclasses.replace(good, data="bad", student=0.3)
    check("The student does not pass", student_shortfalls(recipe, [good]))
    with pytest.raises(GateFailed) as caught:
        check("The student does not pass", student_shortfalls(recipe, [good, bad]), "Train longer.")
    assert "80.0% of the teacher's 0.500, below 90.0%" in str(caught.value)
    assert "on bad NDCG@10 0.300 is more than 0.02 below the first stage's 0.400. Train longer." in str(
        caught.value
    )


def test_a_student_that_is_worse_than_no_reranker_is_said_to_be_so() -> None:
    chance = dataclasses.replace(LOST, data="chance", over_first_stage=Difference(-0.1, -0.25, 0.05, 0.2))
    (said,) = below_first_stage([chance, LOST])
    assert said == (
        "On mine the first stage alone ranks better than the student: NDCG@10 0.400, and 0.300 with it."
    )
