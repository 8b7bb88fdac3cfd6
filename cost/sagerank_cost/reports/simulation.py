"""A simulated month, beside what the formulas say."""

from __future__ import annotations

import numpy as np

from ..sheet import Chart, Report, Series, Table, data_notes, shown
from ..simulate import Simulated
from ..traffic import MINUTES_PER_DAY
from .tables import explain_known, explain_line, lines_table


def simulation_report(simulated: Simulated, seed: int) -> Report:
    """What happened in the month, its bill, and its first days by the hour."""
    outcome, formula = simulated.outcome, simulated.formula
    deployment, scenario = formula.deployment, formula.scenario
    serverless = deployment.mode == "serverless"
    p50, p95, p99 = (outcome.latencies.quantile(share) for share in (0.5, 0.95, 0.99))
    minutes = len(outcome.arrivals)
    expected = f"{scenario.traffic.mean * 60 * minutes:,.0f}"
    late = "-" if deployment.mode == "async" else f"{outcome.late:,}"
    in_use = (
        ("-", "-") if serverless else (f"{outcome.utilisation:.1%}", f"{formula.running.utilisation:.1%}")
    )
    instances, peak = outcome.instances, formula.running.peak
    if serverless:
        counts = f"{instances.max()}", f"{peak}"
    else:
        counts = (
            f"{instances.mean():.2f} (peak {instances.max()})",
            f"{formula.running.mean:.2f} (peak {peak})",
        )
    rows = (
        (f"requests in {minutes:,} minutes", f"{outcome.arrived:,}", expected),
        ("served", f"{outcome.served:,}", ""),
        ("refused (no worker free)", f"{outcome.refused:,}", ""),
        ("longer than 60 s (an error at SageMaker)", late, ""),
        ("cold starts", f"{outcome.cold_starts:,}" if serverless else "-", ""),
        ("p50, seconds", f"{p50:.3f}", f"{formula.p50:.3f}"),
        ("p95, seconds", f"{p95:.3f}", f"{formula.p95:.3f}"),
        ("p99, seconds", f"{p99:.3f}", f"{formula.p99:.3f}"),
        ("mean wait, seconds", f"{outcome.mean_wait:.3f}", ""),
        ("workers at the peak" if serverless else "instances, mean", *counts),
        ("utilisation", *in_use),
        ("USD a month", shown(simulated.usd), shown(formula.usd)),
    )
    note = "The formula's latencies are those of the busiest hour, the simulation's of all requests (serverless, asynchronous: both of all)."
    return Report(
        title=f"A simulated month of {deployment.name}: {scenario.traffic.name}, seed {seed}",
        tables=(
            Table(
                key="outcome",
                title="What happened",
                columns=("", "simulated", "formula"),
                rows=rows,
                notes=(note,),
            ),
            lines_table("The bill: the simulated month", simulated.statement),
            _first_day(simulated),
        ),
        conclusion=(
            f"{deployment.name} costs {simulated.usd:,} USD a month, p95 {p95:.3f} s; {outcome.refused + outcome.late:,} of {outcome.arrived:,} requests fail.",
        ),
        notes=(*data_notes(scenario.catalogue, scenario.discounts, scenario.hit_rate), *formula.notes),
        charts=_timelines(simulated),
        explained=(
            f"{deployment.name}: a request alone takes {formula.speed.seconds:.4f} s, {formula.speed.basis}: {formula.speed.why}.",
            *explain_known(formula),
            *(explain_line(line, scenario.catalogue) for line in simulated.statement.lines.values()),
        ),
        monthly=simulated.usd,
    )


def _first_day(simulated: Simulated) -> Table:
    outcome, workers = simulated.outcome, _workers(simulated)
    rows = []
    for hour in range(min(24, len(outcome.arrivals) // 60)):
        arrivals, instances = (
            counts[60 * hour : 60 * hour + 60] for counts in (outcome.arrivals, outcome.instances)
        )
        requests = round(float(arrivals.mean()) / 60, 3)
        rows.append((hour, requests, round(float(instances.mean()), 2), int(instances.max())))
    columns = ("hour", "requests/s", f"{workers}, mean", f"{workers}, most")
    return Table(
        key="timeline", title="The first day: hour by hour", columns=columns, rows=tuple(rows), detail=True
    )


def _timelines(simulated: Simulated) -> tuple[Chart, ...]:
    """The first two days by the quarter of an hour; nothing where the simulation is shorter than that quarter."""
    minutes = min(len(simulated.outcome.arrivals), 2 * MINUTES_PER_DAY) // 15 * 15
    if not minutes:
        return ()
    hours = tuple(float(hour) for hour in np.arange(minutes // 15) / 4)
    requests = simulated.outcome.arrivals[:minutes].reshape(-1, 15).mean(axis=1) / 60
    instances = simulated.outcome.instances[:minutes].reshape(-1, 15).mean(axis=1)
    workers = _workers(simulated)
    return tuple(
        Chart(
            title=f"{title}, the first two days",
            kind="lines",
            x="hours",
            y=label,
            series=(Series("", hours, tuple(map(float, values))),),
        )
        for title, label, values in (
            ("Requests", "requests a second", requests),
            (workers.capitalize(), workers, instances),
        )
    )


def _workers(simulated: Simulated) -> str:
    return "workers" if simulated.formula.deployment.mode == "serverless" else "instances"
