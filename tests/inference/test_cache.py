"""Scores that are kept: the same floats, within their memory, and never those of golden pairs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import math
import os
import random
import signal
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from sagerank.models.build import MICRO
from sagerank_inference import cache as cache_module
from sagerank_inference.cache import Lookup, ScoreCache
from sagerank_inference.engine import Engine, Forward, load_forward
from sagerank_inference.metrics import Metrics
from sagerank_inference.service import Service
from sagerank_inference.settings import Settings, SettingsError

from ..servers import BODY, run, running, wait_for

QUERY = "what causes rain"
DOCUMENTS = [
    "Clouds cool, water vapour condenses into drops, and rain falls.",
    "A cat sleeps on the sofa.",
    "",
    "Rain forms when moist air rises and cools. " * 40,
    "The market fell. " * 250,
]


class Counted:
    """A model, and the pairs that it was asked to score."""

    def __init__(self, forward: Forward) -> None:
        self.forward, self.tolerance, self.lanes = forward, forward.tolerance, forward.lanes
        self.pairs: list[tuple[int, ...]] = []

    def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
        self.pairs += map(tuple, batch)
        return self.forward(batch)


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """micro with int8 products. Its golden pairs are those of float32."""
    from sagerank.models.quantise import quantise

    folder = tmp_path_factory.mktemp("int8")
    quantise(MICRO, folder, [[5, 6, 7, 8]])
    return folder


@pytest.fixture(params=["fp32", "int8"])
def pair_of_engines(request: pytest.FixtureRequest, micro: Engine) -> tuple[Engine, Engine, Counted]:
    """One without a cache, one with, and the model of the latter, which has counted nothing yet."""
    forward = micro.forward
    if request.param == "int8":
        forward = load_forward(request.getfixturevalue("int8"), Settings(model_dir=MICRO))
    counted = Counted(forward)
    plain = Engine(micro.manifest, micro.stages, [forward], batch_tokens=256)
    return (
        plain,
        Engine(micro.manifest, micro.stages, [counted], batch_tokens=256, cache=ScoreCache(1)),
        counted,
    )


def test_what_is_kept_is_the_same_float() -> None:
    cache = ScoreCache(1)
    logits = [0.1, -0.0, 1e-320, 1.7e308, -3.4028234663852886e38, math.pi]
    for number, logit in enumerate(logits):
        key = cache.hash([number], 0)
        assert cache.get(key) is None
        cache.put(key, logit)
        cache.put(key, 7.0)  # what is held stays
    for number, logit in enumerate(logits):
        found = cache.get(cache.hash([number], 0))
        assert found is not None
        assert found.hex() == logit.hex()
    for number, nothing in enumerate([math.nan, math.inf, -math.inf], 100):
        cache.put(cache.hash([number], 0), nothing)
        assert cache.get(cache.hash([number], 0)) is None
    assert cache.pairs == len(logits)


def test_a_key_is_of_all_tokens_their_number_and_the_model_and_of_one_process() -> None:
    cache, other = ScoreCache(1), ScoreCache(1)
    pairs = [[1, 2], [1, 2, 0], [2, 1], [1], [258], [1, 2 << 8], [0, 1, 2]]
    keys = {cache.hash(pair, model) for pair in pairs for model in range(3)}
    assert len(keys) == 3 * len(pairs)
    assert keys.isdisjoint(other.hash(pair, model) for pair in pairs for model in range(3))


def test_memory_is_what_the_setting_says_and_the_pairs_asked_for_last_stay() -> None:
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    cache = ScoreCache(2)
    taken = tracemalloc.get_traced_memory()[0] - before
    assert 1_990_000 < taken < 2_001_000
    hot = [cache.hash([-number], 0) for number in range(500)]
    for number, key in enumerate(hot):
        cache.put(key, float(number))
    for number in range(300_000):
        cache.put(cache.hash([number], 1), 1.0)
        if number % 5000 == 0:
            assert [cache.get(key) for key in hot] == list(map(float, range(500)))
    grown = tracemalloc.get_traced_memory()[0] - before - taken
    tracemalloc.stop()
    assert grown < 100_000, "the keys of this test, and nothing for each pair"
    assert 80_000 < cache.pairs <= 2_000_000 // 24
    assert cache.get(cache.hash([0], 1)) is None, "the oldest made way"
    assert cache.get(cache.hash([299_999], 1)) == 1.0


def test_what_was_asked_before_all_is_forgotten_is_not_found_after() -> None:
    cache = ScoreCache(1)
    early = Lookup(cache, 0)
    early.add([[1], [2]])
    cache.clear()
    assert early.complete([1.0, 2.0]) == [1.0, 2.0]
    later = Lookup(cache, 0)
    later.add([[1], [2]])
    assert later.known == 0


def test_threads_find_no_other_pairs_score() -> None:
    cache = ScoreCache(1)  # full after a fifth of them

    def work(seed: int) -> int:
        chance, known = random.Random(seed), 0
        for _ in range(300):
            numbers = [int(chance.paretovariate(0.3)) % 200_000 for _ in range(20)]
            lookup = Lookup(cache, 0)
            lookup.add([[number] for number in numbers])
            known += lookup.known
            logits = lookup.complete([float(pair[0]) for pair in lookup.missing])
            assert logits == list(map(float, numbers))
        return known

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert min(pool.map(work, range(8))) > 0
    assert cache.pairs <= 1_000_000 // 24


def test_without_a_cache_every_pair_is_missing() -> None:
    lookup = Lookup(None, 0)
    lookup.add([[1], [1]])
    assert (lookup.missing, lookup.known) == ([[1], [1]], 0)
    assert lookup.complete([1.0, 2.0]) == [1.0, 2.0]


def test_a_kept_score_is_the_one_computed_whatever_stands_beside_it(
    pair_of_engines: tuple[Engine, Engine, Counted],
) -> None:
    plain, cached, model = pair_of_engines
    first = cached.score(QUERY, DOCUMENTS).values
    assert first == plain.score(QUERY, DOCUMENTS).values
    computed = len(model.pairs)
    assert cached.score(QUERY, DOCUMENTS).values == first
    assert len(model.pairs) == computed, "nothing was computed again"
    # In another order, among others that are not known.
    others = [f"document {number} of another company" for number in range(9)]
    mixed = [*others[:4], DOCUMENTS[3], *others[4:], DOCUMENTS[0], DOCUMENTS[2]]
    values = cached.score(QUERY, mixed).values
    assert [values[4], values[10], values[11]] == [first[3], first[0], first[2]]
    assert len(model.pairs) == computed + len(others)
    assert values == pytest.approx(plain.score(QUERY, mixed).values, abs=1e-5)
    # Another query's pairs are others.
    assert cached.score("cats", DOCUMENTS).values == pytest.approx(
        plain.score("cats", DOCUMENTS).values, abs=1e-5
    )
    assert len(model.pairs) == 2 * computed + len(others)


def test_equal_documents_are_computed_once(pair_of_engines: tuple[Engine, Engine, Counted]) -> None:
    _, cached, model = pair_of_engines
    values = cached.score(QUERY, [DOCUMENTS[0], DOCUMENTS[1], DOCUMENTS[0], DOCUMENTS[0]]).values
    assert values[0] == values[2] == values[3] != values[1]
    assert len(model.pairs) == 2


def test_windows_are_kept_one_by_one(int8: Path) -> None:
    """A document that has grown at its end is computed from where it differs."""
    settings = Settings(model_dir=MICRO, max_tokens=64, query_tokens=16, overlap_tokens=8)
    plain = Engine.load(MICRO, settings)
    model = Counted(plain.forward)
    cached = Engine(plain.manifest, plain.stages, [model], batch_tokens=256, cache=ScoreCache(1))
    words = [f"word{number}" for number in range(200)]
    assert cached.score(QUERY, [" ".join(words)]).values == plain.score(QUERY, [" ".join(words)]).values
    windows = len(model.pairs)
    assert windows > 5
    longer = " ".join([*words, "and", "more", "words"] * 2)
    found = cached.score(QUERY, [longer], spans=True)
    expected = plain.score(QUERY, [longer], spans=True)
    again = len(model.pairs) - windows
    whole = len(plain.stages[0].tokeniser(QUERY, [longer]).ids)
    assert again < whole, "those at its beginning were known"
    assert found.values == pytest.approx(expected.values, abs=1e-5)
    assert found.spans == expected.spans


def poison(cache: ScoreCache, engine: Engine) -> None:
    """Keep a wrong score for every golden pair."""
    for pair in engine.manifest.golden:
        lookup = Lookup(cache, 0)
        lookup.add(engine.tokeniser(pair.query, [pair.document]).ids)
        lookup.complete([9.0] * len(lookup.missing))


def test_golden_pairs_are_computed_whatever_the_cache_says() -> None:
    engine = Engine.load(MICRO, Settings(model_dir=MICRO, cache_mb=1))
    assert engine.cache is not None
    assert engine.cache.pairs == 0, "what was checked at the start is not kept"
    poison(engine.cache, engine)
    pair = engine.manifest.golden[0]
    assert engine.score(pair.query, [pair.document]).values == (9.0,)
    engine.check_golden()
    assert Engine.load(MICRO, Settings(model_dir=MICRO)).cache is None


def test_the_services_check_is_past_the_cache_and_a_new_worker_begins_without(micro: Engine) -> None:
    async def test() -> None:
        metrics = Metrics()
        service = Service(Settings(model_dir=MICRO, golden_seconds=0.05, cache_mb=1), metrics)
        under_way = asyncio.create_task(service.run(lambda: None))
        try:
            while service.state != "ready":
                await asyncio.sleep(0.01)
            cache = service._cache
            assert cache is not None
            assert cache.pairs == 0
            poison(cache, micro)
            held = cache.pairs
            assert held == len(micro.manifest.golden)
            while b"sagerank_batch_pairs_count 0.0" in metrics.render():
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            assert service.state == "ready", "no drift was seen in scores that are wrong"
            assert cache.pairs == held
            pid = service._worker.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            while service._worker.pid in (pid, None) or service.state != "ready":
                await asyncio.sleep(0.01)
            assert cache.pairs == 0
        finally:
            under_way.cancel()
            with suppress(asyncio.CancelledError):
                await under_way

    run(test)


def test_a_server_says_what_it_knew_in_metrics_and_log(micro: Engine) -> None:
    with running(SAGERANK_CACHE_MB="4", SAGERANK_GOLDEN_SECONDS="0.1") as server:
        server.wait_until_ready()

        def metric(name: str) -> float:
            lines = server.call("GET", "/metrics")[1].splitlines()
            return next(float(line.split()[1]) for line in lines if line.startswith(f"sagerank_{name} "))

        assert metric("cache_pairs") == 0, "golden pairs are not kept"
        first, second = server.post()[1], server.post()[1]
        assert first["results"] == second["results"]
        assert (metric("cache_hits_total"), metric("cache_misses_total"), metric("cache_pairs")) == (2, 2, 2)
        # A batch transform's lines, one known, one new, one twice.
        known = json.loads(BODY)
        lines = [known, {"query": "cats", "documents": ["A cat sleeps.", "A cat sleeps."]}]
        body = "\n".join(map(json.dumps, lines)).encode()
        code, answers = server.post(body, content_type="application/jsonlines")
        assert code == 200
        assert answers[0]["results"] == first["results"]
        assert (metric("cache_hits_total"), metric("cache_misses_total"), metric("cache_pairs")) == (5, 3, 3)
        scores = {item["index"]: item["relevance_score"] for item in answers[1]["results"]}
        assert scores[0] == scores[1]

        # Many at once, of which some repeat: as the engine alone.
        def ask(number: int) -> tuple[int, list[float]]:
            documents = [f"document {number % 7} " + "word " * (number % 7), "shared", f"{number}" * 300]
            body = {"query": f"query {number % 7}", "texts": documents, "raw_scores": True}
            code, answer = server.post(json.dumps(body).encode())
            assert code == 200
            return number, [item["score"] for item in sorted(answer, key=lambda item: item["index"])]

        clients = 8
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            together = list(pool.map(ask, range(64)))
        for number, found in together:
            documents = [f"document {number % 7} " + "word " * (number % 7), "shared", f"{number}" * 300]
            expected = micro.score(f"query {number % 7}", documents).values
            assert found == pytest.approx(expected, abs=1e-4)
        # Two pairs of each are one of seven; those who ask before the first is answered all compute it.
        assert metric("cache_hits_total") >= 2 * (64 - 7 * clients) + 5
        assert metric("cache_hits_total") + metric("cache_misses_total") == 3 * 64 + 8
        wait_for(lambda: metric("queued_tokens") == 0)
        assert server.ping() == 200
        entries = [entry for entry in server.stop() if entry["event"] == "request"]
    assert [entry.get("cached") for entry in entries[:3]] == [None, 2, 3]
    assert "rain" not in json.dumps(entries)


def test_without_the_setting_nothing_is_kept() -> None:
    with running() as server:
        server.wait_until_ready()
        assert server.post()[1]["results"] == server.post()[1]["results"]
        text = server.call("GET", "/metrics")[1]
        assert "sagerank_cache_hits_total 0.0" in text
        assert "sagerank_cache_misses_total 0.0" in text
        assert not any("cached" in entry for entry in server.stop())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-1", "SAGERANK_CACHE_MB is -1: give 0 or a positive number."),
        ("4097", "SAGERANK_CACHE_MB is 4097: give at most 4096."),
        ("1e3", "give a whole number"),
        ("32MB", "give a whole number"),
        ("nan", "give a whole number"),
        ("٣٢", "give a whole number"),
        ("9" * 40, "give a whole number"),
        ("", "SAGERANK_CACHE_MB is empty"),
        (" ", "give a whole number"),
    ],
)
def test_a_size_that_is_none_is_refused_in_a_sentence(text: str, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"SAGERANK_CACHE_MB": text})
    assert reason in str(caught.value)


def test_sizes_from_none_to_the_largest_are_taken() -> None:
    assert Settings.from_env({}).cache_mb == 0
    for text in ("0", "1", "32", "4096"):
        assert Settings.from_env({"SAGERANK_CACHE_MB": text}).cache_mb == int(text)


def test_all_is_forgotten_without_memory_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's process may have died of having none, and the server would end with it, or answer 503 for ever."""
    cache = ScoreCache(1)
    cache.put(cache.hash([1], 0), 1.0)
    monkeypatch.setattr(cache_module, "bytearray", lambda *_: pytest.fail("it takes memory"), raising=False)
    cache.clear()
    assert cache.pairs == 0
    assert cache.get(cache.hash([1], 0)) is None
    for number in range(2_000):
        cache.put(cache.hash([number], 0), number)
    assert cache.pairs == 2_000
    assert cache.get(cache.hash([7], 0)) == 7.0


def test_memory_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(size: int = 0) -> bytearray:
        if size:
            raise MemoryError
        return bytearray()

    monkeypatch.setattr(cache_module, "bytearray", refuse, raising=False)
    with pytest.raises(SettingsError, match="SAGERANK_CACHE_MB is 32, and there is not so much memory here"):
        Engine.load(MICRO, Settings(model_dir=MICRO, cache_mb=32))
