"""From how many requests a month a deployment is the cheaper one, against serverless and services billed by use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..bill import Bill, Deployment
from ..catalogue import Service
from ..decide import Curve, Question, break_even, curve, monthly_usd
from ..memory import SERVERLESS_SIZES
from ..models import Choice
from ..sheet import Chart, Report, Series, Table, data_notes
from .tables import explain, services_table


def breakeven_report(bill: Bill, question: Question, services: Sequence[str] = ()) -> Report:
    """The bill's deployment against serverless endpoints of the question's models, and services: those named, or all."""
    deployment, scenario = bill.deployment, bill.scenario
    known = curve(deployment, scenario)
    choices = dict.fromkeys((deployment.choice, *question.choices)) if deployment.mode != "serverless" else ()
    others = [other for choice in choices if (other := _serverless(choice, bill)) is not None]
    rows = tuple((other.name, break_even(deployment, other, scenario, known)) for other in others)
    subjects: list[Service | Deployment] = [*others[:1]]
    subjects += map(scenario.catalogue.service, services or scenario.catalogue.services)
    services_billed = services_table(bill, services)
    curves = [known, *(curve(subject, scenario) for subject in subjects)]
    return Report(
        title=f"From how many requests a month {deployment.name} is cheaper",
        tables=(
            services_billed,
            Table(
                key="serverless",
                title="Serverless endpoints, of the smallest size that holds the model and answers within 60 s",
                columns=("serverless", "dearer from requests/month"),
                rows=rows,
                notes=(
                    "- : it stays cheaper, or our deployment cannot carry the traffic at any size of the fleet.",
                ),
            ),
        ),
        conclusion=(
            f"{scenario.traffic.requests:,.0f} requests a month cost {bill.usd:,} USD on {deployment.name}.",
            *_evens(services_billed),
        ),
        notes=(*data_notes(scenario.catalogue), *bill.notes),
        charts=(
            Chart(
                title="Monthly cost by requests a month",
                kind="lines",
                x="requests a month",
                y="US dollars a month",
                series=tuple(map(_series, curves)),
                log="xy",
                money="y",
            ),
        ),
        explained=tuple(explain(bill)),
        monthly=bill.usd,
    )


def _evens(services: Table) -> Iterator[str]:
    column = services.columns.index("dearer from requests/month")
    from_ = [f"{row[0]} from {row[column]:,}" for row in services.rows if row[column] is not None]
    if from_:
        yield f"Requests a month from which a service is dearer: {'; '.join(from_)}."


def _series(line: Curve) -> Series:
    known = [(count, float(usd)) for count, usd in zip(line.requests, line.usd, strict=True) if usd]
    return Series(line.name, tuple(count for count, _ in known), tuple(usd for _, usd in known))


def _serverless(choice: Choice, bill: Bill) -> Deployment | None:
    """The smallest serverless endpoint that holds the choice and answers within the time there is."""
    for size in SERVERLESS_SIZES:
        other = Deployment(
            choice=choice,
            precision="fp32",
            mode="serverless",
            region=bill.deployment.region,
            instance=str(size),
        )
        if monthly_usd(other, bill.scenario.with_requests(1000)) is not None:
            return other
    return None
