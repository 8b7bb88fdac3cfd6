"""What throughput says in words."""

from __future__ import annotations

from sagerank.bench.throughput import Row, sentences


def test_the_sentences_say_who_is_faster_and_why_a_row_is_empty() -> None:
    rows = [
        Row(name="sagerank", model="m", ratio_to_sagerank=1.0, spread=(1.0, 1.0)),
        Row(name="peer", model="m", ratio_to_sagerank=0.25, spread=(0.2, 0.5)),
        Row(name="other", model="m", error="it cannot be installed."),
    ]
    assert sentences(rows) == [
        "sagerank is 4.00x as fast as peer (2.00 to 5.00)",
        "not timed: other: it cannot be installed.",
    ]
