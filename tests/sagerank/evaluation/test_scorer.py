"""Scorers of every kind on real runtimes, and the store that keeps their scores."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sagerank.errors import BadAnswer
from sagerank.evaluation import EvaluationError
from sagerank.evaluation.scorer import Cascade, EngineScorer, ScorerError, open_scorer, public_address
from sagerank.evaluation.scores import ScoreStore
from sagerank.models.build import MICRO
from sagerank_inference.engine import Engine
from sagerank_inference.settings import Settings

from ...conftest import VOCABULARY, needs
from ...servers import Server, wait_for
from ..conftest import Words
from ..scripted import Script, score


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


def test_a_score_that_is_no_number_ends_the_run_and_is_not_kept(tmp_path: Path) -> None:
    """Else it is found in an average, or in a student, hours later."""
    path = tmp_path / "scores.jsonl"
    with ScoreStore(path) as store:
        store.score(Words(), "a b", ["a"])
        with pytest.raises(EvaluationError, match="no finite number"):
            store.score(Words(sign=math.nan), "a b", ["b", "c"])
    with ScoreStore(path) as store:
        assert len(store) == 1
        assert store.score(Words(), "a b", ["b"]) == [1.0]


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


def test_windows_score_as_a_server_with_that_limit_does() -> None:
    query, filler = "how do glaciers shape valleys", "A piston moves. "
    documents = [filler, filler * 60 + "Glaciers carve valleys out of rock. " + filler * 60]
    scorer = EngineScorer(MICRO, window_tokens=64)
    settings = Settings.from_env({"SAGERANK_MAX_TOKENS": "64", "SAGERANK_QUERY_TOKENS": "32"})
    scores = scorer.score(query, documents)
    assert scores == pytest.approx(Engine.load(MICRO, settings).score(query, documents).values, abs=1e-5)
    cut = EngineScorer(MICRO, max_document_tokens=50)
    assert scores[1] > cut.score(query, documents)[1] + 1, "what is asked for stands beyond the cut"
    assert scorer.gflop(query, documents) > cut.gflop(query, documents)
    assert len({scorer.name, cut.name, EngineScorer(MICRO).name}) == 3


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
        pytest.param("hf:/none/such", "cannot be loaded", marks=needs("sentence_transformers")),
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


def test_a_server_and_an_endpoint_give_the_engines_logits(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    documents = [
        "Ice carves valleys.",
        "A piston moves.",
        "Glaciers are ice that moves.",
        "Ice moves. " * 400,
    ]
    url = f"http://127.0.0.1:{server.port}"
    for limit in (None, 64):
        local = open_scorer("micro", max_tokens=limit)
        expected = local.score("glacier", documents)
        for spec in (url, "endpoint:ranker@eu-west-1"):
            scorer = open_scorer(spec, endpoint_url=url, max_tokens=limit)
            assert scorer.score("glacier", documents) == pytest.approx(expected, abs=1e-5), (spec, limit)
            assert ("/64" in scorer.name) == (limit == 64), "scores of cut documents are kept as such"


def test_a_server_of_another_make_has_its_probabilities_turned_into_logits(script: Script) -> None:
    """One that passes over what it does not know, and one that refuses it."""
    documents = ["a", "some text"]
    expected = [math.log(score(text) / (1 - score(text))) for text in documents]
    for refuses in (False, True):
        if refuses:
            script.failures.append((422, b'{"detail": "raw_scores: extra fields are not permitted"}', {}))
        scorer = open_scorer(f"http://127.0.0.1:{script.server_address[1]}/", max_tokens=64)
        assert scorer.score("query", documents) == pytest.approx(expected, abs=1e-6)
        script.bodies.clear()
        scorer.score("query", documents)
        (body,) = script.bodies
        assert b"raw_scores" not in body, "it is asked for logits once"
    script.failures.append("garbage")
    with pytest.raises(BadAnswer, match="not that of a reranker"):
        scorer.score("query", documents)


def test_a_thread_that_asked_for_logits_before_another_learned_better_asks_again(script: Script) -> None:
    script.failures.append("held")
    scorer = open_scorer(script.url)
    expected = [math.log(score("text") / (1 - score("text")))]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(scorer.score, "query", ["text"])
        wait_for(lambda: len(script.bodies) == 1)
        assert scorer.score("query", ["text"]) == pytest.approx(expected, abs=1e-6)
        script.release.set()
        assert first.result() == pytest.approx(expected, abs=1e-6)
    assert [b"raw_scores" in body for body in script.bodies] == [True, True, False, False]


def test_an_address_is_shown_without_its_secrets() -> None:
    assert public_address("https://user:word@host:8080/v1?key=secret") == "https://host:8080/v1"
    assert public_address("endpoint:ranker@eu-west-1") == "endpoint:ranker@eu-west-1"
