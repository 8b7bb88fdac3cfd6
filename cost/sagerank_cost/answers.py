"""The other reports: deployments side by side, a simulated month, and break-even."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .catalogue import Catalogue
from .decide import Curve, Decision, Question, break_even, curve, decide, monthly_usd
from .deploy import Bill, Deployment
from .memory import SERVERLESS_SIZES
from .models import Choice
from .report import explain, explain_line, lines_table, services_table
from .sheet import Chart, Report, Series, Table, data_notes
from .simulate import Simulated
from .throughput import measurements
from .traffic import MINUTES_PER_DAY


def compare_report(question: Question, catalogue: Catalogue, most: int = 30) -> Report:
    """All feasible deployments, cheapest first, and why the others are not."""
    decision = decide(question, catalogue)
    bills = decision.bills[:most]
    columns = (
        "deployment",
        "USD/month",
        "p50 s",
        "p95 s",
        "p99 s",
        "utilisation",
        "instances",
        "USD/M documents",
        "NDCG@10",
        "speed",
    )
    more = len(decision.bills) - len(bills)
    return Report(
        f"Deployments for {question.traffic.name}, {question.traffic.documents} documents of {question.traffic.tokens} tokens",
        (
            Table(
                "deployments",
                "Feasible, cheapest first",
                columns,
                tuple(map(_row, bills)),
                (f"{more} more, all dearer.",) if more else (),
            ),
            _refused(decision),
            _throughput(catalogue),
        ),
        (),
        data_notes(catalogue),
        (_cheapest(bills),) if bills else (),
        tuple(line for item in bills for line in explain(item, catalogue)),
        bills[0].usd if bills else None,
    )


def _row(item: Bill) -> tuple[object, ...]:
    return (
        item.deployment.name,
        item.usd,
        round(item.p50, 3),
        round(item.p95, 3),
        round(item.p99, 3),
        round(item.utilisation, 3),
        round(item.instances_mean, 2),
        item.usd_per_million_documents,
        item.deployment.choice.ndcg,
        item.speed.kind,
    )


def _cheapest(bills: Sequence[Bill]) -> Chart:
    series = tuple(Series(item.deployment.name, (), (float(item.usd),)) for item in bills[:12])
    return Chart("The cheapest", "bars", "US dollars a month", "", series)


def _refused(decision: Decision) -> Table:
    rows = tuple((reason, count, decision.examples[reason]) for reason, count in decision.refused.items())
    return Table(
        "refused", "Deployments that do not meet the question", ("they", "how many", "for example"), rows
    )


def _throughput(catalogue: Catalogue) -> Table:
    """What is measured: everything else is an estimate."""
    rows = tuple(
        (
            row.model,
            row.precision,
            row.instance,
            row.documents,
            row.tokens,
            row.seconds,
            round(0.05 * row.documents / row.seconds, 1),
            row.kind,
            row.date,
        )
        for row in measurements(catalogue.folder)
    )
    columns = (
        "model",
        "precision",
        "instance",
        "documents",
        "tokens",
        "seconds",
        "documents per 50 ms",
        "kind",
        "date",
    )
    note = "`sagerank cost measure --endpoint NAME --instance TYPE --model NAME` adds a row, which then replaces the estimate."
    return Table("throughput", "Measured requests", columns, rows, (note,))


def simulation_report(simulated: Simulated, catalogue: Catalogue, seed: int) -> Report:
    """A month as it was simulated, beside what the formula says."""
    outcome, formula = simulated.outcome, simulated.formula
    deployment = formula.deployment
    serverless = deployment.mode == "serverless"
    p50, p95, p99 = (outcome.latencies.quantile(share) for share in (0.5, 0.95, 0.99))
    minutes = len(outcome.arrivals)
    late = "-" if deployment.mode == "async" else f"{outcome.late:,}"
    rows = (
        (
            f"requests in {minutes:,} minutes",
            f"{outcome.arrived:,}",
            f"{formula.traffic.mean * 60 * minutes:,.0f}",
        ),
        ("served", f"{outcome.served:,}", ""),
        ("refused (no worker free)", f"{outcome.refused:,}", ""),
        ("longer than 60 s (an error at SageMaker)", late, ""),
        ("cold starts", f"{outcome.cold_starts:,}" if serverless else "-", ""),
        ("p50, seconds", f"{p50:.3f}", f"{formula.p50:.3f}"),
        ("p95, seconds", f"{p95:.3f}", f"{formula.p95:.3f}"),
        ("p99, seconds", f"{p99:.3f}", f"{formula.p99:.3f}"),
        ("mean wait, seconds", f"{outcome.mean_wait:.3f}", ""),
        ("workers at the peak" if serverless else "instances, mean", *_instances(simulated)),
        (
            "utilisation",
            "-" if serverless else f"{outcome.utilisation:.1%}",
            "-" if serverless else f"{formula.utilisation:.1%}",
        ),
        ("USD a month", f"{simulated.usd:,}", f"{formula.usd:,}"),
    )
    note = "The formula's latencies are those of the busiest minute, with instances there in time; the simulation's are of all requests, with instances as alarms bring them."
    return Report(
        f"A simulated month of {deployment.name}: {formula.traffic.name}, seed {seed}",
        (
            Table("outcome", "What happened", ("", "simulated", "formula"), rows, (note,)),
            lines_table("The bill of the simulated month", simulated.lines),
            _first_day(simulated),
        ),
        (
            f"{deployment.name} costs {simulated.usd:,} USD a month, p95 {p95:.3f} s; {outcome.refused + outcome.late:,} of {outcome.arrived:,} requests fail.",
        ),
        (*data_notes(catalogue), *formula.notes),
        _timelines(simulated),
        (
            f"{deployment.name}: a request alone takes {formula.speed.seconds:.4f} s, {formula.speed.kind}: {formula.speed.why}.",
            *(explain_line(line, catalogue) for line in simulated.lines),
        ),
        simulated.usd,
    )


def _instances(simulated: Simulated) -> tuple[str, str]:
    instances = simulated.outcome.instances
    if simulated.formula.deployment.mode == "serverless":
        return f"{instances.max()}", f"{simulated.formula.instances_peak}"
    return (
        f"{instances.mean():.2f} (peak {instances.max()})",
        f"{simulated.formula.instances_mean:.2f} (peak {simulated.formula.instances_peak})",
    )


def _first_day(simulated: Simulated) -> Table:
    outcome = simulated.outcome
    hours = min(24, len(outcome.arrivals) // 60)
    rows = []
    for hour in range(hours):
        minutes = slice(60 * hour, 60 * hour + 60)
        mean = round(float(outcome.instances[minutes].mean()), 2)
        rows.append(
            (
                hour,
                round(float(outcome.arrivals[minutes].mean()) / 60, 3),
                mean,
                int(outcome.instances[minutes].max()),
            )
        )
    what = "workers" if simulated.formula.deployment.mode == "serverless" else "instances"
    columns = ("hour", "requests/s", f"{what}, mean", f"{what}, most")
    return Table("timeline", "The first day, by the hour", columns, tuple(rows))


def _timelines(simulated: Simulated) -> tuple[Chart, ...]:
    """Of the first two days, by the quarter of an hour."""
    minutes = min(len(simulated.outcome.arrivals), 2 * MINUTES_PER_DAY) // 15 * 15
    if not minutes:
        return ()
    hours = tuple(float(hour) for hour in np.arange(minutes // 15) / 4)
    requests = simulated.outcome.arrivals[:minutes].reshape(-1, 15).mean(axis=1) / 60
    instances = simulated.outcome.instances[:minutes].reshape(-1, 15).mean(axis=1)
    what = "workers" if simulated.formula.deployment.mode == "serverless" else "instances"
    return (
        Chart(
            "Requests, the first two days",
            "lines",
            "hours",
            "requests a second",
            (Series("", hours, tuple(map(float, requests))),),
        ),
        Chart(
            f"{what.capitalize()}, the first two days",
            "lines",
            "hours",
            what,
            (Series("", hours, tuple(map(float, instances))),),
        ),
    )


def breakeven_report(
    item: Bill, question: Question, catalogue: Catalogue, services: Sequence[str] = ()
) -> Report:
    """From how many requests a month the deployment is the cheaper one, against serverless and services billed by use."""
    deployment, tokens = item.deployment, question.tokens_at_once
    known = curve(deployment, item.traffic, catalogue, tokens)
    choices = dict.fromkeys((deployment.choice, *question.choices)) if deployment.mode != "serverless" else ()
    others = [
        other for choice in choices if (other := _serverless(choice, item, catalogue, tokens)) is not None
    ]
    evens = [
        (other, break_even(deployment, other, item.traffic, catalogue, tokens, known)) for other in others
    ]
    rows = tuple((other.name, None if even is None else round(even)) for other, even in evens)
    curves = [known, *(curve(other, item.traffic, catalogue, tokens) for other in others[:1])]
    curves += [
        curve(catalogue.service(name), item.traffic, catalogue, tokens)
        for name in services or catalogue.services
    ]
    return Report(
        f"From how many requests a month {deployment.name} is cheaper",
        (
            services_table(item, catalogue, services, tokens),
            Table(
                "serverless",
                "Serverless endpoints, of the smallest size that holds the model and answers within 60 s",
                ("serverless", "dearer from requests/month"),
                rows,
                (
                    "- : it stays cheaper, or our deployment cannot carry the traffic at any size of the fleet.",
                ),
            ),
        ),
        (f"{item.traffic.requests:,.0f} requests a month cost {item.usd:,} USD on {deployment.name}.",),
        (*data_notes(catalogue), *item.notes),
        (
            Chart(
                "Monthly cost by requests a month",
                "lines",
                "requests a month",
                "US dollars a month",
                tuple(map(_series, curves)),
                "xy",
            ),
        ),
        tuple(explain(item, catalogue)),
        item.usd,
    )


def _series(line: Curve) -> Series:
    known = [(count, float(usd)) for count, usd in zip(line.requests, line.usd, strict=True) if usd]
    return Series(line.name, tuple(count for count, _ in known), tuple(usd for _, usd in known))


def _serverless(choice: Choice, item: Bill, catalogue: Catalogue, tokens: int) -> Deployment | None:
    """The smallest that holds the choice and answers within the time there is."""
    for size in SERVERLESS_SIZES:
        other = Deployment(choice, "fp32", "serverless", item.deployment.region, str(size))
        if (
            monthly_usd(other, item.traffic.scaled(1000 / item.traffic.requests), catalogue, tokens)
            is not None
        ):
            return other
    return None
