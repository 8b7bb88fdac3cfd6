"""What several reports show: money, the lines of a bill, services billed by use, and where every number comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal

from ..bill import Bill
from ..catalogue import Catalogue, Price
from ..decide import service_usd
from ..lines import CENT, AtLeast, Line, Statement
from ..sheet import Table, shown, tabulate
from ..traffic import Traffic

_MINOR = ("price of", "confidence")


def money(usd: Decimal) -> str:
    """US dollars in a sentence."""
    return f"{shown(usd)} USD"


def cents(usd: Decimal) -> Decimal:
    return usd.quantize(CENT, ROUND_HALF_UP)


def not_counted(statement: Statement) -> str:
    """The names of the lines without a known price."""
    return ", ".join(statement.unknown)


def per_million(bill: Bill) -> Decimal:
    """US dollars for a million documents, a lower bound where the bill is one."""
    each = bill.usd_per_million_documents
    return AtLeast(each) if bill.statement.unknown else each


def on(bill: Bill) -> str:
    """What a bill's deployment runs on, where the model and the region are said elsewhere."""
    run = bill.deployment
    how = "" if run.mode in ("realtime", "serverless") else f"{run.mode} "
    return f"{run.precision} {how}{run.hardware}"


def lines_table(title: str, statement: Statement) -> Table:
    """Line items, those without a known price, and the total in the last row."""
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
        statement.lines.values(),
    )
    unknown = [(name, None, "", None, None, "", "not known", why) for name, why in statement.unknown.items()]
    last = ("total", None, "", None, statement.usd, "", "", not_counted(statement))
    return replace(
        table,
        columns=(*table.columns, "not counted"),
        rows=(*((*row, "") for row in table.rows), *unknown, last),
        minor=(*_MINOR, "not counted") if unknown else _MINOR,
    )


def services_table(catalogue: Catalogue, traffic: Traffic, services: Sequence[str]) -> Table:
    """The same traffic at services billed by use: those named, or all that are known. Raises CostError for others."""
    table = tabulate(
        "services",
        "Services billed by use: the same traffic there",
        {
            "service": lambda service: service.title,
            "USD each": lambda service: service.price.usd,
            "per": lambda service: service.per,
            "USD/month": lambda service: service_usd(service, traffic),
            "price of": lambda service: service.price.date,
            "confidence": lambda service: service.price.confidence,
        },
        [catalogue.service(name) for name in services or catalogue.services],
        "They rank with other models: compare quality on your own data. Put your own price in with --price NAME=USD.",
    )
    return replace(table, minor=_MINOR)


def explain(bill: Bill) -> list[str]:
    """Where every number of a bill comes from."""
    pace, running = bill.speed, bill.running
    count = (
        f"{running.mean:.2f} workers busy on average"
        if bill.deployment.mode == "serverless"
        else f"{running.mean:.2f} instances on average, {running.peak} at most, in use for {running.utilisation:.1%} of their time"
    )
    return [
        f"{bill.deployment.name}: a request alone takes {pace.seconds:.4f} s ({pace.low:.4f} to {pace.high:.4f}), {pace.basis}: {pace.why}.",
        *explain_known(bill),
        f"  p50 {bill.p50:.3f}, p95 {bill.p95:.3f}, p99 {bill.p99:.3f} s (the request's own time, Erlang's C for those that wait, and the minutes that are behind); {count}",
        *(explain_line(line, bill.scenario.catalogue) for line in bill.lines),
        *(f"  {note}" for note in bill.notes),
    ]


def explain_known(bill: Bill) -> list[str]:
    """What requests take whose scores are known, where some are."""
    if not bill.hit_rate:
        return []
    pace = bill.speed
    return [
        f"  {bill.hit_rate:.0%} of the requests are known and take {pace.beside * pace.seconds:.4f} s, for HTTP, JSON and tokenisation alone: in the mean {bill.seconds:.4f} s"
    ]


def explain_line(line: Line, catalogue: Catalogue) -> str:
    """The arithmetic of a line, and the source of its price."""
    return f"  {line.name}: {line.quantity:.3f} {line.unit} x {line.price.usd} USD = {line.usd} USD; {price_source(line.price, catalogue)}"


def price_source(price: Price, catalogue: Catalogue) -> str:
    """Of when a price is, how sure, and who says so."""
    return f"price of {price.date} ({price.confidence}): {catalogue.sources.get(price.source, price.source)}"


def explain_all(bills: Iterable[Bill]) -> list[str]:
    """The explanations of bills, each deployment's once."""
    return [line for bill in {bill.deployment: bill for bill in bills}.values() for line in explain(bill)]
