"""`sagerank eval cascade`: quality against cost for every K, and the K that is chosen."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest

from sagerank.cli import main
from sagerank.evaluation import EvaluationError
from sagerank.evaluation.cascade import Pace, arithmetic, curve, measured
from sagerank.evaluation.collection import Collection
from sagerank.evaluation.evaluate import rerank
from sagerank.evaluation.scorer import Cascade, EngineScorer
from sagerank.evaluation.scores import ScoreStore
from sagerank.models.build import MICRO

from ..conftest import DOCUMENTS, QUERY


class Table:
    """Scores by document, the same for every query."""

    def __init__(self, name: str, scores: dict[str, float]) -> None:
        self.name, self.scores = name, scores

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        return [self.scores[query + document] for document in documents]


def collection(queries: int) -> tuple[Collection, dict[str, list[tuple[str, float]]]]:
    documents = {f"d{n}": f"document {n}" for n in range(20)}
    asked = {f"q{n}": f"query {n} " for n in range(queries)}
    # The answer of query n stands at place n % 6 of the first model, and first with the last.
    qrels = {f"q{n}": {f"d{n % 6}": 1} for n in range(queries)}
    return Collection(name="made", documents=documents, queries=asked, qrels=qrels), {
        query: [(document, 0.0) for document in documents] for query in asked
    }


def models(made: Collection) -> tuple[Table, Table]:
    first, last = {}, {}
    for number, query in enumerate(made.queries.values()):
        for place, text in enumerate(made.documents.values()):
            first[query + text] = -float(place)
            last[query + text] = 5.0 if place == number % 6 else -float(place)
    return Table("first", first), Table("last", last)


PACES = [
    Pace(name=name, cost=cost, low=cost, high=cost, unit="ms")
    for name, cost in (("first", 1.0), ("last", 10.0))
]


def test_the_curve_is_every_cascades_own_quality_and_cost() -> None:
    made, run = collection(12)
    first, last = models(made)
    store = ScoreStore(None)
    found = curve(made, run, first, last, store, retain=1.0, paces=PACES)
    for keep in (1, 4, 20):
        ranking = rerank(made, run, Cascade([first, last], [keep]), store)
        assert found.steps[keep].ndcg == pytest.approx(ranking.mean())
        assert found.steps[keep].cost == 20 * 1 + keep * 10
    assert found.steps[0].ndcg == pytest.approx(rerank(made, run, first, store).mean())
    assert found.last_ndcg == found.steps[20].ndcg == 1.0
    assert found.last_cost == 200
    assert found.chosen == found.by_mean == 6, "the deepest answer stands at place 6"
    assert [step.share for step in found.steps] == sorted(step.share for step in found.steps)
    middle = Cascade([first, Table("middle", first.scores)], [9])
    three = curve(made, run, middle, last, store, retain=1.0, paces=[PACES[0], *PACES])
    assert [step.keep for step in three.steps] == list(range(9))
    assert three.steps[4].cost == 20 * 1 + 9 * 1 + 4 * 10


def test_noise_does_not_decide_for_a_smaller_k() -> None:
    """The mean over few queries just reaches the share; that another sample would is not sure."""
    made, run = collection(12)
    first, last = models(made)
    goal = 0.85
    found = curve(made, run, first, last, ScoreStore(None), retain=goal, paces=PACES)
    assert found.by_mean is not None
    assert found.chosen is not None
    assert found.steps[found.by_mean].share >= goal
    assert found.chosen > found.by_mean
    assert all(step.low >= 0 for step in found.steps[found.chosen :])
    assert found.steps[found.chosen - 1].low < 0
    good = curve(made, run, last, last, ScoreStore(None), retain=goal, paces=PACES)
    assert good.chosen == 0, "a first model that is as good needs no second"


def test_eval_cascade_prints_the_command_that_builds_it(
    second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, _ = collection(4)
    (tmp_path / "qrels").mkdir()
    rows = [json.dumps({"_id": key, "text": f"{text} about ice"}) for key, text in made.documents.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(rows))
    asked = [json.dumps({"_id": key, "text": f"{text} ice"}) for key, text in made.queries.items()]
    (tmp_path / "queries.jsonl").write_text("\n".join(asked))
    judged = [f"{query}\t{next(iter(grades))}\t1" for query, grades in made.qrels.items()]
    (tmp_path / "qrels/test.tsv").write_text("\n".join(judged))
    spec = f"micro>{second}"
    command = [
        "eval",
        "cascade",
        "--data",
        str(tmp_path),
        "--model",
        spec,
        "--retain",
        "0.01",
        "--threads",
        "1",
    ]
    assert main([*command, "--arithmetic", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [pace["unit"] for pace in facts["paces"]] == ["GFLOP", "GFLOP"]
    assert len(facts["steps"]) > 2
    assert facts["command"] is None or facts["command"].startswith(f"sagerank build --model '{spec}@")
    assert main([*command, "--plot", str(tmp_path / "curve.svg")]) == 0
    printed = capsys.readouterr().out
    assert "measured here" in printed
    assert "ms a query" in (tmp_path / "curve.svg").read_text()
    for wrong in ("micro", "micro>random:tiny@5"):
        assert main(["eval", "cascade", "--data", str(tmp_path), "--model", wrong]) == 2
        assert "without K" in capsys.readouterr().err


def test_paces_are_of_each_stage(second: Path) -> None:
    stages = [EngineScorer(MICRO, threads=1), EngineScorer(second, threads=1)]
    work = [(QUERY, DOCUMENTS)]
    timed = measured(stages, work)
    assert all(0 < pace.low <= pace.cost <= pace.high for pace in timed)
    shapes = arithmetic(stages, work)
    assert shapes[0].cost > 0
    assert shapes[1].cost > 0
    with pytest.raises(EvaluationError, match="leave --arithmetic out"):
        arithmetic([Table("elsewhere", {})], work)
    assert statistics.fmean(pace.cost for pace in shapes) != shapes[0].cost
