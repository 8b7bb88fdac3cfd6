"""Batches that are computed at once: by the engine, through one session, and at the worker."""

from __future__ import annotations

import dataclasses
import json
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from sagerank.models.build import MICRO
from sagerank_inference.artefact import ArtefactError, Manifest
from sagerank_inference.cascade import Rounds
from sagerank_inference.contract import InvalidRequest, TokenLimitExceeded, Truncation
from sagerank_inference.dialects import parse
from sagerank_inference.engine import Engine, load_forward, load_stages
from sagerank_inference.onnx_model import OnnxModel
from sagerank_inference.settings import Settings
from sagerank_inference.steps import finish

LANES = 3


class Observed:
    """A model whose logit is a pair's first token, and which remembers what ran beside what."""

    tolerance = 1e-3

    def __init__(self, lanes: int = LANES, failing: int | None = None) -> None:
        self.lanes, self.failing = lanes, failing
        self.running: list[int] = []  # longest pair of each batch under way
        self.seen: list[list[int]] = []  # what ran as each batch began, with it
        self._lock = threading.Lock()

    def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
        longest = max(map(len, batch))
        with self._lock:
            self.running.append(longest)
            self.seen.append(list(self.running))
        time.sleep(0.01)
        with self._lock:
            self.running.remove(longest)
        if any(pair[0] == self.failing for pair in batch):
            raise RuntimeError("this batch fails")
        return [float(pair[0]) for pair in batch]


def engine_of(forward: Observed, *, batch_tokens: int = 64) -> Engine:
    stages = load_stages(MICRO, Settings(model_dir=MICRO))
    return Engine(Manifest.read(MICRO), stages, [forward], batch_tokens=batch_tokens)


def pairs_of(lengths: Sequence[int]) -> list[list[int]]:
    return [[number, *range(length - 1)] for number, length in enumerate(lengths)]


def test_as_many_batches_at_once_as_there_are_lanes_and_answers_in_order() -> None:
    forward = Observed()
    pairs = pairs_of([30] * 24)
    assert engine_of(forward)._logits(forward, pairs) == [float(number) for number in range(24)]
    assert max(map(len, forward.seen)) == LANES


def test_a_pair_larger_than_a_batch_is_alone() -> None:
    forward = Observed()
    lengths = [200, 20, 65, 30, 64, 500, 10] + [32] * 10
    random.Random(0).shuffle(lengths)
    pairs = pairs_of(lengths)
    assert engine_of(forward)._logits(forward, pairs) == [float(number) for number in range(len(pairs))]
    assert all(len(beside) == 1 for beside in forward.seen if max(beside) > 64)
    assert {longest for beside in forward.seen for longest in beside} >= {500, 200, 65}


@pytest.mark.parametrize("failing", [0, 11, 23])
def test_a_failing_batch_fails_the_call_and_leaves_no_work_behind(failing: int) -> None:
    forward = Observed(failing=failing)
    engine = engine_of(forward)
    with pytest.raises(RuntimeError, match="this batch fails"):
        engine._logits(forward, pairs_of([30] * 24))
    assert not forward.running
    forward.failing = None
    assert engine._logits(forward, pairs_of([30] * 3)) == [0.0, 1.0, 2.0]


def test_one_lane_is_the_callers_own_thread() -> None:
    threads = set()

    class Remembering(Observed):
        def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
            threads.add(threading.get_ident())
            return super().__call__(batch)

    forward = Remembering(lanes=1)
    engine_of(forward)._logits(forward, pairs_of([30] * 8))
    assert threads == {threading.get_ident()}


@pytest.fixture(scope="module")
def four() -> OnnxModel:
    """micro with more threads than this machine may have: they share what there is."""
    model = load_forward(MICRO, Settings(model_dir=MICRO, threads=4))
    assert isinstance(model, OnnxModel)
    assert model.lanes == 4
    return model


def batches() -> list[list[list[int]]]:
    """Of many shapes, a long pair among them."""
    chance = random.Random(1)
    sizes = [(1, 900), (1, 1), (7, 140), (20, 12), (3, 333), (2, 31), (1, 128), (12, 60)] * 3
    return [
        [[chance.randrange(5, 2000) for _ in range(length)] for _ in range(count)] for count, length in sizes
    ]


def test_calls_at_once_give_the_logits_of_calls_in_turn(four: OnnxModel) -> None:
    alone = load_forward(MICRO, Settings(model_dir=MICRO, threads=1))
    work = batches()
    expected = [alone(batch) for batch in work]
    with ThreadPoolExecutor(four.lanes) as pool:
        found = list(pool.map(four, work))
    for logits, others in zip(found, expected, strict=True):
        assert logits == pytest.approx(others, abs=1e-5)
    # More callers than lanes wait; one thread has one lane.
    with ThreadPoolExecutor(9) as pool:
        assert [len(logits) for logits in pool.map(four, work)] == list(map(len, work))
        assert list(pool.map(alone, work)) == expected


def test_a_call_that_fails_beside_others_fails_alone(four: OnnxModel) -> None:
    work = batches()
    beyond = [[10**6] * 20]  # no such token
    mixed = [batch for each in work for batch in (each, beyond)]

    def attempt(batch: list[list[int]]) -> list[float] | Exception:
        try:
            return four(batch)
        except Exception as error:
            return error

    with ThreadPoolExecutor(four.lanes) as pool:
        found = list(pool.map(attempt, mixed))
    assert all(isinstance(answer, Exception) for answer in found[1::2])
    assert all(isinstance(answer, list) and np.isfinite(answer).all() for answer in found[::2])


def test_a_span_has_the_score_of_its_document_alone() -> None:
    """Of a text in several windows it is the best of them, wherever the relevant passage stands."""
    engine = Engine.load(MICRO, Settings(model_dir=MICRO, max_tokens=96, query_tokens=16))
    chance, query = random.Random(5), "what causes rain"
    passage = "Clouds cool, water vapour condenses into drops, and rain falls."
    for at in (0, 300, 900):
        words = chance.choices(
            ["the", "market", "stock", "price", "cat", "sofa", "ship", "war", "king", "paper"], k=1000
        )
        text = " ".join([*words[:at], passage, *words[at:]])
        scores = engine.score(query, ["short", text], spans=True)
        assert scores.spans is not None
        assert scores.spans[0] == (0, 5)
        begin, end = scores.spans[1]
        assert 0 < end - begin < len(text) / 4
        alone = engine.score(query, [text[begin:end]], spans=True)
        assert alone.values[0] == pytest.approx(scores.values[1], abs=1e-4)
        assert alone.spans == ((0, end - begin),)
        pieces = [" ".join(text.split()[n : n + 30]) for n in range(0, 1000, 30)]
        assert max(engine.score(query, pieces).values) <= scores.values[1] + 3
    assert engine.score(query, [text]).spans is None


def test_a_span_is_of_the_model_that_scored_the_document_last() -> None:
    stages = load_stages(MICRO, Settings(model_dir=MICRO, max_tokens=64, query_tokens=16))
    other = load_stages(MICRO, Settings(model_dir=MICRO, max_tokens=32, query_tokens=16))
    rounds = Rounds(
        [stages[0], dataclasses.replace(other[0], keep=1)],
        "q",
        ["a " * 200, "b", "a " * 200],
        Truncation(),
        spans=True,
    )
    first = rounds.read()
    rounds.take([float(index) for index in range(len(first.ids))][::-1])
    second = rounds.read()
    rounds.take([float(index) for index in range(len(second.ids))])
    finish(rounds.find_spans())
    spans = rounds.scores().spans
    assert spans is not None
    assert spans[0] == spans[2] == (400 - 2 * (32 - 4), 400), "equal texts, the second model's last window"
    assert spans[1] == (0, 1)


def test_golden_pairs_that_the_settings_cut_are_not_compared() -> None:
    """A query beyond its limit is cut too, though it would be whole where truncation is not allowed."""
    golden = Manifest.read(MICRO).golden
    (stage,) = load_stages(MICRO, Settings(model_dir=MICRO, query_tokens=6))
    assert len(stage.manifest.golden) < len(golden)
    for pair in stage.manifest.golden:
        assert stage.tokeniser(pair.query, [""], Truncation(allowed=False)).query_tokens <= 6 + 2
    Engine.load(MICRO, Settings(model_dir=MICRO, query_tokens=6))


@pytest.mark.parametrize(
    ("lanes", "batch_tokens", "full"), [(1, 1024, 0), (1, 2048, 1), (3, 1024, 2), (3, 2048, 3)]
)
def test_golden_pairs_are_checked_beside_full_batches(lanes: int, batch_tokens: int, full: int) -> None:
    """A full batch for each lane claims its memory, and the golden pair of 1,268 tokens is one where that is more than a batch."""
    (stage,) = load_stages(MICRO, Settings(model_dir=MICRO))
    model = load_forward(MICRO, Settings(model_dir=MICRO, threads=1))
    seen: list[int] = []

    class Counting(Observed):
        tolerance = model.tolerance

        def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
            seen.append(sum(map(len, batch)))
            return model(batch)

    forward = Counting(lanes)
    engine = Engine(stage.manifest, [stage], [forward], batch_tokens=batch_tokens)
    engine._warm_up(stage, forward)
    golden = [len(ids) for windows in stage.golden for ids in windows.ids]
    assert len(golden) == len(Manifest.read(MICRO).golden)
    per_pair = len(stage.tokeniser("", [""]).ids[0])
    assert sorted(seen) == sorted(golden + [batch_tokens // per_pair * per_pair] * full)

    class Wrong(Counting):
        def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
            return [logit + 0.1 for logit in super().__call__(batch)]

    with pytest.raises(ArtefactError, match="score 0.1, 0.1, 0.1, 0.1 away from the reference"):
        engine._warm_up(stage, Wrong(lanes))


def test_what_litellm_sends_tei_is_judged_by_the_pair() -> None:
    """`truncate: false` with a query above its own 512 tokens, and a document beside which it fits."""
    engine = Engine.load(MICRO, Settings(model_dir=MICRO, query_tokens=16, max_tokens=128))
    tei = {"query": "rain " * 30, "texts": ["clouds and rain", "snow"], "truncate": False, "raw_scores": True}

    def ask(body: dict[str, object]) -> Any:
        call = parse(json.dumps(body).encode(), "application/json")
        return json.loads(engine.answer(call, request_id="id")[0])

    whole = Engine.load(MICRO, Settings(model_dir=MICRO)).score("rain " * 30, ["clouds and rain", "snow"])
    answer = {item["index"]: item["score"] for item in ask(tei)}
    assert [answer[0], answer[1]] == pytest.approx(whole.values, abs=1e-4)
    with pytest.raises(TokenLimitExceeded, match=r"documents\[0\] have 153 tokens together, and 128 fit"):
        ask({**tei, "texts": ["snow " * 120]})
    # vLLM's field, in any dialect, and the characters that were read.
    limited = {"query": "rain", "texts": ["snow " * 200], "truncate_prompt_tokens": 24, "return_spans": True}
    (result,) = ask(limited)
    assert result["relevant_spans"] == [{"start": 0, "end": 20 * 5 - 1, "score": result["score"]}]
    with pytest.raises(InvalidRequest, match="cannot be cut to 2 tokens"):
        ask({**limited, "truncate_prompt_tokens": 2})
