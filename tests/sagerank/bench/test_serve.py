"""The whole measurement of the server on the embedded model."""

from __future__ import annotations

import json

import pytest

from sagerank.bench.repeated import draw
from sagerank.cli import main


def test_the_measurement_on_the_embedded_model(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = "--documents 2 --clients 1 4 --rounds 1 --stretch 0.2 --seconds 2 --long-documents 2 --long-tokens 600"
    assert main(["bench", "serve", *sizes.split(), "--no-toolkit", "--json"]) == 0
    shown = capsys.readouterr()
    rows = json.loads(shown.out)
    assert [(row["name"], row["load"], row["clients"]) for row in rows] == [
        ("engine", "offline", 1),
        ("sagerank", "closed", 1),
        ("sagerank", "closed", 4),
        ("sagerank", "open, 80%", None),
        ("sagerank", "open, 20%", None),
        ("sagerank", "open, 20%, beside a long request", None),
        ("sagerank", "one request of 2 x 600 tokens", 1),
    ]
    for row in rows:
        assert [row[name] for name in ("lost", "duplicated", "wrong", "errors", "error")] == [
            0,
            0,
            0,
            0,
            None,
        ]
        assert row["requests"] > 0 or row["load"].startswith("open, 20%"), (
            "few come at a fifth of the capacity"
        )
    for row in rows[1:3]:
        assert row["share_of_offline"] > 0
        assert row["cpu_ms_per_document"] > 0
        assert row["rss_mb"] > 60, "front and model"
        assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert rows[1]["overhead_ms"] is not None
    assert "every answer compared with the engine's scores" in shown.err
    assert "load average" in shown.err


def test_a_log_is_the_same_each_time_and_repeats_as_its_exponent_says() -> None:
    assert draw(1.0, 500) == draw(1.0, 500)
    different = [len(set(draw(exponent, 2000))) for exponent in (0.0, 0.7, 1.0, 1.5)]
    assert different == sorted(different, reverse=True)
    assert 0.6 < different[0] / 2000 < 0.66, "of as many alike, 1 - 1/e"
    ranks = draw(1.0, 20_000)
    assert ranks.count(0) == pytest.approx(2 * ranks.count(1), rel=0.1)
    assert max(ranks) < 20_000


def test_what_repeats_is_known_and_every_answer_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = "--zipf --documents 3 --rounds 2 --stretch 2"  # on a busy machine, too, something is asked twice
    assert main(["bench", "serve", *sizes.split(), "--json"]) == 0
    shown = capsys.readouterr()
    without, kept = json.loads(shown.out)
    assert (without["hit_rate"], without["ratio"], without["name"]) == (0.0, 1.0, "sagerank")
    # Clients that ask for the same at once all compute it. Pairs are counted, of which requests need not have equally many.
    assert 0 < kept["hit_rate"] <= 1 - kept["different"] / kept["requests"] + 0.05
    assert kept["ratio"] > 0
    for row in (without, kept):
        assert row["requests"] >= row["different"] > 1
        assert [row[name] for name in ("lost", "duplicated", "wrong", "errors")] == [0, 0, 0, 0]
    assert kept["rss_mb"] > without["rss_mb"] + 25, "the table is taken at once"
    assert "exponent 1; every answer compared" in shown.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--zipf -1", "--zipf is -1: give 0 (all alike) to 10"),
        ("--zipf nan", "--zipf is nan"),
        ("--documents 37", "at most 36 --documents"),
        ("--load 0", "--load is 0.0: give more than 0"),
        ("--clients 0", "--clients of at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(
    arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "serve", *arguments.split()]) == 2
    assert sentence in capsys.readouterr().err
