"""The gate without judgements: what is held out, and how the teacher grades it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sagerank.distillation import DistillationError
from sagerank.distillation.corpus import Passage
from sagerank.distillation.heldout import NAME, HeldOut, agreement, divided, graded
from sagerank.distillation.made import KINDS, Made
from sagerank.distillation.recipe import Recipe
from sagerank.evaluation.evaluate import first_stage, rerank
from sagerank.evaluation.scorer import EngineScorer
from sagerank.evaluation.scores import ScoreStore
from sagerank.models.build import MICRO

from ..conftest import Words


class Scaled:
    """Another teacher that prefers the same, on a scale of its own."""

    def __init__(self, scorer: EngineScorer, scale: float, shift: float) -> None:
        self.name, self._scorer, self._scale, self._shift = f"{scale} {shift}", scorer, scale, shift

    def score(self, query: str, documents: list[str]) -> list[float]:
        return [self._scale * score + self._shift for score in self._scorer.score(query, documents)]


@pytest.fixture
def recipe(documents: Path) -> Recipe:
    return Recipe(passages=str(documents), teachers=("micro",), heldout=10)


def test_what_is_held_out_is_in_no_training_pair(recipe: Recipe) -> None:
    text, held = divided(recipe)
    assert held
    assert len(held.queries) == 10
    assert {query.kind for query in held.queries} == set(KINDS), "kinds take turns"
    starts = {" ".join(held.passages[query.passage].text.split()[:40]) for query in held.queries}
    assert len(starts) == 10, "a passage each"
    assert not any(passage.startswith(tuple(starts)) for passage in text.passages)
    assert len(text.passages) == len(held.passages) - 10
    assert not {query for query, _ in text.queries} & {query.query for query in held.queries}
    for (query, place), kind in zip(text.queries, text.kinds, strict=True):
        assert place is not None
        if kind == "first sentence" and len(query.split()) <= 40:
            assert text.passages[place].startswith(query), "a query has its own passage, renumbered"
    assert divided(recipe) == (text, held)
    most = divided(dataclasses.replace(recipe, heldout=10_000))[1]
    assert most
    assert len(most.queries) <= len(most.passages) / 5


def test_with_a_gate_nothing_is_held_out_and_a_few_passages_are_refused(
    recipe: Recipe, tmp_path: Path
) -> None:
    text, held = divided(dataclasses.replace(recipe, gate=("somewhere",)))
    assert held is None
    assert len(text.passages) > len(divided(recipe)[0].passages)
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "a.txt").write_text(
        "Ice carves valleys out of rock. Moraines are what is left of it."
    )
    with pytest.raises(DistillationError, match="few has 1 passages that queries can be made of, and 10 are"):
        divided(dataclasses.replace(recipe, passages=str(tmp_path / "few")))


def test_grades_are_the_teachers_preferences_whatever_its_scale(recipe: Recipe) -> None:
    held = divided(recipe)[1]
    assert held
    micro, store = EngineScorer(MICRO), ScoreStore(None)
    collection, candidates = graded(held, micro, store)
    same, _ = graded(held, Scaled(micro, 0.1, 7.0), store)  # type: ignore[arg-type]
    assert collection.name == NAME
    assert len(collection.queries) >= 8
    for query, grades in collection.qrels.items():
        assert all(abs(grade - same.qrels[query][key]) <= 1 for key, grade in grades.items())
        scores = store.score(micro, collection.queries[query], [collection.documents[key] for key in grades])
        order = sorted(zip(scores, grades.values(), strict=True))
        assert [grade for _, grade in order] == sorted(grades.values()), "a higher score has no lower grade"
    teacher = rerank(collection, candidates, micro, store)
    assert teacher.mean() == pytest.approx(1.0)
    base = first_stage("first stage", collection, candidates)
    assert 0.2 < base.mean() < 1.0
    assert agreement(teacher, teacher) == 1.0
    assert agreement(base, teacher) < 1.0
    backwards = rerank(collection, candidates, Scaled(micro, -1.0, 0.0), store)  # type: ignore[arg-type]
    assert agreement(backwards, teacher) < agreement(base, teacher)
    assert backwards.mean() < base.mean()


def test_a_teacher_that_prefers_nothing_is_refused() -> None:
    passages = tuple(
        Passage(key=str(number), text=f"ice of valley {number}", source="s", licence="l")
        for number in range(9)
    )
    held = HeldOut(passages, (Made("ice valley", 0, "title"),))
    with pytest.raises(DistillationError, match="scores all candidates of the 1 held-out queries alike"):
        graded(held, Words(), ScoreStore(None))
