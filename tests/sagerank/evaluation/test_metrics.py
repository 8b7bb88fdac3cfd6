"""Metrics beside trec_eval and their formulas, intervals and tests."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval

from sagerank.evaluation.collection import Collection, load
from sagerank.evaluation.first_stage import read_run, write_run
from sagerank.evaluation.metrics import compare, confidence, per_query


def random_case(seed: int) -> tuple[Collection, dict[str, list[tuple[str, float]]]]:
    generator = random.Random(seed)
    documents = {f"d{i}": f"text {i}" for i in range(60)}
    qrels = {
        f"q{i}": {name: generator.choice([0, 0, 1, 2, 3]) for name in generator.sample(list(documents), 20)}
        | {"d0": 1}
        for i in range(8)
    }
    run = {
        query: sorted(
            ((name, generator.random()) for name in generator.sample(list(documents), 30)),
            key=lambda x: -x[1],
        )
        for query in qrels
    }
    return Collection(
        name="random", documents=documents, queries=dict.fromkeys(qrels, "query"), qrels=qrels
    ), run


@pytest.mark.parametrize("seed", range(4))
def test_metrics_agree_with_trec_eval_and_with_the_formula(seed: int) -> None:
    collection, run = random_case(seed)
    ours = per_query(collection, run)
    evaluator = pytrec_eval.RelevanceEvaluator(collection.qrels, {"ndcg_cut.10", "map", "recall.10,100"})
    theirs = evaluator.evaluate({query: dict(rows) for query, rows in run.items()})
    for query, rows in run.items():
        for name, key in {
            "ndcg@10": "ndcg_cut_10",
            "map": "map",
            "recall@10": "recall_10",
            "recall@100": "recall_100",
        }.items():
            assert ours[name][query] == pytest.approx(theirs[query][key], abs=1e-6)
        grades = collection.qrels[query]
        gain = sum(grades.get(name, 0) / math.log2(place + 2) for place, (name, _) in enumerate(rows[:10]))
        ideal = sum(
            grade / math.log2(place + 2) for place, grade in enumerate(sorted(grades.values())[::-1][:10])
        )
        assert ours["ndcg@10"][query] == pytest.approx(gain / ideal, abs=1e-6)
        first = next((place for place, (name, _) in enumerate(rows[:10], 1) if grades.get(name, 0) > 0), None)
        assert ours["mrr@10"][query] == pytest.approx(1 / first if first else 0.0)


@pytest.mark.parametrize("digits", [1, 9], ids=["ties", "few ties"])
def test_a_run_file_has_the_value_that_trec_eval_gives_it(tmp_path: Path, digits: int) -> None:
    """From disk to disk: read, cut, tied and written runs, measured by pytrec_eval from the very lines."""
    collection, run = random_case(9)
    path = tmp_path / "run.trec"
    path.write_text(
        "".join(
            f"{query} Q0 {document} 0 {score:.{digits}f} x\n"
            for query, rows in run.items()
            for document, score in rows
        )
    )
    evaluator = pytrec_eval.RelevanceEvaluator(collection.qrels, {"ndcg_cut.10"})
    for _ in range(2):  # the file somebody gave, and the one we write
        found = read_run(path, collection, 100)
        ours = per_query(collection, found)["ndcg@10"]
        with path.open() as lines:
            theirs = evaluator.evaluate(pytrec_eval.parse_run(lines))
        for query, value in ours.items():
            assert value == pytest.approx(theirs[query]["ndcg_cut_10"], abs=1e-6)
        write_run(found, path, "again")


def test_a_query_without_candidates_counts(folder: Path) -> None:
    collection = load(str(folder))
    values = per_query(collection, {"q1": [("d1", 2.0), ("d2", 1.0)]})
    assert values["ndcg@10"] == {"q1": pytest.approx(1.0), "q2": 0.0}
    assert values["recall@100"] == {"q1": 1.0, "q2": 0.0}


def test_equal_scores_keep_their_order(folder: Path) -> None:
    collection = load(str(folder))
    best = per_query(collection, {"q1": [("d1", 0.0), ("d2", 0.0), ("d3", 0.0)]})["ndcg@10"]["q1"]
    worse = per_query(collection, {"q1": [("d3", 0.0), ("d2", 0.0), ("d1", 0.0)]})["ndcg@10"]["q1"]
    assert best == pytest.approx(1.0)
    assert worse < best


def test_intervals_cover_the_mean_and_tests_find_what_is_there() -> None:
    generator = np.random.default_rng(3)
    hits = 0
    for seed in range(100):
        interval = confidence(generator.normal(0.5, 0.2, 60).tolist(), resamples=500, seed=seed)
        hits += interval.low <= 0.5 <= interval.high
    assert 85 <= hits <= 99, "a 95 % interval covers the truth about 95 times in 100"
    a = {str(i): float(value) for i, value in enumerate(generator.normal(0.5, 0.1, 60))}
    better = {query: value + 0.05 + float(generator.normal(0, 0.02)) for query, value in a.items()}
    noise = {query: value + float(generator.normal(0, 0.2)) for query, value in a.items()}
    found, nothing, same = compare(better, a), compare(noise, a), compare(a, a)
    assert found.p < 0.001
    assert found.low < 0.05 < found.high
    assert nothing.p > 0.05
    assert (same.mean, same.p) == (0.0, 1.0)
    with pytest.raises(ValueError, match="different queries"):
        compare(a, {"other": 1.0})


def test_one_query_says_nothing_by_chance() -> None:
    found = compare({"q": 0.75}, {"q": 0.5})
    assert (found.mean, found.low, found.high, found.p) == (0.25, 0.25, 0.25, 1.0)
