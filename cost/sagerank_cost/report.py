"""Reports as plain tables and charts: built here and in answers.py, written in five forms by render.py."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from .catalogue import Catalogue
from .decide import Decision, Question, break_even, curve, decide, service_usd
from .deploy import CENT, Bill, Line, total
from .sheet import Chart, Report, Series, Table, data_notes
from .sizes import memory_table

# Shares that buyers report, and the most AWS states ("up to 64 %"); no rate per instance type is known.
SAVINGS_PLANS = (20, 40, 64)


def decision_report(question: Question, catalogue: Catalogue, services: Sequence[str] = ()) -> Report:
    """The comparison of the question's models on CPU, GPU and serverless, and the cheapest that meets its limits."""
    decision = decide(question, catalogue)
    best, shown = decision.best, _cheapest_of_each(decision, catalogue)
    tables = [_comparison(question, shown), _pareto(decision)]
    charts = [_bars(shown), _front(decision)]
    if best is not None:
        tables += [
            lines_table(f"The bill of {best.deployment.name}", best.lines),
            savings_table(best.lines),
            services_table(best, catalogue, services, question.tokens_at_once),
        ]
    tables.append(memory_table(question))
    traffic = question.traffic
    return Report(
        f"sagerank cost: {traffic.name}, {traffic.documents} documents of {traffic.tokens} tokens, {', '.join(question.regions)}",
        tuple(tables),
        _conclusion(decision),
        (*data_notes(catalogue), *(best.notes if best else ())),
        tuple(chart for chart in charts if chart.series),
        tuple(line for item in shown.values() if item for line in explain(item, catalogue)),
        best.usd if best else None,
    )


def _cheapest_of_each(decision: Decision, catalogue: Catalogue) -> dict[tuple[str, str], Bill | None]:
    """By model and where it runs: CPU, GPU, serverless or async."""
    places = {"realtime": ("CPU", "GPU"), "serverless": ("serverless",), "async": ("async",)}
    shown: dict[tuple[str, str], Bill | None] = {
        (choice.name, place): None
        for choice in decision.question.choices
        for mode in decision.question.modes
        for place in places[mode]
    }
    for item in decision.bills:  # cheapest first
        deployment = item.deployment
        place = deployment.mode
        if place == "realtime":
            place = "GPU" if catalogue.instance(deployment.instance).gpu else "CPU"
        if shown[deployment.choice.name, place] is None:
            shown[deployment.choice.name, place] = item
    return shown


def _comparison(question: Question, shown: dict[tuple[str, str], Bill | None]) -> Table:
    quality = {choice.name: choice.ndcg for choice in question.choices}
    rows: list[tuple[object, ...]] = []
    for (name, place), item in shown.items():
        if item is None:
            rows.append(
                (name, place, "nothing meets the limits", None, None, None, None, quality[name], None)
            )
            continue
        rows.append(
            (
                name,
                place,
                f"{item.deployment.precision} {item.deployment.place}",
                item.usd,
                round(item.p95, 3),
                item.instances_peak if item.deployment.mode != "serverless" else None,
                item.usd_per_million_documents,
                quality[name],
                item.speed.kind,
            )
        )
    columns = (
        "model",
        "on",
        "cheapest",
        "USD/month",
        "p95 s",
        "instances",
        "USD/M documents",
        "NDCG@10",
        "speed",
    )
    note = "instances: at the peak. speed: estimated from arithmetic unless measured; --explain shows how, and between what bounds."
    return Table("comparison", "Cheapest deployment of each model", columns, tuple(rows), (note,))


def _pareto(decision: Decision) -> Table:
    front = decision.pareto()
    rows = (
        (
            item.deployment.choice.name,
            f"{item.deployment.precision} {item.deployment.place}",
            item.deployment.region,
            item.usd,
            round(item.p95, 3),
            item.deployment.choice.ndcg,
        )
        for item in front[:10]
    )
    return Table(
        "pareto",
        "Pareto front: nothing here is beaten in quality, latency and cost at once",
        ("model", "deployment", "region", "USD/month", "p95 s", "NDCG@10"),
        tuple(rows),
        (f"{len(front) - 10} more, all dearer.",) if len(front) > 10 else (),
    )


def lines_table(title: str, lines: Sequence[Line]) -> Table:
    rows = [
        (
            line.name,
            round(line.quantity, 3),
            line.unit,
            line.price.usd,
            line.usd,
            line.price.date,
            line.price.confidence,
        )
        for line in lines
    ]
    return Table(
        "lines",
        title,
        ("item", "quantity", "unit", "USD each", "USD/month", "price of", "confidence"),
        (*rows, ("total", None, "", None, total(tuple(lines)), "", "")),
    )


def savings_table(lines: Sequence[Line]) -> Table:
    """A what-if: machine learning savings plans cover real-time instance hours, not the rest."""
    hours = sum((line.usd for line in lines if line.unit == "hour"), Decimal(0))
    whole = total(tuple(lines))
    rows = []
    for percent in SAVINGS_PLANS if hours else ():
        saved = (hours * percent / 100).quantize(CENT, ROUND_HALF_UP)
        rows.append((f"{percent} %", -saved, whole - saved))
    return Table(
        "savings",
        "What if: a savings plan on the instance hours",
        ("discount", "saved USD", "USD/month"),
        tuple(rows),
        (
            "AWS says up to 64 %; buyers report 20 to 65 %. Rates by type were not found, so these are assumptions.",
            "There is no spot price for endpoints, and serverless is not known to be covered.",
        ),
    )


def services_table(best: Bill, catalogue: Catalogue, services: Sequence[str], tokens_at_once: int) -> Table:
    known = curve(best.deployment, best.traffic, catalogue, tokens_at_once)
    rows = []
    for name in services or catalogue.services:
        service = catalogue.service(name)
        even = break_even(best.deployment, service, best.traffic, catalogue, tokens_at_once, known)
        rows.append(
            (
                service.title,
                service.price.usd,
                service.per,
                service_usd(service, best.traffic),
                None if even is None else round(even),
                service.price.date,
                service.price.confidence,
            )
        )
    return Table(
        "services",
        "The same traffic at services billed by use",
        ("service", "USD each", "per", "USD/month", "dearer from requests/month", "price of", "confidence"),
        tuple(rows),
        (
            "They rank with other models: compare quality on your own data. Put your own price in with --price NAME=USD.",
        ),
    )


def _bars(shown: dict[tuple[str, str], Bill | None]) -> Chart:
    series = [
        Series(f"{name} {place}", (), (float(item.usd),)) for (name, place), item in shown.items() if item
    ]
    return Chart("Cheapest deployment of each model", "bars", "US dollars a month", "", tuple(series))


def _front(decision: Decision) -> Chart:
    series = []
    for choice in decision.question.choices:
        found = [item for item in decision.bills if item.deployment.choice == choice and item.p95 < 10][:40]
        if found:
            series.append(
                Series(
                    choice.name, tuple(item.p95 for item in found), tuple(float(item.usd) for item in found)
                )
            )
    title = "Latency against cost, the 40 cheapest of each model"
    return Chart(title, "points", "p95, seconds", "US dollars a month", tuple(series), "xy")


def _conclusion(decision: Decision) -> tuple[str, ...]:
    best, question = decision.best, decision.question
    limits = [
        f"p95 at most {question.p95_seconds:g} s" if question.p95_seconds is not None else "",
        f"NDCG@10 at least {question.min_ndcg:g}" if question.min_ndcg is not None else "",
    ]
    asked = " and ".join(part for part in limits if part) or "any latency"
    refused = ", ".join(f"{count} {reason}" for reason, count in decision.refused.items())
    if best is None:
        example = next(iter(decision.examples.values()), "")
        return (f"Nothing carries this traffic with {asked} ({refused}). For example: {example}",)
    peak = f", {best.instances_peak} instance{'s' if best.instances_peak != 1 else ''} at the peak"
    lines = [
        f"Run {best.deployment.name}: {best.usd:,} USD a month, {best.usd_per_million_documents:,} per million documents, p95 {best.p95:.3f} s (asked: {asked})"
        f"{peak if best.deployment.mode != 'serverless' else ''}; speed {best.speed.kind}."
    ]
    base = next((item for item in decision.bills if item.deployment.choice.name == "base"), None)
    if base is not None and best.deployment.choice.name != "base":
        change = f"{1 - best.usd / base.usd:.0%} less" if best.usd < base.usd else "no less"
        lines.append(
            f"Base would cost {base.usd:,} USD ({base.deployment.name}): {best.deployment.choice.name} costs {change}. The announcement's 75 % is of memory."
        )
    if refused:
        lines.append(
            f"Other deployments that meet the limits: {len(decision.bills) - 1}. Of those that do not, {refused}."
        )
    return tuple(lines)


def explain(item: Bill, catalogue: Catalogue) -> list[str]:
    """Where every number of a bill comes from."""
    pace = item.speed
    return [
        f"{item.deployment.name}: a request alone takes {pace.seconds:.4f} s ({pace.low:.4f} to {pace.high:.4f}), {pace.kind}: {pace.why}.",
        f"  in the busiest minute {item.waits:.1%} of requests wait, {item.mean_wait:.3f} s on average (Erlang C, M/G/c): p50 {item.p50:.3f}, p95 {item.p95:.3f}, p99 {item.p99:.3f} s",
        *(explain_line(line, catalogue) for line in item.lines),
        *(f"  {note}" for note in item.notes),
    ]


def explain_line(line: Line, catalogue: Catalogue) -> str:
    source = catalogue.sources.get(line.price.source, line.price.source)
    return f"  {line.name}: {line.quantity:.3f} {line.unit} x {line.price.usd} USD = {line.usd} USD; price of {line.price.date} ({line.price.confidence}): {source}"
