"""Timing an endpoint, whose speed then takes the place of the estimate."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagerank.cli import main
from sagerank.models.build import MICRO
from sagerank.models.local_server import serving
from sagerank_cost.throughput import measurements


def test_an_endpoint_is_timed_and_its_speed_kept(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with serving(MICRO) as server:
        command = ["cost", "measure", "--endpoint", "reranker", "--endpoint-url", server.url]
        command += ["--instance", "ml.c7i.large", "--model", "micro", "--documents", "5", "--tokens", "60"]
        command += ["--data", str(folder)]
        assert main(command) == 0
    assert "documents per 50 ms" in capsys.readouterr().out
    found = next(row for row in measurements(folder) if row.instance == "ml.c7i.large")
    assert (found.model, found.precision, found.documents, found.kind) == ("micro", "fp32", 5, "measured")
    assert 40 < found.tokens < 90
    compared = [
        "compare",
        "--model",
        "micro",
        "--instance",
        "ml.c7i.large",
        "--p95",
        "inf",
        "--rate",
        "0.001",
    ]
    assert main(["cost", *compared, "--data", str(folder)]) == 0
    assert "measured" in capsys.readouterr().out


def test_measuring_needs_to_know_what_it_measures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "measure", "--endpoint", "x", "--data", str(folder)]) == 2
    assert "--instance TYPE and --model NAME once" in capsys.readouterr().err
