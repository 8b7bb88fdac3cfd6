"""Deployments side by side, and why others are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..bill import Bill
from ..catalogue import Catalogue
from ..decide import Question, decide
from ..measured import measurements
from ..sheet import Chart, Report, Series, Table, data_notes, tabulate
from .tables import explain


def compare_report(question: Question, most: int = 30) -> Report:
    """The `most` cheapest feasible deployments, and an example for every reason why others are not."""
    decision, traffic = decide(question), question.scenario.traffic
    catalogue = question.scenario.catalogue
    bills = decision.bills[:most]
    refused = tuple((reason, count, decision.examples[reason]) for reason, count in decision.refused.items())
    series = tuple(Series(bill.deployment.name, (), (float(bill.usd),)) for bill in bills[:12])
    conclusion = f"Deployments that meet the limits: {len(decision.bills)}"
    if bills:
        best = bills[0]
        conclusion += (
            f"; the cheapest is {best.deployment.name}: {best.usd:,} USD a month, p95 {best.p95:.3f} s"
        )
    return Report(
        conclusion=(f"{conclusion}.",),
        title=f"Deployments for {traffic.name}, {traffic.documents} documents of {traffic.tokens} tokens",
        tables=(
            _deployments(decision.bills, most),
            Table(
                key="refused",
                title="Deployments that do not meet the question",
                columns=("they", "how many", "for example"),
                rows=refused,
            ),
            _measured(catalogue),
        ),
        notes=data_notes(catalogue),
        charts=(Chart(title="The cheapest", kind="bars", x="US dollars a month", series=series, money="x"),)
        if bills
        else (),
        explained=tuple(line for bill in bills for line in explain(bill)),
        monthly=bills[0].usd if bills else None,
    )


def _deployments(bills: Sequence[Bill], most: int) -> Table:
    table = tabulate(
        "deployments",
        "Feasible, cheapest first",
        {
            "deployment": lambda bill: bill.deployment.name,
            "USD/month": lambda bill: bill.usd,
            "p50 s": lambda bill: round(bill.p50, 3),
            "p95 s": lambda bill: round(bill.p95, 3),
            "p99 s": lambda bill: round(bill.p99, 3),
            "utilisation": lambda bill: round(bill.running.utilisation, 3),
            "instances": lambda bill: round(bill.running.mean, 2),
            "USD/M documents": lambda bill: bill.usd_per_million_documents,
            "NDCG@10": lambda bill: bill.deployment.choice.ndcg,
            "speed": lambda bill: bill.speed.basis,
        },
        bills[:most],
        *([f"{len(bills) - most} more, all dearer."] if len(bills) > most else []),
    )
    minor = ("p50 s", "p99 s", "utilisation", "instances", "USD/M documents", "speed")
    return replace(table, minor=minor)


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
