"""The RAG benchmark: hits, places, what retrieves, and its command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from sagerank.cli import main
from sagerank.evaluation import EvaluationError
from sagerank.evaluation.collection import CollectionError
from sagerank.evaluation.embedder import open_embedder
from sagerank.evaluation.questions import Questions, read_questions
from sagerank.evaluation.rag import benchmark, mean_over_embedders, places, reranked
from sagerank.evaluation.retrieval import latent, open_retriever
from sagerank.evaluation.scorer import ScorerError
from sagerank.evaluation.scores import ScoreStore

from ...conftest import needs
from ..conftest import Words


def test_rag_counts_hits_and_places(embedder_folder: Path) -> None:
    contexts = {
        f"c{i}": text
        for i, text in enumerate(
            ["red apple pie", "green apple tree", "blue car engine", "car road", "apple"]
        )
    }
    questions = Questions(
        contexts, {"q": "car road", "r": "red apple pie"}, {"q": frozenset({"c3"}), "r": frozenset({"c0"})}
    )
    rows = benchmark(
        questions,
        [open_retriever(f"minilm:{embedder_folder}")],
        [Words(), Words("backwards", sign=-1.0)],
        ScoreStore(None),
        retrieve=3,
        keep=2,
    )
    assert [(row.reranker, row.hit_rate, row.mrr) for row in rows[:2]] == [
        (None, 1.0, 1.0),
        ("words", 1.0, 1.0),
    ]
    assert rows[2].hit_rate == 0.0, "the best two of three, turned round, miss the context"
    means = mean_over_embedders(
        [*rows, *(dataclasses.replace(row, embedder="other", hit_rate=0.0) for row in rows)]
    )
    assert [row.hit_rate for row in means] == [0.5, 0.5, 0.0]


def test_words_find_a_context_and_a_reranker_orders_what_they_found() -> None:
    contexts = {"a": "the red car", "b": "a car on a road, a road, a road", "c": "apples grow on trees"}
    questions = Questions(
        contexts, {"q": "which car is red", "r": "zebra"}, {"q": frozenset("b"), "r": frozenset("c")}
    )
    found = open_retriever("bm25").retrieve(questions, 3)
    assert found == {"q": ["a", "b"], "r": []}, "a context without any of the words is not found"
    assert places(questions, found, 2) == {"q": 2, "r": None}
    assert places(questions, found, 1) == {"q": None, "r": None}
    again = reranked(questions, found, Words("backwards", sign=-1.0), ScoreStore(None))
    assert again == {"q": ["b", "a"], "r": []}
    with pytest.raises(ScorerError, match="'bm52' is unknown: give bm25, lsa, bge:FOLDER"):
        open_retriever("bm52")


def test_latent_semantics_bring_words_together_that_keep_the_same_company() -> None:
    sea = ["captain of the ship", "the ship and the crew", "crew and captain at sea", "sea and ship"]
    land = [
        "wheat in the field",
        "the field and the farmer",
        "farmer and wheat in the barn",
        "barn and field",
    ]
    contexts = {str(number): text for number, text in enumerate(sea + land)}
    questions = Questions(contexts, {"q": "captain"}, {"q": frozenset("1")})
    assert set(open_retriever("bm25").retrieve(questions, 4)["q"]) == {"0", "2"}
    embedder = latent(list(contexts.values()), dimension=2)
    cosines = embedder.queries(["captain", "zebra"]) @ embedder.passages(sea + land).T
    assert cosines[0, :4].min() > 0.9, "also the ship and the crew, which are not named"
    assert abs(cosines[0, 4:]).max() < 0.1
    assert not cosines[1].any()
    assert embedder.name == "lsa/2"
    assert set(open_retriever("lsa").retrieve(questions, 2)["q"]) == {"0", "2"}
    with pytest.raises(EvaluationError, match="at least two"):
        latent(["alone", "alone"])


def test_padding_does_not_reach_an_embedding(embedder_folder: Path) -> None:
    embedder = open_embedder(f"e5:{embedder_folder}")
    together = embedder.passages(["ice", "a much longer text about glaciers and ice in valleys"])
    assert together[0] == pytest.approx(embedder.passages(["ice"])[0], abs=1e-6)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert embedder.queries(["ice"])[0] != pytest.approx(together[0], abs=1e-3), "each side has its prefix"


@needs("torch")
def test_rag_from_the_command_line(
    embedder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "qa.json"
    raw = {
        "queries": {"q": "car road"},
        "corpus": {"a": "car road", "b": "apple"},
        "relevant_docs": {"q": ["a"]},
    }
    path.write_text(json.dumps(raw))
    cache = tmp_path / "scores.jsonl"
    command = ["eval", "rag", "--questions", str(path), "--embedder", f"minilm:{embedder_folder}"]
    command += ["--model", "micro", "--model", "base", "--cache", str(cache), "--keep", "1"]
    assert main([*command, "--json"]) == 0
    alone, ours, base = json.loads(capsys.readouterr().out)["mean"]
    assert alone == {"name": "none", "scorer": None, "hit_rate": 1.0, "mrr": 1.0}
    assert (ours["scorer"], ours["hit_rate"], ours["published_mrr"]) == ("micro", 1.0, None)
    assert (base["hit_rate"], base["published_hit_rate"]) == (None, 0.8439)
    assert "cannot be downloaded publicly" in base["not_run"]
    kept = {item: item.stat().st_mtime_ns for item in (tmp_path / "scores.jsonl.vectors").iterdir()}
    assert len(kept) == 2, "contexts and questions"
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "0.8439" in shown
    assert "not run: jina-reranker-v1-base-en" in shown
    assert kept == {item: item.stat().st_mtime_ns for item in (tmp_path / "scores.jsonl.vectors").iterdir()}
    changes: list[tuple[dict[str, object], str]] = [
        ({"relevant_docs": {"z": ["a"]}}, "unknown question 'z'"),
        ({"relevant_docs": {"q": ["z"]}}, "not in corpus"),
        ({"corpus": None}, "not a question-context file"),
        ({"corpus": {"a": " ", "b": "apple"}}, "context 'a' has no text"),
    ]
    for change, reason in changes:
        path.write_text(json.dumps(raw | change))
        with pytest.raises(CollectionError, match=reason):
            read_questions(path)
