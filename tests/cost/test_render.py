"""A report in all its formats, and its page in a browser."""

from __future__ import annotations

import csv
import functools
import io
import json
import shlex
import shutil
import subprocess
import threading
from decimal import Decimal
from html import escape, unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sagerank_cost import CostError
from sagerank_cost.bill import SELLERS_CHARGE
from sagerank_cost.decide import Question
from sagerank_cost.lines import AtLeast
from sagerank_cost.models import choice
from sagerank_cost.render import FORMATS, render
from sagerank_cost.reports.decision import decision_report
from sagerank_cost.sheet import Report
from sagerank_cost.traffic import daily

from .conftest import scenario

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def report() -> Report:
    """One in which another deployment would win, were it as fast as estimated."""
    question = Question(
        scenario=scenario(daily(0.2)),
        choices=tuple(map(choice, ("turbo", "tiny", "base"))),
        modes=("realtime", "serverless"),
        regions=("us-east-1",),
        instances=("ml.c7g.2xlarge", "ml.c7g.4xlarge", "ml.g4dn.xlarge"),
        p95_seconds=2.0,
    )
    return decision_report(question)


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
    text = render(report, "text", explain=True)
    assert "72.5% and 12.5%" in text
    assert "75 % less memory for Turbo than for Base, and 13 % less for Tiny than for Turbo" in text
    assert "of the whole process" in text
    assert "measured peaks" in text
    saved = json.loads(render(report, "json"))["tables"]["savings by model"]["rows"]
    rows = {row[""]: row for row in saved}
    assert rows["stored weights"]["turbo to base"] == "-72.5%"
    assert rows["stored weights"]["tiny to turbo"] == "-12.5%"
    memory = [row for name, row in rows.items() if "8,192 tokens" in name and "USD" in name]
    assert [(row["turbo to base"], row["tiny to turbo"]) for row in memory] == [("-50.0%", "+0.0%")]


def test_the_decision_comes_first_in_every_form(report: Report) -> None:
    first, *_ = report.conclusion
    assert first.startswith("Run ")
    assert report.command.startswith("sagerank cost measure ")
    assert render(report, "text").splitlines()[0] == first
    assert render(report, "markdown").splitlines()[0] == first
    assert next(iter(json.loads(render(report, "json")).items())) == ("conclusion", list(report.conclusion))
    rows = list(csv.reader(io.StringIO(render(report, "csv"))))
    assert rows[0] == ["conclusion", first]
    assert ["command", report.command] in rows
    page = render(report, "html")
    assert page.index(first) < page.index("<h1>") < page.index("<svg")
    assert f"<pre>{escape(report.command)}</pre>" in page


@pytest.mark.parametrize("width", [40, 80])
def test_a_command_can_be_copied_whole(report: Report, width: int) -> None:
    shown = render(report, "text", width=width)
    begin = shown.index("\nsagerank cost measure") + 1
    copied = shown[begin : shown.index("\n\n", begin)]
    assert copied.count("\n") == copied.count(" \\\n") > 0
    assert shlex.split(copied.replace("\\\n", "")) == shlex.split(report.command)


def test_the_models_stand_beside_one_another_and_are_records_for_machines(report: Report) -> None:
    rows = {row["model"]: row for row in json.loads(render(report, "json"))["tables"]["models"]["rows"]}
    assert list(rows) == ["base", "turbo", "tiny"]
    for row in rows.values():
        slow, estimate, fast = (row[f"instance documents/s{bound}"] for bound in (", slow", "", ", fast"))
        assert slow < estimate < fast
        million = Decimal(row["USD/hour"]) / 3600 / Decimal(str(estimate)) * 1_000_000
        assert abs(Decimal(row["instance USD/M documents"]) / million - 1) < Decimal("0.01")
    assert [rows[name]["serverless MB"] for name in rows] == [2048, 1024, 1024]
    head = next(line for line in render(report, "text", width=80).splitlines() if line.split() == list(rows))
    assert len(head) <= 80
    narrow = render(report, "text", width=50)
    assert all(len(line) <= 50 for line in narrow.splitlines() if "documents/s" in line)
    assert narrow.count("stored weights, MB") == 3  # the columns that do not fit follow below


def test_what_is_not_known_is_said_in_every_form() -> None:
    asked = Question(
        scenario=scenario(daily(0.5)),
        choices=(choice("tiny"),),
        precisions=("fp32",),
        modes=("marketplace",),
        regions=("us-east-1",),
        instances=("ml.c7i.4xlarge",),
    )
    report = decision_report(asked, charts=False)
    usd = report.monthly
    assert isinstance(usd, AtLeast)
    for form in ("text", "markdown", "html"):
        shown = render(report, form, explain=True)
        assert f"≥ {usd:,f} USD" in shown
        assert shown.count(f"≥ {usd:,f}") > 2
        assert SELLERS_CHARGE in unescape(shown)
    whole = json.loads(render(report, "json"))
    assert Decimal(whole["monthly_usd"]) == usd
    *_, charge, total = whole["tables"]["lines"]["rows"]
    assert (charge["item"], charge["USD/month"], charge["confidence"]) == (SELLERS_CHARGE, None, "not known")
    assert (total["USD/month"], total["not counted"]) == (f"{usd:f}", SELLERS_CHARGE)
    assert f"note,not counted: {SELLERS_CHARGE}" in render(report, "csv")


def test_every_bill_is_explained(report: Report) -> None:
    text = render(report, "json", explain=True)
    explained = json.loads(text)["explained"]
    assert sum("GFLOP at" in line for line in explained) >= 2
    assert sum("AWS bulk offer" in line for line in explained) >= 2
    assert "explained" not in json.loads(render(report, "json"))


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
@pytest.mark.parametrize("width", [390, 800, 1600])
def test_the_page_in_a_browser(report: Report, width: int, tmp_path: Path) -> None:
    """Nothing wider than the window, every chart visible, and nothing on the console. A frame gives the width: the window itself
    is never narrower than 500.
    """
    (tmp_path / "report.html").write_text(render(report, "html"), encoding="utf-8")
    probe = """const d=document.getElementById('f').contentDocument,e=d.documentElement;
    const wide=[...d.querySelectorAll('body *')].filter(x=>!x.closest('svg')&&!x.closest('.scroll')&&x.getBoundingClientRect().right>e.clientWidth+1);
    const charts=[...d.querySelectorAll('svg[role=img]')].map(x=>Math.round(x.getBoundingClientRect().width));
    document.title=JSON.stringify({width:e.clientWidth,scroll:e.scrollWidth,wide:wide.map(x=>x.outerHTML.slice(0,80)),charts,tables:d.querySelectorAll('table').length});"""
    page = f'<iframe id="f" src="report.html" style="width:{width}px;height:2000px;border:0" onload="{probe}"></iframe>'
    (tmp_path / "frame.html").write_text(page.replace("&&", "&amp;&amp;"), encoding="utf-8")
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
    seen = json.loads(unescape(done.stdout.split("<title>")[1].split("</title>")[0]))
    assert width - 20 <= seen["width"] == seen["scroll"] <= width  # less a scroll bar
    assert seen["wide"] == []
    assert len(seen["charts"]) == 2
    assert all(300 < chart <= 520 for chart in seen["charts"])
    assert seen["tables"] == sum(bool(table.for_people().rows) for table in report.tables)
    assert "CONSOLE" not in done.stderr


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass
