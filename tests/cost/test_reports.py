"""Reports against golden files, and what they say."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from sagerank.cli import main
from sagerank_cost.catalogue import Catalogue

from .. import golden
from ..conftest import ROOT
from .conftest import FEW

GOLDEN = Path(__file__).parent / "golden"


COMMANDS = {
    "report": ["report", *FEW, "--rate", "0.2"],
    "explained": ["report", *FEW, "--explain"],
    "report.md": ["report", *FEW, "--format", "markdown"],
    "fit": ["fit", "--model", "base", "--region", "eu-south-1"],
    "fit-models": ["fit", "--model", "base", "--model", "tiny>base@20", "--model", "tiny"],
    "compare": [
        "compare",
        *FEW,
        "--model",
        "tiny>base@20",
        "--precision",
        "int8",
        "--rate",
        "0.1",
        "--p95",
        "5",
    ],
    "simulate": ["simulate", *FEW, "--rate", "0.2", "--minutes", "3000", "--seed", "7"],
    "breakeven": ["breakeven", *FEW, "--rate", "0.2"],
}


@pytest.mark.usefixtures("same_day")
@pytest.mark.parametrize("name", COMMANDS)
def test_reports_are_golden(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["cost", *COMMANDS[name]]) == 0
    shown = capsys.readouterr().out
    golden.check(shown, GOLDEN / (name if "." in name else f"{name}.txt"))
    if "." not in name:
        longer = [line for line in shown.splitlines() if len(line) > 80]
        assert all(len(line.split()) == 1 for line in longer), longer


@pytest.mark.usefixtures("same_day")
def test_a_pipe_gets_a_line_for_each_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `grep` and `sort` need, with every column."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["cost", "compare", *FEW, "--rate", "0.1", "--p95", "5"]) == 0
    shown = capsys.readouterr().out
    golden.check(shown, GOLDEN / "compare-pipe.txt")
    assert "utilisation" in shown
    assert max(map(len, shown.splitlines())) > 120


def test_the_answer_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    for command, answer in {
        "report": "Run ",
        "compare": "Deployments that meet the limits (p95 at most 1 s): ",
        "breakeven": "requests a day (525,600 a month) cost",
        "fit": "types hold it",
    }.items():
        few = [] if command == "fit" else [*FEW, "--rate", "0.2"]
        assert main(["cost", command, *few]) == 0
        first, *_ = capsys.readouterr().out.splitlines()
        assert answer in first
    assert main(["cost", *FEW, "--rate", "0.01"]) == 0
    assert "The cheapest service billed by use costs less" in capsys.readouterr().out


def test_old_prices_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Catalogue, "age_days", lambda *_: 91)
    assert main(["cost", "fit", "--model", "micro"]) == 0
    assert (
        "WARNING: these prices are older than 90 days: run `sagerank cost refresh`."
        in capsys.readouterr().out
    )


def test_serverless_memory_and_all_regions_may_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    serverless = ["compare", "--mode", "serverless", "--instance", "4096"]
    serverless += ["--rate", "0.01", "--p95", "inf", "--model", "tiny"]
    assert main(["cost", *serverless, "--region", "all", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["tables"]["deployments"]["rows"]
    assert len({row["region"] for row in rows}) > 10
    assert all(row["on"] == "fp32 serverless 4 GB" for row in rows)


def test_where_it_fits_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "fit", "--region", "eu-south-1", "--explain"]) == 0
    shown = capsys.readouterr().out
    assert "Peak memory of one model process" in shown
    assert "USD/hour: price of 2026-09-22" in shown


def test_the_page_shows_what_the_command_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the last lines: the age of the prices changes every day."""
    page = (ROOT / "docs/cost.md").read_text(encoding="utf-8")
    ((command, shown),) = re.findall(
        r"```sh\nsagerank (cost[^\n]*)\n```\n\n<!-- .+? -->\n```text\n(.*?)\n```", page, re.S
    )
    monkeypatch.setenv("COLUMNS", "80")
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out.startswith(f"{shown}\nHosting prices of ")
