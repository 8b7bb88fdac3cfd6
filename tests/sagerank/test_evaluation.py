"""Collections, first stages, scorers, metrics and the `sagerank eval` command, on real files and real runtimes."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import pytrec_eval
from onnx import TensorProto, helper, numpy_helper
from sagerank_inference.artefact import Manifest
from sagerank_inference.engine import Engine

from sagerank.cli import main
from sagerank.evaluation import SAMPLE, EvaluationError
from sagerank.evaluation.collection import Collection, CollectionError, load
from sagerank.evaluation.draw import Point, picture, scatter_text
from sagerank.evaluation.evaluate import first_stage, rerank
from sagerank.evaluation.first_stage import bm25, read_run, write_run
from sagerank.evaluation.metrics import compare, confidence, per_query
from sagerank.evaluation.published import PUBLISHED
from sagerank.evaluation.rag import Questions, benchmark, mean_over_embedders, open_embedder, read_questions
from sagerank.evaluation.scorer import Cascade, EngineScorer, ScorerError, open_scorer
from sagerank.evaluation.scores import ScoreStore
from sagerank.models.build import MICRO

from ..conftest import VOCABULARY
from ..inference.test_server import running, wait_for

HELDOUT = SAMPLE / "heldout"
SHARED = Path(__file__).parents[3] / "shared" / "data"


class Words:
    """A scorer one can compute in the head: how many of the query's words a document has."""

    def __init__(self, name: str = "words", sign: float = 1.0) -> None:
        self.name, self.sign, self.asked = name, sign, 0

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        self.asked += len(documents)
        return [self.sign * len(set(query.split()) & set(document.split())) for document in documents]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three documents, two judged queries and one unjudged."""
    target = tmp_path / "small"
    (target / "qrels").mkdir(parents=True)
    documents = {"d1": "red apple pie", "d2": "green apple", "d3": "blue car"}
    (target / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": key, "title": "", "text": text}) + "\n" for key, text in documents.items())
    )
    queries = {"q1": "red apple pie", "q2": "car", "q3": "nobody judged this"}
    (target / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in queries.items())
    )
    (target / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t1\nq2\td3\t1\nq2\tgone\t0\n"
    )
    return target


def test_a_collection_keeps_judged_queries_and_all_judgements(folder: Path) -> None:
    collection = load(str(folder))
    assert collection.queries == {"q1": "red apple pie", "q2": "car"}
    assert collection.qrels["q2"] == {"d3": 1, "gone": 0}
    assert load(str(folder), relevant_from=2).queries.keys() == {"q1"}


@pytest.mark.parametrize(
    ("file", "line", "text", "reason"),
    [
        ("corpus.jsonl", 4, '{"_id": "d1", "text": "again"}', "'d1' occurs twice"),
        ("corpus.jsonl", 4, '{"_id": "d4", "text": ', "not JSON"),
        ("corpus.jsonl", 4, "[1]", "expected an object"),
        ("corpus.jsonl", 4, '{"_id": 7, "text": "x"}', "_id must be a string"),
        ("corpus.jsonl", 4, '{"_id": "d4", "text": 7}', "must be strings"),
        ("queries.jsonl", 4, '{"_id": "q4", "text": " "}', "'q4' has no text"),
        ("queries.jsonl", 4, '{"_id": "q1", "text": "again"}', "'q1' occurs twice"),
        ("qrels/test.tsv", 6, "q9\td1\t1", "'q9' is not in queries.jsonl"),
        ("qrels/test.tsv", 6, "q1\td1", "found 2 cells"),
        ("qrels/test.tsv", 6, "q1\td3\tgood", "'good' is not an integer"),
        ("qrels/test.tsv", 6, "q1\td1\t0", "judged twice"),
        ("qrels/test.tsv", 6, "q1\td1\t\udcff", "not UTF-8"),
    ],
)
def test_a_wrong_line_is_named(folder: Path, file: str, line: int, text: str, reason: str) -> None:
    with (folder / file).open("a", errors="surrogateescape") as end:
        end.write(text + "\n")
    with pytest.raises(CollectionError) as caught:
        load(str(folder))
    assert f"{file}:{line}: " in str(caught.value)
    assert reason in str(caught.value)


def test_missing_files_and_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"dev.tsv is missing: there is test"):
        load(str(folder), split="dev")
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(CollectionError, match=r"corpus.jsonl is missing"):
        load(str(folder))
    with pytest.raises(CollectionError, match="is not a folder"):
        load(str(tmp_path / "none"))
    for name, split in [("scifacts", "test"), ("data/scifact", "test"), ("scifact", "tset")]:
        with pytest.raises(CollectionError, match=f"no BEIR data set '{name}' with {split}"):
            load(name, split=split)


def test_judgements_of_documents_the_corpus_lacks_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (notice,) = load(str(folder)).notices
    assert "test.tsv:5: the document 'gone' is not in corpus.jsonl; of 4 judged documents 1 are not" in notice
    assert main(["eval", "--data", str(folder), "--json"]) == 0
    assert notice in capsys.readouterr().err
    qrels = folder / "qrels" / "test.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\tx1\t2\nq2\tx2\t1\n")
    with pytest.raises(CollectionError, match=r"test.tsv:2: the document 'x1' .* belongs to another corpus"):
        load(str(folder))


def test_a_document_without_text_is_left_out_and_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "corpus.jsonl").open("a") as end:
        end.write('{"_id": "d4", "title": " ", "text": ""}\n')
    assert "d4" not in load(str(folder)).documents
    assert main(["eval", "--data", str(folder), "--json"]) == 0
    assert "corpus.jsonl:4: document 'd4' has neither title nor text" in capsys.readouterr().err
    run = tmp_path / "run.trec"
    run.write_text("q1 Q0 d4 1 2.0 x\nq1 Q0 d1 2 1.0 x\n")
    assert read_run(run, load(str(folder)), 10)["q1"] == [("d1", 1.0)], "it is not unknown, only empty"
    assert main(["eval", "--data", str(folder), "--run", str(run), "--json"]) == 0
    told = capsys.readouterr().err
    assert "run.trec has no candidate for 1 of 2 queries ('q2' the first): they count as 0" in told


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("q1 Q0 d1 1 2.0\n", ":1: expected"),
        ("q1 Q0 d1 1 2.0 x\nq1 Q0 d9 2 1.0 x\n", ":2: the document 'd9' is not in the corpus"),
        ("q1 Q0 d1 1 2.0 x\nq1 Q0 d1 2 1.0 x\n", ":2: the document 'd1' occurs twice"),
        ("q1 Q0 d1 1 two x\n", ":1: the score 'two' is not a finite number"),
        ("q1 Q0 d1 1 nan x\n", ":1: the score 'nan' is not a finite number"),
        ("q1 Q0 d1 1 2.0 x\nq1 Q0 d2 1 1.0 \udcff\n", ":2: not UTF-8"),
        ("q8 Q0 d1 1 2.0 x\n", "ranks none of the collection's judged queries"),
    ],
)
def test_a_wrong_run_is_named(folder: Path, tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "run.trec"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(CollectionError) as caught:
        read_run(path, load(str(folder)), 10)
    assert reason in str(caught.value)


def test_a_run_survives_writing_and_keeps_its_best(folder: Path, tmp_path: Path) -> None:
    collection = load(str(folder))
    path = tmp_path / "run.trec"
    path.write_text("q1 Q0 d3 1 0.5 x\nq1 Q0 d2 2 2.0 x\nq1 Q0 d1 3 1.0 x\n")
    run = read_run(path, collection, 2)
    assert run == {"q1": [("d2", 2.0), ("d1", 1.0)], "q2": []}
    write_run(run, path, "again")
    assert read_run(path, collection, 2) == run


# -- metrics -----------------------------------------------------------------------------------------------------


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
    return Collection("random", documents, dict.fromkeys(qrels, "query"), qrels), run


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


# -- scores and scorers ------------------------------------------------------------------------------------------


def test_a_store_asks_only_for_what_it_lacks_and_survives_a_kill(tmp_path: Path) -> None:
    path, scorer = tmp_path / "deep" / "scores.jsonl", Words()
    with ScoreStore(path) as store:
        assert store.score(scorer, "a b", ["a", "b c", "a b"]) == [1.0, 1.0, 2.0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])  # killed within the last line
    with ScoreStore(path) as store:
        assert store.score(scorer, "a b", ["a b", "a", "x", "x"]) == [2.0, 1.0, 0.0, 0.0]
        assert scorer.asked == 3 + 2, "the cut line and the new text, once each"
        store.score(Words("other"), "a b", ["a"])
        assert len(store) == 5, "another scorer's scores are its own"
    with ScoreStore(path) as store:
        small = Words("small", sign=1.23456789e-7)
        assert store.score(small, "a", ["a"]) == pytest.approx([1.23456789e-7], rel=1e-7)
    path.write_text('{"key": 1}\n')
    with pytest.raises(EvaluationError, match=r"scores.jsonl:1 is not a score"):
        ScoreStore(path)


def test_the_engine_scores_as_it_serves(micro: Engine) -> None:
    scorer = EngineScorer(MICRO)
    documents = ["Ice carves valleys.", "A piston moves.", "Ice " * 300]
    assert scorer.score("glacier", documents) == pytest.approx(
        micro.score("glacier", documents).values, abs=1e-5
    )
    short = EngineScorer(MICRO, max_document_tokens=16)
    assert short.name != scorer.name
    assert short.score("glacier", documents)[2] != pytest.approx(
        scorer.score("glacier", documents)[2], abs=1e-6
    )


def test_a_cascade_reranks_the_best_of_the_stage_before() -> None:
    first, second = Words("first"), Words("second", sign=-1.0)
    cascade = Cascade([first, second], [2])
    documents = ["x", "a b c", "a", "a b"]
    scores = cascade.score("a b c", documents)
    order = sorted(range(4), key=lambda index: -scores[index])
    assert order == [3, 1, 2, 0], (
        "of the two best the second stage turns the order round; the rest keeps its own"
    )
    assert (first.asked, second.asked) == (4, 2)
    assert cascade.score("a", ["a"]) == [-1.0]
    # Through the store its stages are kept: a longer list of candidates is ranked as if it were the first.
    store = ScoreStore(None)
    store.score(cascade, "a b c", documents[2:])
    assert store.score(cascade, "a b c", documents) == scores
    assert first.asked == 4 + 1 + 4, "of the second list only what the first lacked"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("micro>base", "written MODEL@K"),
        ("micro>base@0", "written MODEL@K"),
        ("onnx:/none", "/none holds no model.onnx"),
        ("hf:/none/such", "cannot be loaded"),
    ],
)
def test_a_scorer_that_cannot_be_had_says_why(spec: str, reason: str) -> None:
    with pytest.raises(ScorerError) as caught:
        open_scorer(spec)
    assert reason in str(caught.value)


def test_a_hugging_face_cross_encoder_scores_as_transformers_does(tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            num_labels=1,
        )
    ).eval()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(MICRO / "tokenizer.json"),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    scorer = open_scorer(f"hf:{tmp_path}", max_tokens=64)
    documents = ["Ice carves valleys.", "A piston moves in an engine, and fuel burns."]
    with torch.inference_mode():
        inputs = tokenizer(["glacier"] * 2, documents, return_tensors="pt", padding=True)
        expected = model(**inputs).logits[:, 0].tolist()
    assert scorer.score("glacier", documents) == pytest.approx(expected, abs=1e-5), "logits, no sigmoid"
    name = scorer.name
    with torch.no_grad():
        model.classifier.bias += 1
    model.save_pretrained(tmp_path)
    again = open_scorer(f"hf:{tmp_path}", max_tokens=64)
    assert again.name != name, "scores are cached under the weights' hash"
    assert again.score("glacier", documents) == pytest.approx([value + 1 for value in expected], abs=1e-5)


def test_a_server_and_an_endpoint_give_the_engines_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    documents = ["Ice carves valleys.", "A piston moves.", "Glaciers are ice that moves."]
    expected = EngineScorer(MICRO).score("glacier", documents)
    with running() as server:
        wait_for(lambda: server.ping() == 200)
        url = f"http://127.0.0.1:{server.port}"
        for spec in (url, "endpoint:ranker@eu-west-1"):
            scores = open_scorer(spec, endpoint_url=url).score("glacier", documents)
            assert scores == pytest.approx(expected, abs=1e-3), spec


# -- the whole ---------------------------------------------------------------------------------------------------


def test_candidates_are_reranked_and_never_added(folder: Path) -> None:
    collection = load(str(folder))
    run = bm25(collection, 1)
    assert [document for document, _ in run["q2"]] == ["d3"]
    base = first_stage("bm25", collection, {"q1": [("d2", 2.0), ("d1", 1.0)], "q2": [("d1", 1.0)]})
    ranking = rerank(collection, base.run, Words(), ScoreStore(None))
    assert [document for document, _ in ranking.run["q1"]] == ["d1", "d2"]
    assert [document for document, _ in ranking.run["q2"]] == ["d1"], "the missed d3 is not injected"
    assert ranking.values["ndcg@10"] == {"q1": pytest.approx(1.0), "q2": 0.0}
    assert ranking.versus(base).mean > 0


def test_micro_ranks_text_it_never_saw(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = [
        "eval",
        "--data",
        str(HELDOUT),
        "--top-k",
        "20",
        "--queries",
        "30",
        "--json",
        "--threads",
        "2",
    ]
    cache, run = tmp_path / "scores.jsonl", tmp_path / "run.trec"
    assert main([*arguments, "--cache", str(cache), "--save-run", str(run)]) == 0
    result = json.loads(capsys.readouterr().out)
    model, base = result["models"][0], result["first_stage"]
    assert result["queries"] == 30
    assert model["recall@100"] == base["recall@100"], "reranking finds nothing new"
    assert model["ndcg@10"] > 0.45, "random order of these candidates gives about 0.2"
    difference = model["ndcg@10_minus"]["first_stage"]
    assert difference["mean"] == pytest.approx(model["ndcg@10"] - base["ndcg@10"])
    lines = cache.read_bytes()
    # The written run is a first stage again, and nothing is scored a second time.
    assert main([*arguments, "--cache", str(cache), "--run", str(run)]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["first_stage"]["ndcg@10"] == pytest.approx(model["ndcg@10"], abs=1e-9)
    assert cache.read_bytes() == lines


def test_the_table_marks_what_cannot_be_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plot = tmp_path / "quality.svg"
    small = [
        "eval",
        "table",
        "--data",
        str(HELDOUT),
        "--queries",
        "3",
        "--top-k",
        "5",
        "--model",
        "micro",
        "--model",
        "base",
    ]
    assert main([*small, "--json", "--plot", str(plot)]) == 0
    rows = {row["scorer"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["micro"]["ndcg"] > 0
    assert rows["micro"]["documents_per_50_ms"] > 0
    assert rows["micro"]["millions"] == round(Manifest.read(MICRO).parameters / 1e6, 1)
    assert rows["base"]["ndcg"] is None
    assert "cannot be downloaded publicly" in rows["base"]["not_run"]
    assert rows["base"]["published_ndcg"] == 52.45
    drawn = plot.read_text()
    assert "micro" in drawn
    assert "not run" in drawn, "the picture holds the table as well"
    assert main(small) == 0
    shown = capsys.readouterr().out
    assert "not run" in shown
    assert "52.45" in shown


def test_published_rows_are_the_announcements() -> None:
    best = max(PUBLISHED, key=lambda row: row.ndcg)
    assert (best.name, best.ndcg) == ("jina-reranker-v1-base-en", 52.45)
    assert len(PUBLISHED) == 8
    assert sum(row.ndcg for row in PUBLISHED) == pytest.approx(392.92)
    assert sum(row.hit_rate for row in PUBLISHED) == pytest.approx(6.5877)
    assert sum(row.mrr for row in PUBLISHED) == pytest.approx(5.2476)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["eval"], "--data is missing"),
        (["eval", "--data", "x", "--data", "y", "--run", "r"], "exactly one --data"),
        (["eval", "--data", str(HELDOUT), "--top-k", "0"], "--top-k is 0"),
        (["eval", "--data", str(HELDOUT), "--model", "nano"], "no model 'nano'"),
        (["eval", "--data", "x", "--data", "y/x"], "Two --data are called 'x'"),
        (
            ["eval", "--data", "x", "--model", "a", "--model", "b", "--save-run", "r"],
            "one --data and one --model",
        ),
        (["eval", "--data", "x", "--plot", "p.svg"], "--plot goes with `sagerank eval table or cascade`"),
        (["eval", "rag", "--data", "x", "--questions", "q"], "one --data or one --questions"),
        (["eval", "rag", "--data", "x", "--run", "r"], "--run does not go with rag"),
        (["eval", "rag", "--data", str(HELDOUT)], "--embedder is missing"),
        (["eval", "rag", "--data", str(HELDOUT), "--embedder", "x:y"], "bge:FOLDER"),
        (["eval", "table", "--data", "nowhere", "--plot", "x.gif"], "ends in .svg"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1


def test_pictures_hold_their_points_and_are_reproducible(tmp_path: Path) -> None:
    points = [Point("micro", 20.0, 41.0), Point("tiny", 5.0, 48.5)]
    table = [("model", "ours"), ("micro", "41.00"), ("tiny", "48.50"), ("base", "not run")]
    for name in ("a.svg", "b.svg", "c.png"):
        picture(points, "NDCG@10", table, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    for word in ("micro", "tiny", "not run", "documents per 50 ms"):
        assert word in (tmp_path / "a.svg").read_text()
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    text = scatter_text(points, "NDCG@10")
    assert "micro" in text
    assert "tiny" in text


# -- RAG ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def embedder_folder(tmp_path: Path) -> Path:
    """A bi-encoder in ONNX: token embeddings drawn at random, so that texts which share words are near."""
    folder = tmp_path / "embedder"
    folder.mkdir()
    shutil.copyfile(MICRO / "tokenizer.json", folder / "tokenizer.json")
    table = np.random.default_rng(0).normal(size=(VOCABULARY, 48)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "embedder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "s"])],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "s", 48])],
        [numpy_helper.from_array(table, "table")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10),
        folder / "model.onnx",
    )
    return folder


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
        [open_embedder(f"minilm:{embedder_folder}")],
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


def test_padding_does_not_reach_an_embedding(embedder_folder: Path) -> None:
    embedder = open_embedder(f"e5:{embedder_folder}")
    together = embedder.passages(["ice", "a much longer text about glaciers and ice in valleys"])
    assert together[0] == pytest.approx(embedder.passages(["ice"])[0], abs=1e-6)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert embedder.queries(["ice"])[0] != pytest.approx(together[0], abs=1e-3), "each side has its prefix"


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
    for change, reason in [
        ({"relevant_docs": {"z": ["a"]}}, "unknown question 'z'"),
        ({"relevant_docs": {"q": ["z"]}}, "not in corpus"),
        ({"corpus": None}, "not a question-context file"),
        ({"corpus": {"a": " ", "b": "apple"}}, "context 'a' has no text"),
    ]:
        path.write_text(json.dumps(raw | change))
        with pytest.raises(CollectionError, match=reason):
            read_questions(path)


# -- with the shared collections ---------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test collections are not here")
@pytest.mark.parametrize(
    ("name", "low", "high"), [("scifact", 0.66, 0.70), ("nfcorpus", 0.31, 0.33), ("cranfield", 0.41, 0.44)]
)
def test_bm25_is_where_it_should_be(name: str, low: float, high: float) -> None:
    collection = load(str(SHARED / name))
    assert low < first_stage("bm25", collection, bm25(collection, 100)).mean() < high


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test collections are not here")
def test_the_official_run_has_its_published_value() -> None:
    collection = load(str(SHARED / "trec-dl-2019-rerank"))
    run = read_run(SHARED / "trec-dl-2019-rerank" / "run.bm25.trec", collection, 100)
    assert first_stage("run", collection, run).mean() == pytest.approx(0.5058, abs=5e-5)
