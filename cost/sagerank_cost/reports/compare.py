"""Deployments side by side, and why others are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from ..bill import Bill
from ..catalogue import Catalogue
from ..decide import TIE, Decision, Question, compared, decide
from ..measured import measurements
from ..sheet import Chart, Report, Series, Table, data_notes, tabulate
from .groups import DEAR, best_of, by_model, grouped, too_dear, why_not
from .tables import explain_all, money, not_counted, on, per_million
from .verdict import limits


def compare_report(question: Question, most: int = 30) -> Report:
    """The `most` cheapest feasible deployments, the best of every model that was asked for, and an example for every reason why others are not."""
    decision, traffic = decide(question), question.scenario.traffic
    catalogue, best = question.scenario.catalogue, decision.best
    bills = _chosen(decision, most)
    refused = tuple((reason, count, decision.examples[reason]) for reason, count in decision.refused.items())
    series = tuple(Series(bill.deployment.name, (), (float(bill.usd),)) for bill in bills[:12])
    conclusion = f"Deployments that meet the limits ({limits(question)}): {len(decision.bills)}"
    if best is not None:
        conclusion += f"; run {best.deployment.name}: {money(best.usd)} a month, p95 {best.p95:.3f} s"
    return Report(
        conclusion=(f"{conclusion}.",),
        title=f"Deployments for {traffic.name}, {traffic.documents} documents of {traffic.tokens} tokens, {', '.join(question.regions)}",
        tables=(
            _deployments(decision, bills),
            _models_without(question, decision),
            Table(
                key="refused",
                title="Deployments that do not meet the question",
                columns=("they", "how many", "for example"),
                rows=refused,
            ),
            _measured(catalogue),
        ),
        notes=data_notes(catalogue, question.scenario.discounts, question.scenario.hit_rate),
        charts=(Chart(title="The cheapest", kind="bars", x="US dollars a month", series=series, money="x"),)
        if bills
        else (),
        explained=tuple(explain_all(bills)),
        monthly=best.usd if best else None,
    )


def _chosen(decision: Decision, most: int) -> list[Bill]:
    """Cheapest first: of those that somebody would buy, and of each model its best whatever it costs."""
    if decision.best is None:
        return []
    always = {bill.deployment for bill in (decision.best, *best_of(decision, by_model).values())}
    return [
        bill
        for index, bill in enumerate(decision.bills)
        if bill.deployment in always or (index < most and not too_dear(bill, decision))
    ]


def _deployments(decision: Decision, bills: list[Bill]) -> Table:
    best = decision.best
    tied = compared(decision.bills[0], decision.unknown) * (1 + TIE) if bills else Decimal(0)

    def mark(bill: Bill) -> str:
        if best is not None and bill.deployment == best.deployment:
            return "run"
        return "tie" if compared(bill, decision.unknown) <= tied else ""

    table = tabulate(
        "deployments",
        "Feasible, cheapest first",
        {
            "model": lambda bill: bill.deployment.choice.name,
            "on": on,
            "region": lambda bill: bill.deployment.region,
            "USD/month": lambda bill: bill.usd,
            "p50 s": lambda bill: round(bill.p50, 3),
            "p95 s": lambda bill: round(bill.p95, 3),
            "p99 s": lambda bill: round(bill.p99, 3),
            "utilisation": lambda bill: round(bill.running.utilisation, 3),
            "instances": lambda bill: round(bill.running.mean, 2),
            "USD/M documents": per_million,
            "NDCG@10": lambda bill: bill.deployment.choice.ndcg,
            "what": mark,
            "speed": lambda bill: bill.speed.basis,
            "not counted": lambda bill: not_counted(bill.statement),
        },
        bills,
        *_said(decision, bills),
    )
    minor = ("p50 s", "p99 s", "utilisation", "instances", "USD/M documents", "speed")
    here = () if len(decision.question.regions) > 1 else ("region",)
    return replace(table, minor=(*minor, *here))


def _said(decision: Decision, bills: list[Bill]) -> Iterator[str]:
    if not bills:
        return
    yield (
        f"tie: within {TIE:.0%} of the cheapest. Of those that tie, the one that ranks best is to be run, and of those that rank alike the one that answers soonest."
    )
    left = len(decision.bills) - len(bills)
    if left and decision.best is not None:
        dear = sum(too_dear(bill, decision) for bill in decision.bills)
        yield f"{left} more, all dearer; {dear} cost more than {DEAR} times what is to be run."


def _models_without(question: Question, decision: Decision) -> Table:
    """Models that were asked for, of which no deployment meets the limits."""
    found = {bill.deployment.choice.name for bill in decision.bills}
    groups = grouped(question, by_model)
    rows = tuple(
        (choice.name, why_not(question, groups.get(choice.name, [])))
        for choice in question.choices
        if choice.name not in found
    )
    return Table(key="models without", title="Models of which none does", columns=("model", "why"), rows=rows)


def _measured(catalogue: Catalogue) -> Table:
    table = tabulate(
        "throughput",
        "Measured requests",
        {
            "model": lambda row: row.model,
            "precision": lambda row: row.precision,
            "instance": lambda row: row.instance,
            "documents": lambda row: row.documents,
            "tokens": lambda row: row.tokens,
            "seconds": lambda row: row.seconds,
            "documents per 50 ms": lambda row: round(0.05 * row.documents / row.seconds, 1),
            "kind": lambda row: row.kind,
            "date": lambda row: row.date,
        },
        measurements(catalogue.folder),
        "`sagerank cost measure --endpoint NAME --instance TYPE --model NAME` adds a row, which then replaces the estimate.",
    )
    return replace(table, detail=True)
