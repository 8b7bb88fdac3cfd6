"""The models compared on CPU, GPU and serverless, and the cheapest deployment of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal

from ..bill import Bill
from ..decide import Decision, Question, decide, service_usd
from ..lines import CENT, Line, total
from ..sheet import Chart, Report, Series, Table, data_notes, tabulate
from .fit import memory_table
from .tables import explain, lines_table, services_table

# Shares that buyers report, and the most AWS states ("up to 64 %"); no rate per instance type is known.
SAVINGS_PLANS = (20, 40, 64)


def decision_report(question: Question, services: Sequence[str] = ()) -> Report:
    """The comparison of the question's models on CPU, GPU and serverless, and the cheapest that meets its limits."""
    decision, catalogue = decide(question), question.scenario.catalogue
    best, cheapest = decision.best, _cheapest_by_hardware(decision)
    tables = [_comparison(question, cheapest), _pareto(decision)]
    charts = [_bars(cheapest), _front(decision)]
    if best is not None:
        tables += [
            lines_table(f"The bill: {best.deployment.name}", best.lines),
            _savings(best.lines),
            services_table(best, services),
        ]
    tables.append(memory_table(question))
    traffic = question.scenario.traffic
    comparison, *details = tables
    return Report(
        title=f"The cost of {traffic.name}, {traffic.documents} documents of {traffic.tokens} tokens, {', '.join(question.regions)}",
        tables=(comparison, *(replace(table, detail=True) for table in details)),
        conclusion=(*_conclusion(decision), *([_elsewhere(best, services)] if best else ())),
        notes=(*_others(decision), *data_notes(catalogue), *(best.notes if best else ())),
        charts=tuple(chart for chart in charts if chart.series),
        explained=tuple(line for bill in cheapest.values() if bill for line in explain(bill)),
        monthly=best.usd if best else None,
    )


def _cheapest_by_hardware(decision: Decision) -> dict[tuple[str, str], Bill | None]:
    """The cheapest bill by model and what it runs on: CPU, GPU, serverless or async."""
    catalogue = decision.question.scenario.catalogue
    hardware = {"realtime": ("CPU", "GPU"), "serverless": ("serverless",), "async": ("async",)}
    cheapest: dict[tuple[str, str], Bill] = {}
    for bill in decision.bills:  # cheapest first
        name = bill.deployment.mode
        if name == "realtime":
            name = "GPU" if catalogue.instance(bill.deployment.instance).gpu else "CPU"
        cheapest.setdefault((bill.deployment.choice.name, name), bill)
    return {
        (choice.name, name): cheapest.get((choice.name, name))
        for choice in decision.question.choices
        for mode in decision.question.modes
        for name in hardware[mode]
    }


def _comparison(question: Question, cheapest: dict[tuple[str, str], Bill | None]) -> Table:
    quality = {choice.name: choice.ndcg for choice in question.choices}
    rows: list[tuple[object, ...]] = []
    for (model, hardware), bill in cheapest.items():
        if bill is None:
            cells: tuple[object, ...] = ("none", None, None, None, None)
        else:
            cells = (
                f"{bill.deployment.precision} {bill.deployment.hardware}",
                bill.usd,
                round(bill.p95, 3),
                bill.running.peak if bill.deployment.mode != "serverless" else None,
                bill.usd_per_million_documents,
            )
        rows.append((model, hardware, *cells, quality[model], bill and bill.speed.basis))
    first = ("model", "on", "cheapest", "USD/month", "p95 s")
    return Table(
        key="comparison",
        title="Cheapest deployment of each model",
        columns=(*first, "peak instances", "USD/M documents", "NDCG@10", "speed"),
        rows=tuple(rows),
        notes=(
            *(["none: nothing meets the limits."] if None in cheapest.values() else ()),
            "speed: estimated from arithmetic unless measured; --explain shows how, and between what bounds.",
        ),
        minor=("peak instances", "USD/M documents"),
    )


def _pareto(decision: Decision) -> Table:
    front = decision.pareto()
    return tabulate(
        "pareto",
        "Pareto front: nothing here is beaten in quality, latency and cost at once",
        {
            "model": lambda bill: bill.deployment.choice.name,
            "deployment": lambda bill: f"{bill.deployment.precision} {bill.deployment.hardware}",
            "region": lambda bill: bill.deployment.region,
            "USD/month": lambda bill: bill.usd,
            "p95 s": lambda bill: round(bill.p95, 3),
            "NDCG@10": lambda bill: bill.deployment.choice.ndcg,
        },
        front[:10],
        *([f"{len(front) - 10} more, all dearer."] if len(front) > 10 else []),
    )


def _savings(lines: Sequence[Line]) -> Table:
    """A what-if: machine learning savings plans cover real-time instance hours, not the rest."""
    hours = sum((line.usd for line in lines if line.unit == "hour"), Decimal(0))
    rows = []
    for percent in SAVINGS_PLANS if hours else ():
        saved = (hours * percent / 100).quantize(CENT, ROUND_HALF_UP)
        rows.append((f"{percent} %", -saved, total(lines) - saved))
    return Table(
        key="savings",
        title="Savings plans: what if one covered the instance hours",
        columns=("discount", "saved USD", "USD/month"),
        rows=tuple(rows),
        notes=(
            "AWS says up to 64 %; buyers report 20 to 65 %. Rates by type were not found, so these are assumptions.",
            "There is no spot price for endpoints, and serverless is not known to be covered.",
        ),
    )


def _bars(cheapest: dict[tuple[str, str], Bill | None]) -> Chart:
    series = tuple(
        Series(f"{model} {hardware}", (), (float(bill.usd),))
        for (model, hardware), bill in cheapest.items()
        if bill
    )
    return Chart(
        title="Cheapest deployment of each model",
        kind="bars",
        x="US dollars a month",
        series=series,
        money="x",
    )


def _front(decision: Decision) -> Chart:
    series = []
    for choice in decision.question.choices:
        bills = [bill for bill in decision.bills if bill.deployment.choice == choice and bill.p95 < 10][:40]
        if bills:
            seconds, usd = tuple(bill.p95 for bill in bills), tuple(float(bill.usd) for bill in bills)
            series.append(Series(choice.name, seconds, usd))
    return Chart(
        title="Latency against cost, the 40 cheapest of each model",
        kind="points",
        x="p95, seconds",
        y="US dollars a month",
        series=tuple(series),
        log="xy",
        money="y",
    )


def _conclusion(decision: Decision) -> tuple[str, ...]:
    best, question = decision.best, decision.question
    limits = [
        f"p95 at most {question.p95_seconds:g} s" if math.isfinite(question.p95_seconds) else "",
        f"NDCG@10 at least {question.min_ndcg:g}" if question.min_ndcg is not None else "",
    ]
    asked = " and ".join(part for part in limits if part) or "any latency"
    if best is None:
        example = next(iter(decision.examples.values()), "")
        return (f"Nothing carries this traffic with {asked}. For example: {example}",)
    peak = f", {best.running.peak} instance{'s' if best.running.peak != 1 else ''} at the peak"
    lines = [
        f"Run {best.deployment.name}: {best.usd:,} USD a month, {best.usd_per_million_documents:,} per million documents, p95 {best.p95:.3f} s (asked: {asked})"
        f"{peak if best.deployment.mode != 'serverless' else ''}; speed {best.speed.basis}."
    ]
    base = next((bill for bill in decision.bills if bill.deployment.choice.name == "base"), None)
    if base is not None and best.deployment.choice.name != "base":
        change = f"{1 - best.usd / base.usd:.0%} less" if best.usd < base.usd else "no less"
        lines.append(
            f"Base would cost {base.usd:,} USD ({base.deployment.name}): {best.deployment.choice.name} costs {change}."
        )
    return tuple(lines)


def _elsewhere(best: Bill, services: Sequence[str]) -> str:
    """Said with the answer: owning a reranker may not be the cheaper way."""
    catalogue, traffic = best.scenario.catalogue, best.scenario.traffic
    chosen = map(catalogue.service, services or catalogue.services)
    usd, title = min((service_usd(service, traffic), service.title) for service in chosen)
    than = "less" if usd < best.usd else "more"
    return f"The cheapest service billed by use costs {than}: {title}, {usd:,} USD, with another model."


def _others(decision: Decision) -> tuple[str, ...]:
    """How many deployments there were to choose from, and why others were none."""
    if not decision.refused:
        return ()
    refused = ", ".join(f"{count} {reason}" for reason, count in decision.refused.items())
    return (f"Deployments that meet the limits: {len(decision.bills)}. Of those that do not, {refused}.",)
