"""Reports in all forms: against golden files, in a browser, and from the command line."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import shutil
import subprocess
import threading
from decimal import Decimal
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sagerank_cost import CostError
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.commands import WHAT
from sagerank_cost.decide import Question
from sagerank_cost.models import choice
from sagerank_cost.render import FORMATS, render
from sagerank_cost.report import decision_report
from sagerank_cost.sheet import Report
from sagerank_cost.traffic import daily

from sagerank.cli import main

from ..conftest import run_python

GOLDEN = Path(__file__).parent / "golden"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FEW = ["--instance", "ml.c7i.4xlarge", "--instance", "ml.g4dn.xlarge", "--instance", "ml.m5.xlarge"]


@pytest.fixture(autouse=True)
def _same_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """The age of the prices would change every day."""
    monkeypatch.setattr(Catalogue, "age_days", lambda self, today=None: 64)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def report() -> Report:
    asked = Question(
        daily(0.5),
        tuple(map(choice, ("turbo", "tiny", "base"))),
        ("fp32", "bf16"),
        ("realtime", "serverless"),
        ("us-east-1",),
        ("ml.c7i.4xlarge", "ml.g4dn.xlarge", "ml.m5.xlarge"),
        p95_seconds=1.0,
    )
    return decision_report(asked, Catalogue())


COMMANDS = {
    "report": ["report", *FEW, "--explain"],
    "report.md": ["report", *FEW, "--format", "markdown"],
    "fit": ["fit", "--model", "base", "--region", "eu-south-1"],
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


@pytest.mark.parametrize("name", COMMANDS)
def test_reports_are_golden(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`UPDATE_GOLDEN=1 pytest tests/test_cost_report.py` writes them again: look at the diff then."""
    assert main(["cost", *COMMANDS[name]]) == 0
    shown = capsys.readouterr().out
    path = GOLDEN / (name if "." in name else f"{name}.txt")
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(shown)
    assert shown == path.read_text()


def test_the_bills_lines_add_up_in_every_form(report: Report) -> None:
    rows = json.loads(render(report, "json"))["tables"]["lines"]["rows"]
    *items, last = (Decimal(row["USD/month"]) for row in rows)
    assert sum(items) == last == Decimal(json.loads(render(report, "json"))["monthly_usd"])
    read = [row for row in csv.reader(io.StringIO(render(report, "csv"))) if row[0] == "lines"]
    *items, last = (Decimal(row[5]) for row in read)
    assert sum(items) == last
    for row in rows[:-1]:
        assert round(Decimal(row["quantity"]) * Decimal(row["USD each"]), 1) == round(
            Decimal(row["USD/month"]), 1
        )


def test_the_announcement_is_stated_exactly(report: Report) -> None:
    text = render(report, "text")
    assert "72.5% and 12.5%" in text
    assert "75 % less memory for Turbo than for Base, and 13 % less for Tiny than for Turbo" in text
    assert "of the whole process" in text
    assert "measured peaks" in text


def test_every_bill_is_explained(report: Report) -> None:
    text = render(report, "json", explain=True)
    explained = json.loads(text)["explained"]
    assert sum("GFLOP at" in line for line in explained) >= 2
    assert sum("AWS bulk offer" in line for line in explained) >= 2
    assert "explained" not in json.loads(render(report, "json"))


def test_old_prices_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Catalogue, "age_days", lambda self, today=None: 91)
    assert main(["cost", "fit", "--model", "micro"]) == 0
    assert (
        "WARNING: these prices are older than 90 days: run `sagerank cost refresh`."
        in capsys.readouterr().out
    )


def test_without_a_subcommand_it_is_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", *FEW, "--rate", "0.5", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {row["model"] for row in shown["tables"]["comparison"]["rows"]} == {"turbo", "tiny", "base"}
    assert {row["on"] for row in shown["tables"]["comparison"]["rows"]} == {"CPU", "GPU", "serverless"}
    assert main(["cost", "--rate", "0.5", "report", *FEW, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == shown


def test_the_folder_is_a_command_too() -> None:
    code = "from sagerank_cost.__main__ import main; import sys; sys.exit(main(['report', '--region', 'us-est-1']))"
    done = run_python(code)
    assert done.returncode == 2
    assert done.stderr.startswith("cost: There is no region with known prices 'us-est-1'")


def test_the_default_report_loads_little() -> None:
    heavy = [
        "torch",
        "onnxruntime",
        "matplotlib",
        "boto3",
        "scipy",
        "hypothesis",
        "sagerank_cost.simulate",
        "sagerank_cost.refresh",
    ]
    code = f"import sys; from sagerank.cli import main; main(['cost']); print([name for name in {heavy!r} if name in sys.modules])"
    done = run_python(code)
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stderr
    light = "import sys, sagerank_cost.commands, sagerank_cost.memory, sagerank_cost.catalogue; print([name for name in ('numpy', 'rich') if name in sys.modules])"
    assert run_python(light).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--region", "eu-west-9"], "did you mean eu-west-"),
        (["--instance", "ml.c7i.big"], "did you mean ml.c7i."),
        (["--model", "turb"], "did you mean turbo"),
        (["--precision", "fp8"], "There is no precision 'fp8'"),
        (["--mode", "real-time"], "did you mean realtime"),
        (["--service", "jina"], "did you mean jina-reranker"),
        (["--rate", "-3"], "The rate is -3 requests/s: give more than 0"),
        (["--swing", "1.5"], "The swing is 1.5"),
        (["--p95", "0"], "The latency limit is 0 s"),
        (["--price", "ml.c7i.large"], "give NAME=USD"),
        (["--price", "ml.c7i.large=cheap"], "give US dollars as a number"),
        (["--price", "ml.c7i.large=-1"], "not below 0"),
        (["--max-monthly", "much"], "give US dollars as a number"),
        (["--format", "pdf"], "There is no format 'pdf'"),
        (["--data", "/nowhere"], "cannot be read"),
        (["--log", "/nowhere.csv"], "cannot be read"),
        (["--output", "/nowhere/report.txt"], "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [] if arguments[0] == "--instance" else FEW
    assert main(["cost", *few, *arguments]) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_serverless_memory_and_all_regions_may_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    serverless = [
        "compare",
        "--mode",
        "serverless",
        "--instance",
        "4096",
        "--rate",
        "0.01",
        "--p95",
        "inf",
        "--model",
        "tiny",
    ]
    assert main(["cost", *serverless, "--region", "all", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["tables"]["deployments"]["rows"]
    assert len({row["deployment"] for row in rows}) > 10
    assert all("serverless 4 GB" in row["deployment"] for row in rows)


def test_where_it_fits_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "fit", "--region", "eu-south-1", "--explain"]) == 0
    shown = capsys.readouterr().out
    assert "Peak memory of one model process" in shown
    assert "USD/hour: price of 2026-09-22" in shown


def test_a_budget_is_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", *FEW, "--rate", "0.5", "--max-monthly", "1"]) == 1
    assert "is above --max-monthly 1" in capsys.readouterr().err
    assert main(["cost", *FEW, "--rate", "0.5", "--max-monthly", "100000"]) == 0


def test_every_subcommand_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in WHAT:
        with pytest.raises(SystemExit) as ended:
            main(["cost", name, "--help"])
        assert ended.value.code == 0
        assert "SUPPRESS" not in capsys.readouterr().out


def test_the_page_needs_nothing_else_and_is_the_same_every_time(report: Report) -> None:
    page = render(report, "html")
    assert page.count("<svg") == len(report.charts) == 2
    for outside in ("http-equiv", "<script", 'src="', "@import", "url(http"):
        assert outside not in page
    assert page == render(report, "html")
    assert set(FORMATS) == {"text", "json", "csv", "markdown", "html"}
    with pytest.raises(CostError, match="did you mean html"):
        render(report, "htm")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_in_a_browser(report: Report, width: int, tmp_path: Path) -> None:
    """Nothing wider than the window, every chart visible, and nothing on the console. A frame gives the width: the window itself
    is never narrower than 500.
    """
    (tmp_path / "report.html").write_text(render(report, "html"))
    probe = """const d=document.getElementById('f').contentDocument,e=d.documentElement;
    const wide=[...d.querySelectorAll('body *')].filter(x=>!x.closest('svg')&&!x.closest('.scroll')&&x.getBoundingClientRect().right>e.clientWidth+1);
    const charts=[...d.querySelectorAll('svg[role=img]')].map(x=>Math.round(x.getBoundingClientRect().width));
    document.title=JSON.stringify({width:e.clientWidth,scroll:e.scrollWidth,wide:wide.map(x=>x.outerHTML.slice(0,80)),charts,tables:d.querySelectorAll('table').length});"""
    page = f'<iframe id="f" src="report.html" style="width:{width}px;height:2000px;border:0" onload="{probe}"></iframe>'
    (tmp_path / "frame.html").write_text(page.replace("&&", "&amp;&amp;"))
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert CHROMIUM
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        flags += " --disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=5000 --dump-dom"
        done = subprocess.run(
            [
                CHROMIUM,
                *flags.split(),
                f"--user-data-dir={tmp_path / 'profile'}",
                f"http://127.0.0.1:{server.server_port}/frame.html",
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    finally:
        server.shutdown()
        server.server_close()
    import html

    seen = json.loads(html.unescape(done.stdout.split("<title>")[1].split("</title>")[0]))
    assert width - 20 <= seen["width"] == seen["scroll"] <= width  # less a scroll bar
    assert seen["wide"] == []
    assert len(seen["charts"]) == 2
    assert all(300 < chart <= 520 for chart in seen["charts"])
    assert seen["tables"] == sum(bool(table.rows) for table in report.tables)
    assert "CONSOLE" not in done.stderr


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass
