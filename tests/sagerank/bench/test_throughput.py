"""What throughput says in words."""

from __future__ import annotations

from typing import Any

from sagerank.bench.throughput import Row, label, sentences


def row(name: str, speed: float, model: str = "m", **more: Any) -> Row:
    return Row(name=name, model=model, docs_per_second=20 * speed, docs_per_50_ms=speed, **more)


def test_the_fastest_comes_first_and_by_how_much() -> None:
    ours = row("sagerank", 20.0, ratio_to_sagerank=1.0, spread=(1.0, 1.0))
    slower = row("peer", 5.0, ratio_to_sagerank=0.25, spread=(0.2, 0.5))
    faster = row("other", 40.0, ratio_to_sagerank=2.0, spread=(1.9, 2.1))
    missing = Row(name="third", model="m", error="it cannot be installed.")
    assert sentences([ours, slower, missing]) == [
        "sagerank is the fastest: 20.0 documents per 50 ms.",
        "sagerank is 4.00x as fast as peer (2.00 to 5.00).",
        "not timed: third: it cannot be installed.",
    ]
    assert sentences([ours, faster]) == [
        "other is the fastest: 40.0 documents per 50 ms.",
        "other is 2.00x as fast as sagerank (1.90 to 2.10).",
    ]


def test_models_have_their_names_and_peers_the_programs() -> None:
    tiny, turbo, peer = row("sagerank", 3.0, "tiny"), row("sagerank", 2.0, "turbo"), row("peer", 1.0, "tiny")
    assert sentences([tiny]) == ["tiny: 3.0 documents per 50 ms."]
    assert [label(each, [tiny, turbo]) for each in (tiny, turbo)] == ["tiny", "turbo"]
    assert [label(each, [tiny, peer]) for each in (tiny, peer)] == ["sagerank", "peer"]
    assert label(turbo, [tiny, turbo, peer]) == "sagerank, turbo"
