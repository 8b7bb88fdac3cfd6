"""What the reports decide and say: the verdict, why there is nothing, what is left out, and where another way to run is cheaper."""

from __future__ import annotations

import itertools
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sagerank_cost.bill import Scenario
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.decide import Question, admit, decide, service_usd
from sagerank_cost.discount import Discounts
from sagerank_cost.doubt import answer
from sagerank_cost.lines import AtLeast
from sagerank_cost.measured import Measurement, append
from sagerank_cost.models import choice
from sagerank_cost.reports.breakeven import breakeven_report
from sagerank_cost.reports.charts import cost_chart
from sagerank_cost.reports.compare import compare_report
from sagerank_cost.reports.decision import decision_report
from sagerank_cost.reports.fit import MOST, fit_report
from sagerank_cost.reports.groups import DEAR, by_model, by_model_and_hardware, grouped, why_not
from sagerank_cost.reports.sweep import DAYS_PER_MONTH, PER_DAY, Sweep
from sagerank_cost.reports.verdict import decision_table, verdict
from sagerank_cost.sheet import Report, Table
from sagerank_cost.traffic import daily

from .conftest import CATALOGUE

FEW = ("ml.c7g.2xlarge", "ml.c7g.4xlarge", "ml.g4dn.xlarge")


def question(
    rate: float = 0.2, *, catalogue: Catalogue = CATALOGUE, documents: int = 100, **changes: Any
) -> Question:
    options: dict[str, Any] = {
        "choices": tuple(map(choice, ("turbo", "tiny", "base"))),
        "modes": ("realtime", "serverless"),
        "regions": ("us-east-1",),
        "instances": FEW,
        "p95_seconds": 2.0,
        **changes,
    }
    return Question(scenario=Scenario(daily(rate, documents=documents), catalogue), **options)


def table(report: Report, key: str) -> Table:
    return next(table for table in report.tables if table.key == key)


def records(found: Table) -> list[dict[str, Any]]:
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def test_the_verdict_holds_up_to_the_speeds_that_it_names(folder: Path) -> None:
    asked = question()
    found = answer(asked)
    run, instead = records(decision_table(found))
    assert (run["what"], instead["what"]) == ("run", "instead")
    assert run["seconds estimated"] < run["up to seconds"]
    assert instead["USD/month estimated"] < run["USD/month"]
    assert instead["seconds estimated"] < instead["up to seconds"]
    first, second = verdict(asked, found)
    assert first.startswith(
        f"Run {run['deployment']}: {run['USD/month']} USD a month; with 95% confidence in its speed"
    )
    assert f"Instead, {instead['deployment']} would win at {instead['USD/month estimated']} USD" in second
    # The measurement settles it, on either side of the seconds that are named.
    seconds = instead["measured below"]
    assert f"if a request measured there takes less than {seconds:.3g} s" in second
    for measured, expected in ((seconds * 0.99, instead), (seconds * 1.01, run)):
        assert _once_measured(asked, instead, measured, folder) == expected["deployment"]


def test_a_measurement_above_the_seconds_that_are_named_is_said(folder: Path) -> None:
    asked = question()
    run, instead = records(decision_table(answer(asked)))
    assert instead["measured below"] == pytest.approx(instead["up to seconds"] / 1.1, abs=1e-4)
    seconds = (instead["measured below"] + instead["up to seconds"]) / 2
    assert _once_measured(asked, instead, seconds, folder) == run["deployment"]
    again = replace(asked, scenario=replace(asked.scenario, catalogue=Catalogue(folder)))
    assert f"(so far {seconds:.3g} s)" in verdict(again, answer(again))[1]


def _once_measured(asked: Question, row: dict[str, Any], seconds: float, folder: Path) -> str:
    """What to run where a request was measured to take so many seconds on the row's deployment."""
    traffic = asked.scenario.traffic
    measured = Measurement(
        **{name: row[name] for name in ("model", "precision", "instance")},
        documents=traffic.documents,
        tokens=traffic.tokens,
        seconds=seconds,
        kind="measured",
        source="a test",
        date="2026-11-27",
    )
    append([measured], folder)
    best = answer(replace(asked, scenario=replace(asked.scenario, catalogue=Catalogue(folder)))).best
    assert best is not None
    return best.deployment.name


def test_where_nothing_is_feasible_it_is_said_why_and_what_would_be() -> None:
    asked = question(choices=(choice("tiny"), choice("base")), p95_seconds=0.25, modes=("realtime",))
    first, second = verdict(asked, answer(asked))
    assert first.startswith(
        "Nothing meets the limits (p95 at most 0.25 s with 95% confidence in speeds): tiny: too slow, 0.3"
    )
    assert "base: too slow, " in first
    assert second.startswith(
        "tiny fp32, realtime ml.g4dn.xlarge, us-east-1 would meet them at 537.95 USD and NDCG@10 48.54, if a request measured there takes less than "
    )
    report = decision_report(asked, charts=False)
    assert report.monthly is None
    assert report.command == (
        "sagerank cost measure --endpoint NAME --region us-east-1 --instance ml.g4dn.xlarge --model tiny --precision fp32"
        " --documents 100 --tokens 150"
    )
    hopeless = replace(asked, p95_seconds=0.001)
    assert verdict(hopeless, answer(hopeless))[1] == "Nor would anything if speeds are as estimated."


def test_a_suspect_price_is_recommended_with_a_word() -> None:
    asked = question(0.01, instances=("ml.r8g.large",), modes=("realtime",), p95_seconds=20.0)
    first, *_ = verdict(asked, answer(asked))
    assert "Its price of 2026-09-22, 0.28 USD per hour, is marked suspect: check it." in first


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"p95_seconds": 0.05}, "too slow, 0.3"),
        ({"min_ndcg": 49.0}, "ranks 48.54"),
        ({"rate": 200.0, "max_instances": 2, "p95_seconds": 60.0}, "over 2 instances"),
        ({"modes": ("serverless",), "instances": ("1024",), "choices": ("base",)}, "needs 2,048 MB"),
        ({"precisions": ("bf16",), "instances": ("ml.g4dn.xlarge",)}, "cannot take it"),
        ({"modes": ("scale-to-zero",), "rate": 0.001}, "% fail"),
        ({"choices": ("tiny>turbo@20",), "min_ndcg": 40.0}, "rank not known"),
        ({"documents": 20_000, "p95_seconds": 60.0}, "MB too large"),
        (
            {"documents": 1_000, "p95_seconds": float("inf"), "choices": ("base",), "instances": FEW[:1]},
            "too slow, 2",
        ),
    ],
)
def test_what_is_infeasible_says_why(changes: dict[str, Any], reason: str) -> None:
    names = changes.pop("choices", ("tiny",))
    rate = changes.pop("rate", 0.2)
    asked = question(rate, choices=tuple(map(choice, names)), **{"modes": ("realtime",), **changes})
    assert not answer(asked).decision.bills
    ((_, deployments),) = grouped(asked, by_model).items()
    assert reason in why_not(asked, deployments)
    assert why_not(asked, []) == "not sold there"


def test_what_nobody_would_buy_is_left_out_for_people_and_counted() -> None:
    asked = question(
        0.01, documents=20, p95_seconds=30.0, instances=("ml.c7g.4xlarge", "ml.g4dn.xlarge", "4096", "6144")
    )
    report = decision_report(asked, charts=False)
    found = table(report, "comparison")
    people = found.for_people()
    assert report.monthly is not None
    column = found.columns.index("USD/month")
    left = [row for row in found.rows if row[:2] not in [other[:2] for other in people.rows]]
    assert left
    assert all(Decimal(str(row[column])) > DEAR * report.monthly for row in left)
    assert any(
        note.startswith(f"Not shown: {len(left)} that cost more than 10 times") for note in people.notes
    )
    for model in ("turbo", "tiny", "base"):
        assert any(row[0] == model and row[column] is not None for row in people.rows)


@pytest.mark.parametrize("mode", ["async", "batch", "marketplace", "scale-to-zero"])
def test_other_modes_are_compared(mode: str) -> None:
    asked = question(modes=(mode,), p95_seconds=float("inf"))
    report = decision_report(asked, charts=False)
    assert {row["on"] for row in records(table(report, "comparison"))} == {mode}
    assert f"{mode} ml." in report.conclusion[0]
    (models,) = [found for found in report.tables if found.key == "models"]
    assert ("mode", mode, mode, mode) in models.for_people().rows


def test_int8_is_shown_and_never_run_unless_asked_for() -> None:
    asked = question(choices=(choice("tiny"),), modes=("realtime",))
    report = decision_report(asked, charts=False)
    (row,) = records(table(report, "models"))
    assert row["int8 USD/month"] < row["USD/month"] == report.monthly
    assert "int8" not in report.conclusion[0]
    assert "if it passes the gate on your data: sagerank build --model tiny --precision int8" in str(
        table(report, "models").notes
    )
    eight = decision_report(replace(asked, precisions=("fp32", "int8")), charts=False)
    assert eight.monthly == row["int8 USD/month"]


def test_a_cascade_that_was_asked_for_is_among_the_compared() -> None:
    names = ("tiny", "tiny>base@20", "base")
    asked = question(
        0.1, choices=tuple(map(choice, names)), instances=(), p95_seconds=5.0, modes=("realtime",)
    )
    rows = records(table(compare_report(asked), "deployments"))
    assert {row["model"] for row in rows} == set(names)
    assert [row["what"] for row in rows].count("run") == 1
    prices = [row["USD/month"] for row in rows]
    assert prices == sorted(prices)
    strict = compare_report(replace(asked, min_ndcg=40.0))
    assert records(table(strict, "models without")) == [{"model": "tiny>base@20", "why": "rank not known"}]


def test_ties_are_marked() -> None:
    asked = question(
        0.2, choices=(choice("turbo"), choice("tiny")), modes=("realtime",), instances=("ml.g4dn.xlarge",)
    )
    rows = records(table(compare_report(asked), "deployments"))
    assert [(row["model"], row["what"]) for row in rows] == [("turbo", "run"), ("tiny", "tie")]


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return Sweep(
        question(
            documents=20, p95_seconds=6.0, instances=("ml.c7g.2xlarge", "ml.g4dn.xlarge", "2048", "6144")
        )
    )


def test_both_sides_of_a_break_even_answer_in_time(sweep: Sweep) -> None:
    report = breakeven_report(sweep.question)
    rows = records(table(report, "serverless"))
    assert [row["model"] for row in rows] == ["turbo", "tiny", "base"]
    assert all(row["requests/day"] or row["why"] for row in rows)
    found = {row["model"]: row["requests/day"] for row in rows}
    assert "serverless: too slow" in next(row["why"] for row in rows if row["model"] == "base")
    for model in ("turbo", "tiny"):
        for factor, dearer in ((0.93, False), (1.05, True)):
            decision = sweep.at(found[model] * factor)
            sides = {
                serverless: min(
                    bill.usd
                    for bill in decision.bills
                    if bill.deployment.choice.name == model
                    and (bill.deployment.mode == "serverless") == serverless
                )
                for serverless in (True, False)
            }
            assert (sides[True] > sides[False]) == dearer
    assert all(bill.p95 <= 6.0 for decision in sweep.decisions for bill in decision.bills)


def test_services_are_compared_with_what_would_be_run_at_that_traffic(sweep: Sweep) -> None:
    report = breakeven_report(sweep.question, ("cohere-rerank",))
    (row,) = records(table(report, "services"))
    assert row["requests/month"] == pytest.approx(row["dearer from requests/day"] * DAYS_PER_MONTH, rel=0.01)
    service = CATALOGUE.service("cohere-rerank")
    for factor, dearer in ((0.93, False), (1.05, True)):
        decision = sweep.at(row["dearer from requests/day"] * factor)
        assert decision.best is not None
        assert (service_usd(service, decision.question.scenario.traffic) > decision.best.usd) == dearer


def test_the_chart_marks_where_another_one_wins(sweep: Sweep) -> None:
    chart = cost_chart(sweep)
    key = by_model_and_hardware(CATALOGUE)
    changes = sweep.changes(key)
    assert len(changes) > 2
    marks = next(series for series in chart.series if series.labels)
    assert marks.x == tuple(per_day for per_day, bill in changes[1:] if bill)
    lines = {
        series.name: dict(zip(series.x, series.y, strict=True))
        for series in chart.series
        if not series.labels
    }
    assert len(lines) > 1
    for (_, before), (per_day, after) in itertools.pairwise(changes):
        assert before is not None
        assert after is not None
        assert key(before.deployment) != key(after.deployment)
        at = replace(sweep.question, scenario=sweep.question.scenario.with_requests(per_day * DAYS_PER_MONTH))
        assert admit(at, after.deployment).usd == after.usd
    for name, line in lines.items():
        assert set(line) <= set(PER_DAY)
        assert all(low <= high * 1.0001 for low, high in itertools.pairwise(line.values())), name


def test_fewer_types_are_looked_at_and_the_winner_is_the_same() -> None:
    asked = question(instances=(), choices=(choice("turbo"), choice("tiny")))
    wide = Sweep(asked)
    assert len(wide._finalists.instances) < 40
    for per_day in (300.0, 30_000.0, 1_000_000.0):
        traffic = asked.scenario.with_requests(per_day * DAYS_PER_MONTH)
        all_of_them = answer(replace(asked, scenario=traffic)).best
        best = wide.at(per_day).best
        assert all_of_them is not None
        assert best is not None
        assert (best.deployment, best.usd) == (all_of_them.deployment, all_of_them.usd)


def test_where_several_models_fit_is_one_table() -> None:
    models = (choice("base"), choice("tiny"))
    found = table(fit_report(models, ("fp32",), 8192, ("us-east-1",), CATALOGUE), "fit")
    types = {row["instance"] for row in records(found)}
    assert len(found.rows) == 2 * len(types) > 2 * MOST
    people = found.for_people()
    assert len(people.rows) == MOST
    assert people.notes == (f"{len(types) - MOST} more, in --format csv or json.",)
    assert {"copies of base fp32", "copies of tiny fp32"} <= set(people.columns)


def test_a_what_if_replaces_the_savings_plan_and_keeps_the_edp() -> None:
    given = Discounts(edp=Decimal(10), savings_plan=Decimal(30))
    asked = question(modes=("realtime",), instances=("ml.g4dn.xlarge",))
    asked = replace(asked, scenario=replace(asked.scenario, discounts=given))
    report = decision_report(asked, charts=False)
    assert report.monthly is not None
    rows = records(table(report, "savings"))
    assert [row["discount"] for row in rows] == ["40 %", "64 %"]  # 20 % is less than what there is
    for row, percent in zip(rows, (40, 64), strict=True):
        plan = replace(given, savings_plan=Decimal(percent))
        best = decide(replace(asked, scenario=replace(asked.scenario, discounts=plan))).best
        assert best is not None
        assert row["USD/month"] == best.usd == report.monthly + row["saved USD"]
    said = " ".join(report.notes)
    assert "discounts are lines of a bill" in said
    assert "without tax and discounts" not in said


def test_a_lower_bound_is_not_said_to_be_cheaper() -> None:
    """What the seller of a package charges is not known."""
    asked = question(modes=("marketplace",), choices=(choice("tiny"),), instances=("ml.g4dn.xlarge",))
    report = breakeven_report(asked, ("jina-reranker",))
    (row,) = records(table(report, "services"))
    assert isinstance(row["dearer from requests/day"], AtLeast)
    assert "the seller's charge" in row["why"]
    assert any("from ≥ " in sentence for sentence in report.conclusion)
    (row,) = records(table(report, "serverless"))
    assert row["requests/day"] is None or isinstance(row["requests/day"], AtLeast)
    dear = decision_report(replace(asked, scenario=asked.scenario.with_requests(5e6)), charts=False)
    assert any("costs perhaps more" in note for note in dear.notes)


def test_a_price_that_is_next_to_nothing_is_a_price() -> None:
    cheap = Catalogue(overrides={"ml.c7i.large": Decimal("0.000001")})
    report = decision_report(question(catalogue=cheap, instances=(*FEW, "ml.c7i.large")))
    by_hour = next(
        row for row in table(report, "savings by model").rows if str(row[0]).startswith("USD by the hour")
    )
    assert by_hour[1:] == ("+0.0%", "+0.0%", "+0.0%")
