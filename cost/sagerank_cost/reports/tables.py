"""What several reports show: the lines of a bill, services billed by use, and where every number comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..bill import Bill
from ..catalogue import Catalogue
from ..decide import break_even, curve, service_usd
from ..lines import Line, total
from ..sheet import Table, tabulate

_MINOR = ("price of", "confidence")


def lines_table(title: str, lines: Iterable[Line]) -> Table:
    """Line items, with their total in the last row."""
    lines = tuple(lines)
    table = tabulate(
        "lines",
        title,
        {
            "item": lambda line: line.name,
            "quantity": lambda line: round(line.quantity, 3),
            "unit": lambda line: line.unit,
            "USD each": lambda line: line.price.usd,
            "USD/month": lambda line: line.usd,
            "price of": lambda line: line.price.date,
            "confidence": lambda line: line.price.confidence,
        },
        lines,
    )
    rows = (*table.rows, ("total", None, "", None, total(lines), "", ""))
    return replace(table, rows=rows, minor=_MINOR)


def services_table(best: Bill, services: Sequence[str]) -> Table:
    """The bill's traffic at services billed by use: those named, or all that are known. Raises CostError for others."""
    scenario = best.scenario
    known = curve(best.deployment, scenario)
    chosen = [scenario.catalogue.service(name) for name in services or scenario.catalogue.services]
    evens = {service.name: break_even(best.deployment, service, scenario, known) for service in chosen}
    table = tabulate(
        "services",
        "Services billed by use: the same traffic there",
        {
            "service": lambda service: service.title,
            "USD each": lambda service: service.price.usd,
            "per": lambda service: service.per,
            "USD/month": lambda service: service_usd(service, scenario.traffic),
            "dearer from requests/month": lambda service: evens[service.name],
            "price of": lambda service: service.price.date,
            "confidence": lambda service: service.price.confidence,
        },
        chosen,
        "They rank with other models: compare quality on your own data. Put your own price in with --price NAME=USD.",
    )
    return replace(table, minor=_MINOR)


def explain(bill: Bill) -> list[str]:
    """Where every number of a bill comes from."""
    pace = bill.speed
    return [
        f"{bill.deployment.name}: a request alone takes {pace.seconds:.4f} s ({pace.low:.4f} to {pace.high:.4f}), {pace.basis}: {pace.why}.",
        f"  in the busiest hour p50 {bill.p50:.3f}, p95 {bill.p95:.3f}, p99 {bill.p99:.3f} s (Erlang C, M/G/c); {bill.running.mean:.2f} instances on average, {bill.running.peak} at most",
        *(explain_line(line, bill.scenario.catalogue) for line in bill.lines),
        *(f"  {note}" for note in bill.notes),
    ]


def explain_line(line: Line, catalogue: Catalogue) -> str:
    """The arithmetic of a line, and the source of its price."""
    source = catalogue.sources.get(line.price.source, line.price.source)
    return f"  {line.name}: {line.quantity:.3f} {line.unit} x {line.price.usd} USD = {line.usd} USD; price of {line.price.date} ({line.price.confidence}): {source}"
