"""Deployments side by side, and why others are none."""

from __future__ import annotations

from ..decide import Question, decide
from ..sheet import Chart, Report, Series, Table, data_notes, tabulate
from ..throughput import measurements
from .tables import explain


def compare_report(question: Question, most: int = 30) -> Report:
    """The `most` cheapest feasible deployments, and an example for every reason why others are not."""
    decision, traffic = decide(question), question.scenario.traffic
    catalogue = question.scenario.catalogue
    bills = decision.bills[:most]
    more = len(decision.bills) - len(bills)
    refused = tuple((reason, count, decision.examples[reason]) for reason, count in decision.refused.items())
    series = tuple(Series(bill.deployment.name, (), (float(bill.usd),)) for bill in bills[:12])
    return Report(
        title=f"Deployments for {traffic.name}, {traffic.documents} documents of {traffic.tokens} tokens",
        tables=(
            tabulate(
                "deployments",
                "Feasible, cheapest first",
                {
                    "deployment": lambda bill: bill.deployment.name,
                    "USD/month": lambda bill: bill.usd,
                    "p50 s": lambda bill: round(bill.p50, 3),
                    "p95 s": lambda bill: round(bill.p95, 3),
                    "p99 s": lambda bill: round(bill.p99, 3),
                    "utilisation": lambda bill: round(bill.utilisation, 3),
                    "instances": lambda bill: round(bill.instances_mean, 2),
                    "USD/M documents": lambda bill: bill.usd_per_million_documents,
                    "NDCG@10": lambda bill: bill.deployment.choice.ndcg,
                    "speed": lambda bill: bill.speed.basis,
                },
                bills,
                *([f"{more} more, all dearer."] if more else []),
            ),
            Table(
                key="refused",
                title="Deployments that do not meet the question",
                columns=("they", "how many", "for example"),
                rows=refused,
            ),
            tabulate(
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
            ),
        ),
        notes=data_notes(catalogue),
        charts=(Chart(title="The cheapest", kind="bars", x="US dollars a month", series=series),)
        if bills
        else (),
        explained=tuple(line for bill in bills for line in explain(bill)),
        monthly=bills[0].usd if bills else None,
    )
