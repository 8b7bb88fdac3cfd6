"""The batch size that a peer runs with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from sagerank.bench.peers import runner

Tried = tuple[Callable[..., runner.Peer], list[int]]


@pytest.fixture
def slow_batches() -> Tried:
    tried: list[int] = []

    def score(query: str, documents: list[str], batch: int) -> list[float]:
        tried.append(batch)
        return [0.0] * len(documents)

    def tokenise(query: str, document: str) -> list[int]:
        return [0] * len(document)

    peer = partial(runner.Peer, tokenise=tokenise, score=score, batches=(8, 16, 32, 64), heads=12)
    return peer, tried


def test_a_batch_size_is_chosen_once_for_a_workload(slow_batches: Tried) -> None:
    make, tried = slow_batches
    assert (make(tune=False).batch("q", ["d"] * 100), tried) == (8, [])  # the library's own
    peer = make(tune=True)
    first = peer.batch("q", ["d"] * 100)
    assert tried == [8, 8, 16, 32, 64]  # the first of all is slower than any other
    assert peer.batch("q", ["d"] * 100) == first
    assert len(tried) == 5
    assert peer.batch("q", ["d"] * 5) == 8  # every size holds them all: nothing to try
    assert len(tried) == 5


def test_long_documents_get_the_batch_that_memory_allows(
    slow_batches: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, tried = slow_batches
    peer = make(tune=True)
    monkeypatch.setattr(runner, "_free_memory", lambda: 16 * 2**30)
    assert peer.batch("q", ["d" * 4096] * 20) == 3  # 2.4 GB each
    assert peer.batch("q", ["d" * 60000] * 20) == 1
    assert tried == []
