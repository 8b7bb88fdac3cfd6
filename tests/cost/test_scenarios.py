"""Several questions in one file: each row is what the command line says of it alone."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from sagerank.cli import main
from sagerank_cost.options import COLUMNS
from sagerank_cost.scenarios import ANSWER, MOST

from ..conftest import ROOT

FILE = """\
name,rate,documents,p95,model,mode,region,discount
search,0.5,20,1,tiny|turbo,realtime,us-east-1|eu-west-1,5;savings-plan=30
rare,0.001,10,inf,tiny,,us-east-1,
never,0.5,20,0.001,base,realtime,,
"""
ALONE = (
    "--rate 0.5 --documents 20 --p95 1 --model tiny --model turbo --mode realtime --region us-east-1 --region eu-west-1 --discount 5 --discount savings-plan=30",
    "--rate 0.001 --documents 10 --p95 inf --model tiny",
    "--rate 0.5 --documents 20 --p95 0.001 --model base --mode realtime",
)


def answers(
    capsys: pytest.CaptureFixture[str], path: Path, *words: str, code: int = 0
) -> list[dict[str, str]]:
    assert main(["cost", "--scenarios", str(path), "--format", "csv", *words]) == code
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def alone(capsys: pytest.CaptureFixture[str], line: str, *words: str) -> Any:
    main(["cost", *line.split(), *words, "--format", "json"])
    return json.loads(capsys.readouterr().out)


def test_a_row_is_what_its_command_line_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(FILE, encoding="utf-8")
    rows = answers(capsys, path, "--tokens", "100", code=2)
    assert [row["scenario"] for row in rows] == ["search", "rare", "never"]
    for row, line in zip(rows, ALONE, strict=True):
        report = alone(capsys, line, "--tokens", "100")
        assert tuple(row) == ANSWER
        assert row["feasible"] == ("yes" if report["monthly_usd"] else "no")
        if report["monthly_usd"]:
            assert row["USD/month"] == report["monthly_usd"]
            assert row["decision"] in " ".join(report["conclusion"])
            estimate = alone(
                capsys, line, "--tokens", "100", "--confidence", "50",
                "--instance", row["instance"] if row["mode"] == "realtime" else str(1024 * int(row["instance"].split()[1])),
                "--mode", row["mode"],
            )  # fmt: skip
            bill = {line["item"]: line["USD/month"] for line in estimate["tables"]["lines"]["rows"]}
            assert row["USD/month estimate"] <= row["USD/month"]
            if row["decision"] in " ".join(estimate["conclusion"]):
                assert row["USD/month estimate"] == bill["total"]
        else:
            assert row["USD/month"] == row["decision"] == ""
            assert "has a p95 of" in row["why not"]


def test_every_format_has_the_same_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(FILE.replace(",", ";").replace("5;savings", "5|savings"), encoding="utf-8-sig")
    flat = answers(capsys, path, code=2)
    assert main(["cost", "--scenarios", str(path), "--format", "json"]) == 2
    shown = json.loads(capsys.readouterr().out)
    rows = shown["tables"]["scenarios"]["rows"]
    assert [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in rows] == flat
    assert shown["conclusion"] == ["2 of 3 scenarios can be met."]
    for form in ("text", "html"):
        assert main(["cost", "--scenarios", str(path), "--format", form]) == 2
        out = capsys.readouterr().out
        assert all(row["scenario"] in out and row["USD/month"] in out for row in flat), form


def test_a_budget_is_for_each_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(FILE.splitlines()[:3]), encoding="utf-8")
    usd = [float(row["USD/month"]) for row in answers(capsys, path)]
    assert min(usd) < max(usd)
    answers(capsys, path, "--max-monthly", str(max(usd)))
    answers(capsys, path, "--max-monthly", str((min(usd) + max(usd)) / 2), code=1)
    # Data has no known price in us-west-2.
    path.write_text("region,mode,model,instance\nus-west-2,realtime,tiny,ml.g4dn.xlarge\n", encoding="utf-8")
    (row,) = answers(capsys, path, "--max-monthly", "100000", "--rate", "0.1", code=2)
    assert row["feasible"] == "yes"
    assert "data in" in row["not counted"]


def test_a_log_lies_beside_the_file_and_rows_without_a_name_are_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.csv").write_text("time,documents,tokens\n0,10,100\n90,10,100\n", encoding="utf-8")
    path = tmp_path / "rows.csv"
    path.write_text("log,rate,p95\r\nlog.csv,,60\r\n\r\n,0.01,60\r\n", encoding="utf-8")
    first, second = answers(capsys, path, "--model", "tiny")
    assert (first["scenario"], second["scenario"]) == ("line 2", "line 4")
    assert (
        first["USD/month"] == alone(capsys, f"--log {tmp_path}/log.csv --p95 60 --model tiny")["monthly_usd"]
    )
    path.write_text("log,rate,p95\nlog.csv,1,60\n", encoding="utf-8")
    assert main(["cost", "--scenarios", str(path)]) == 2
    assert "rows.csv:2: --log stands in place of --rate" in capsys.readouterr().err


def test_a_name_is_one_line_and_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('name,rate\n"<b>a|b\n\x1b[31mc",0.1\n', encoding="utf-8")
    (row,) = answers(capsys, path, "--model", "tiny")
    assert row["scenario"] == "<b>a|b ?[31mc"
    assert main(["cost", "--scenarios", str(path), "--model", "tiny", "--format", "markdown"]) == 0
    assert "\n| &lt;b>a\\|b ?[31mc | " in capsys.readouterr().out


def test_there_may_be_too_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("rate\n" + "1\n" * (MOST + 1), encoding="utf-8")
    assert main(["cost", "--scenarios", str(path)]) == 2
    assert "has 1,001 rows under its header: give 1 to 1,000" in capsys.readouterr().err


def test_the_page_shows_a_file_that_is_answered_and_the_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/cost.md").read_text(encoding="utf-8")
    shown = re.search(r"test_scenarios.py -->\n```text\n(name,.*?)```", page, re.S)
    assert shown
    (tmp_path / "shops.csv").write_text(shown[1], encoding="utf-8")
    rows = answers(capsys, tmp_path / "shops.csv")
    assert [row["feasible"] for row in rows] == ["yes", "yes"]
    assert f"`{','.join(ANSWER)}`" in page
    assert "all of the table down to `--discount`" in page
    assert COLUMNS[-1] == "discount"


def test_what_only_speed_carries_has_no_month_as_estimated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("rate,documents,p95,mode,model\n5,1000,60,serverless,tiny\n", encoding="utf-8")
    (row,) = answers(capsys, path, "--confidence", "1")
    assert row["feasible"] == "yes"
    assert row["USD/month estimate"] == ""
