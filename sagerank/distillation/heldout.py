"""A gate for those who have no judgements: queries that were kept from the training, judged by the teacher.

What a student has to show there is that it ranks as its teacher does, and better than BM25: that the teacher is right
is not asked.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import numpy as np

from sagerank.evaluation.collection import Collection
from sagerank.evaluation.evaluate import Ranking
from sagerank.evaluation.first_stage import Run, bm25
from sagerank.evaluation.progress import Progress
from sagerank.evaluation.scorer import Scorer
from sagerank.evaluation.scores import ScoreStore

from . import DistillationError
from .corpus import Passage, read_passages, share_alike
from .made import KINDS, Made, make_queries
from .mine import Text, read_text, shortened
from .recipe import Recipe
from .teacher import each

NAME = "held-out queries"
CANDIDATES = 50  # of a query
# A collection with the candidates of its queries.
Reference = tuple[Collection, Run]
# Passages with a query that there have to be at least, and the share of them that is held out at most.
_LEAST, _SHARE = 10, 0.2
# Half the distance of the best passage's grade from a middling one's, in logits.
_HALF = 4.0
_TOP = 10  # first places that are compared


@dataclass(frozen=True, slots=True)
class HeldOut:
    """All passages, and queries that were made of some which are in no training pair."""

    passages: tuple[Passage, ...]
    queries: tuple[Made, ...]

    @property
    def kinds(self) -> dict[str, str]:
        """The id of each query in the collection -> which of made.KINDS it is."""
        return {f"q{number}": made.kind for number, made in enumerate(self.queries)}


def training_text(recipe: Recipe) -> Text:
    """What a recipe trains on."""
    return divided(recipe)[0]


def divided(recipe: Recipe) -> tuple[Text, HeldOut | None]:
    """What a recipe trains on, and what it holds out: nothing where it has queries, or a gate, of its own."""
    path = Path(recipe.passages)
    if recipe.queries:
        return read_text(path, Path(recipe.queries), made=recipe.made_queries, seed=recipe.seed), None
    passages = tuple(passage for passage in read_passages(path) if not share_alike(passage.licence))
    made = make_queries(passages, recipe.made_queries, recipe.seed)
    asked = {query.passage for query in made}
    if len(asked) < _LEAST:
        raise DistillationError(
            f"{path} has {len(asked)} passages that queries can be made of, and {_LEAST} are the least: give more documents."
        )
    held = _held(made, recipe.gate_made, recipe.seed) if recipe.gate_made else ()
    kept = {query.passage for query in held}
    places = [index for index in range(len(passages)) if index not in kept]
    position = {index: place for place, index in enumerate(places)}
    generator = random.Random(recipe.seed)
    text = Text(
        tuple(shortened(passages[index].text, generator) for index in places),
        tuple((query.query, position[query.passage]) for query in made if query.passage not in kept),
        tuple(query.kind for query in made if query.passage not in kept),
    )
    return text, HeldOut(passages, held) if held else None


def _held(made: Sequence[Made], count: int, seed: int) -> tuple[Made, ...]:
    """One query of each of `count` passages, but of no more than a share of all; the kinds take turns as long as they have any."""
    most = max(1, min(count, int(_SHARE * len({query.passage for query in made}))))
    drawn = random.Random(f"{seed} held out").sample(made, len(made))
    waiting = {kind: iter([query for query in drawn if query.kind == kind]) for kind in KINDS}
    held: dict[int, Made] = {}
    while len(held) < most and waiting:
        for kind, queries in [*waiting.items()]:
            query = next((one for one in queries if one.passage not in held), None)
            if query is None:
                del waiting[kind]
            elif len(held) < most:
                held[query.passage] = query
    return tuple(held.values())


def graded(
    held: HeldOut,
    teacher: Scorer,
    store: ScoreStore,
    *,
    progress: Progress = lambda *_: None,
) -> Reference:
    """The held-out queries with BM25's best CANDIDATES of all passages, which the teacher grades from 0 to 1,000.

    A grade is the sigmoid of the teacher's score, once that is moved and scaled alike for all queries so that a typical best
    passage has 4 and a typical middling one -4: teachers differ in scale, and not in what they prefer. Raises
    DistillationError where the teacher prefers nothing.
    """
    documents = {passage.key: passage.text for passage in held.passages}
    queries = {f"q{number}": made.query for number, made in enumerate(held.queries)}
    asked = Collection(name=NAME, documents=documents, queries=queries, qrels={})
    candidates = {query: rows for query, rows in bm25(asked, CANDIDATES).items() if len(rows) > 1}

    def ask(query: str) -> list[float]:
        return store.score(teacher, queries[query], [documents[key] for key, _ in candidates[query]])

    scores: dict[str, list[float]] = {}
    progress("grade held-out queries", 0, len(candidates))
    for query, values in zip(candidates, each([teacher], ask, candidates), strict=True):
        scores[query] = values
        progress("grade held-out queries", len(scores), len(candidates))
    best = median(map(max, scores.values())) if scores else 0.0
    middling = median(map(median, scores.values())) if scores else 0.0
    if not best > middling:
        raise DistillationError(
            f"The teacher scores all candidates of the {len(queries)} held-out queries alike: give another, or more documents."
        )
    qrels = {}
    for query, rows in candidates.items():
        steps = (np.array(scores[query]) - (best + middling) / 2) * (2 * _HALF / (best - middling))
        grades = np.round(1000 / (1 + np.exp(-np.clip(steps, -50, 50)))).astype(int).tolist()
        if any(grades):  # else the teacher holds that nothing here answers
            qrels[query] = {key: grade for (key, _), grade in zip(rows, grades, strict=True)}
    kept = {query: text for query, text in queries.items() if query in qrels}
    collection = Collection(name=NAME, documents=documents, queries=kept, qrels=qrels)
    return collection, {query: candidates[query] for query in kept}


def agreement(ranking: Ranking, teacher: Ranking) -> float:
    """The share of the teacher's first ten that a ranking has among its own, on average over queries."""
    shares = []
    for query, rows in teacher.run.items():
        first = {key for key, _ in rows[:_TOP]}
        shares.append(len(first & {key for key, _ in ranking.run[query][:_TOP]}) / len(first))
    return mean(shares)
