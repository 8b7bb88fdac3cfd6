"""The whole measurement of the server on the embedded model."""

from __future__ import annotations

import json

import pytest

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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
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
