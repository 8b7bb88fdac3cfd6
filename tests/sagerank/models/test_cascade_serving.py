"""A cascade in service: the rule for merging scores, the server's answers and counters, and a worker that dies."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagerank.models.build import MICRO
from sagerank_inference.artefact import Manifest
from sagerank_inference.backend import Exchange
from sagerank_inference.batcher import Account
from sagerank_inference.cascade import Rounds, Stage, merge
from sagerank_inference.contract import (
    TokenLimitExceeded,
    Truncation,
    best_first,
)
from sagerank_inference.dialects import sigmoid
from sagerank_inference.engine import Engine
from sagerank_inference.metrics import Metrics
from sagerank_inference.service import Service
from sagerank_inference.settings import Settings
from sagerank_inference.steps import Steps
from sagerank_inference.tokenise import Tokeniser

from ...servers import ScriptedWorker, batcher, running, wait_for, windows
from ...servers import run as run_test
from ..conftest import DOCUMENTS, QUERY

logits = st.floats(-12, 12, width=32)


def distinct(values: Sequence[float]) -> list[str]:
    return [f"document {place}" for place in range(len(values))]


@given(st.lists(logits, min_size=1, max_size=60), st.lists(logits, min_size=1, max_size=20))
def test_merging_keeps_order_and_the_last_models_scores(values: list[float], again: list[float]) -> None:
    best = best_first(values, len(again))
    again = again[: len(best)]
    merged = merge(values, best, again, distinct(values))
    assert [merged[index] for index in best] == again
    rest = [index for index in range(len(values)) if index not in best]
    assert all(merged[index] < min(again) for index in rest)
    for one in rest:
        for other in rest:
            assert (values[one] < values[other]) <= (merged[one] <= merged[other])
            assert (values[one] == values[other]) <= (merged[one] == merged[other])


def test_what_an_answer_shows_is_distinct_after_sigmoid_and_rounding() -> None:
    """80 documents below a best one that the last model finds irrelevant: a shift would round most of them to 0."""
    values = [9.0, *(-0.2 * place for place in range(80))]
    merged = merge(values, [0], [-10.5], distinct(values))
    shown = [round(sigmoid(value), 8) for value in merged]
    assert shown[0] == round(sigmoid(-10.5), 8)
    assert len(set(shown)) == len(shown)
    assert shown == sorted(shown, reverse=True)
    assert merge([5.0, -3.0], [0], [-2.0], ["a", "b"]) == [-2.0, -3.0], "what is below already stays as it is"
    assert all(map(math.isfinite, merge([1e4, 9e3, -9e3], [0], [-1e4], ["a", "b", "c"])))


def test_a_text_too_long_for_any_stage_is_refused_wherever_it_ranks() -> None:
    manifest = Manifest.read(MICRO)
    wide, narrow = (Tokeniser.load(MICRO, query_tokens=8, max_tokens=length) for length in (512, 32))
    stages = [Stage(manifest, wide, None), Stage(manifest, narrow, 1)]
    documents = ["short", "word " * 50]
    with pytest.raises(
        TokenLimitExceeded, match=r"query and documents\[1\] have 5\d tokens together, and 32 fit"
    ):
        Rounds(stages, "a query", documents, Truncation(allowed=False)).read()
    assert len(Rounds(stages, "a query", documents, Truncation()).read().ids) == 2


@pytest.mark.parametrize("megabytes", ["0", "1"])
def test_the_server_ranks_as_the_engine_and_counts_by_model(folder: Path, megabytes: str) -> None:
    # So few tokens that most documents are several windows, and one golden pair is, which cannot be compared.
    settings: dict[str, Any] = {"SAGERANK_MODEL_DIR": str(folder), "SAGERANK_GOLDEN_SECONDS": "0.2"}
    settings |= {"SAGERANK_MAX_TOKENS": "56", "SAGERANK_QUERY_TOKENS": "24", "SAGERANK_OVERLAP_TOKENS": "8"}
    expected = Engine.load(folder, Settings.from_env(settings))
    assert [len(stage.manifest.golden) for stage in expected.stages] == [3, 3]
    with running(**settings, SAGERANK_CACHE_MB=megabytes) as server:
        wait_for(lambda: server.ping() == 200)

        def ask(number: int) -> tuple[list[str], list[dict[str, float]]]:
            documents = DOCUMENTS[number % 5 :]
            body = json.dumps({"query": QUERY, "texts": documents, "raw_scores": True})
            code, answer = server.post(body.encode())
            assert code == 200
            return documents, answer

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(24)))
        for documents, answer in answers:
            values = expected.score(QUERY, documents).values
            assert [item["index"] for item in answer] == best_first(values, None)
            assert [item["score"] for item in answer] == pytest.approx(sorted(values, reverse=True), abs=1e-4)
        # What `sagerank verify` asks for: a lone document has the last model's score.
        pair = Manifest.read(folder).golden[0]
        body = json.dumps({"query": pair.query, "texts": [pair.document], "raw_scores": True}).encode()
        assert server.post(body)[1][0]["score"] == pytest.approx(pair.logit, abs=1e-3)
        metrics = server.call("GET", "/metrics")[1]
        scored = sum(len(documents) for documents, _ in answers) + 1
        again = sum(min(3, len(documents)) for documents, _ in answers) + 1
        assert f'sagerank_model_documents_total{{model="sagerank-micro",position="0"}} {scored}.0' in metrics
        assert f'position="1"}} {again}.0' in metrics
        assert server.ping() == 200, "the golden pairs of both models, again and again"
        entries = [entry for entry in server.stop() if entry["event"] == "request"]
        assert all(len(entry["stages"]) == 2 for entry in entries)
        assert any("cached" in entry for entry in entries) == (megabytes != "0")


def test_a_worker_that_dies_between_two_stages_is_replaced_and_the_request_answered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(model_dir=folder, threads=1)
    expected = Engine.load(folder, settings).score(QUERY, DOCUMENTS).values
    body = json.dumps({"query": QUERY, "texts": DOCUMENTS, "raw_scores": True}).encode()
    prepare, prepared = Service._prepare, list[int]()

    def killing(self: Service, exchange: Exchange, **options: bool) -> Steps[Any]:
        prepared.append(len(prepared))
        if len(prepared) == 2:  # what the second model has to score
            assert service._worker.pid is not None
            os.kill(service._worker.pid, signal.SIGKILL)
        return prepare(self, exchange, **options)

    monkeypatch.setattr(Service, "_prepare", killing)
    service = Service(settings, Metrics())

    async def ask() -> list[float]:
        exchange = Exchange({}, "/invocations", "an id", deadline=time.monotonic() + 30)
        exchange.take(body)
        answer = json.loads((await service.rerank(exchange)).body)
        return [item["score"] for item in sorted(answer, key=lambda item: item["index"])]

    async def test() -> None:
        failures: list[str] = []
        running = asyncio.create_task(service.run(lambda: failures.append("failed")))
        while service.state != "ready":
            await asyncio.sleep(0.01)
        first = service._worker.pid
        assert await ask() == pytest.approx(expected, abs=1e-4)
        assert service._worker.pid != first
        assert await ask() == pytest.approx(expected, abs=1e-4)
        assert (len(prepared), failures) == (4, [])
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_test(test)


def test_a_batch_is_of_one_model_and_a_request_is_admitted_once() -> None:
    async def test() -> None:
        own, other = ScriptedWorker(held=True), ScriptedWorker()
        it = batcher(own, max_queue_tokens=30)
        waiting = [asyncio.create_task(it.score(windows(10), timeout=9)) for _ in range(3)]
        await asyncio.sleep(0)
        # The queue is full, but this request is here already.
        account = Account(admitted_at=0, served=100)
        later = asyncio.create_task(it.score(windows(10, 20, 10), timeout=9, run=other, account=account))
        await asyncio.sleep(0)
        own.gate.set()
        assert (await later)[0] == [10.0, 20.0, 10.0]
        await asyncio.gather(*waiting)
        assert sorted(length for batch in own.batches for length in batch) == [10, 10, 10]
        assert sorted(length for batch in other.batches for length in batch) == [10, 10, 20]
        assert account.served == 100 + 40

    run_test(test)
