"""At how many requests a day another way to run is the cheaper one: instances, serverless endpoints, services billed by use.

Both sides answer within the same limits, each by its cheapest deployment at that traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial

from ..bill import Bill, Deployment
from ..catalogue import Service
from ..decide import Decision, Question, service_usd
from ..lines import AtLeast
from ..memory import SERVERLESS_SIZES
from ..sheet import Report, Table, data_notes, shown
from .charts import cost_chart
from .groups import by_model_and_hardware, grouped, why_not
from .sweep import DAYS_PER_MONTH, PER_DAY, Sweep
from .tables import explain_all, money, on, services_table
from .verdict import limits


def breakeven_report(question: Question, services: Sequence[str] = ()) -> Report:
    """What to run by requests a day; from where instances are cheaper than serverless endpoints; from where services are dearer."""
    question = _with_serverless(question)
    sweep, catalogue, traffic = Sweep(question), question.scenario.catalogue, question.scenario.traffic
    here = sweep.at(traffic.requests / DAYS_PER_MONTH).best
    changes = sweep.changes(by_model_and_hardware(catalogue))
    billed = _services(sweep, services)
    return Report(
        title=f"What to run by traffic, {limits(question)}, {traffic.documents} documents of {traffic.tokens} tokens, {', '.join(question.regions)}",
        conclusion=(_here(here, question), *_evens(billed)),
        tables=(_by_traffic(changes), _instances_or_serverless(sweep), billed),
        notes=(
            f"From {PER_DAY[0]:,.0f} to {PER_DAY[-1]:,.0f} requests a day, shaped as this traffic, on at most {question.max_instances} instances, with {question.scenario.confidence:.0%} confidence in speeds.",
            *data_notes(catalogue, question.scenario.discounts, question.scenario.hit_rate),
            *(here.notes if here else ()),
        ),
        charts=(cost_chart(sweep, here),),
        explained=tuple(explain_all(bill for _, bill in changes if bill is not None)),
        monthly=here.usd if here else None,
    )


def _with_serverless(question: Question) -> Question:
    """Serverless endpoints are always compared with, of any size where none was named."""
    if "serverless" in question.modes:
        return question
    sizes = tuple(map(str, SERVERLESS_SIZES)) if question.instances else ()
    return replace(question, modes=(*question.modes, "serverless"), instances=(*question.instances, *sizes))


def _here(best: Bill | None, question: Question) -> str:
    requests = question.scenario.traffic.requests
    rate = f"{requests / DAYS_PER_MONTH:,.0f} requests a day ({requests:,.0f} a month)"
    if best is None:
        return f"Nothing carries {rate} within the limits ({limits(question)})."
    return f"{rate} cost {money(best.usd)} a month on {best.deployment.name}."


def _evens(services: Table) -> tuple[str, ...]:
    column = services.columns.index("dearer from requests/day")
    from_ = [f"{row[0]} from {shown(row[column])}" for row in services.rows if row[column] is not None]
    return (f"Requests a day from which a service is dearer: {'; '.join(from_)}.",) if from_ else ()


def _by_traffic(changes: Sequence[tuple[float, Bill | None]]) -> Table:
    rows = [
        (*_counts(per_day), *(("nothing", "", None, None) if bill is None else _row(bill)))
        for per_day, bill in changes
    ]
    return Table(
        key="traffic",
        title="What to run, from how many requests a day on",
        columns=("requests/day", "requests/month", "run", "on", "USD/month", "p95 s"),
        rows=tuple(rows),
    )


def _row(bill: Bill) -> tuple[object, ...]:
    return bill.deployment.choice.name, on(bill), bill.usd, round(bill.p95, 3)


def _counts(per_day: float | None) -> tuple[int | None, int | None]:
    """Requests a day and a month."""
    return (None, None) if per_day is None else (round(per_day), round(per_day * DAYS_PER_MONTH))


def _least(decision: Decision, keep: Callable[[Deployment], bool]) -> Bill | None:
    return next((bill for bill in decision.bills if keep(bill.deployment)), None)


def _from(sweep: Sweep, dearer: Callable[[Decision], bool | None]) -> tuple[float | None, str]:
    """The requests a day from which it stays dearer; None where there are none, and then why.

    `dearer` says whether the other side is dearer than ours, None where one of them cannot carry the traffic.
    """
    known = [
        (index, found)
        for index, decision in enumerate(sweep.decisions)
        if (found := dearer(decision)) is not None
    ]
    if not known:
        return None, "one of them never meets the limits"
    last, found = known[-1]
    if not found:
        return None, f"not up to {PER_DAY[last]:,.0f} a day"
    below = next((index for index, found in reversed(known) if not found), None)
    if below is None:
        return 0.0, f"at {PER_DAY[known[0][0]]:,.0f} a day already"
    return sweep.first(below + 1, lambda decision: dearer(decision) is True), ""


def _cells(
    sweep: Sweep, per_day: float | None, why: str, unknown: Callable[[Decision], Iterable[str]]
) -> tuple[object, object, str]:
    """Requests a day and a month, lower bounds where from there on lines of ours are `unknown`; and why, or which these are."""
    day, month = _counts(per_day)
    if day is None or month is None or per_day is None:
        return None, None, why
    above = [decision for rate, decision in zip(PER_DAY, sweep.decisions, strict=True) if rate >= per_day]
    names = dict.fromkeys(name for decision in above for name in unknown(decision))
    if not names:
        return day, month, why
    lacks = f"not counted: {', '.join(names)}"
    return AtLeast(Decimal(day)), AtLeast(Decimal(month)), "; ".join(filter(None, (why, lacks)))


def _unknown(decision: Decision) -> Iterable[str]:
    return () if decision.best is None else decision.best.statement.unknown


def _instances_or_serverless(sweep: Sweep) -> Table:
    """For each model, from where its cheapest instance that meets the limits costs less than its cheapest serverless endpoint that does."""
    question = sweep.question
    groups = grouped(question, lambda one: (one.choice.name, one.mode == "serverless"))
    rows = []
    for choice in question.choices:

        def least(decision: Decision, serverless: bool, name: str = choice.name) -> Bill | None:
            return _least(
                decision, lambda one: one.choice.name == name and (one.mode == "serverless") == serverless
            )

        def dearer(decision: Decision) -> bool | None:
            other, ours = least(decision, True), least(decision, False)
            return None if other is None or ours is None else other.usd > ours.usd

        def unknown(decision: Decision) -> list[str]:
            other, ours = least(decision, True), least(decision, False)
            shared = other.statement.unknown if other else {}
            return [name for name in (ours.statement.unknown if ours else ()) if name not in shared]

        lacking = [
            f"{'serverless' if serverless else 'instances'}: {why_not(question, groups.get((choice.name, serverless), []))}"
            for serverless in (False, True)
            if all(least(decision, serverless) is None for decision in sweep.decisions)
        ]
        per_day, why = (None, "; ".join(lacking)) if lacking else _from(sweep, dearer)
        rows.append((choice.name, *_cells(sweep, per_day, why, unknown)))
    return Table(
        key="serverless",
        title="Instances are cheaper than serverless, from how many requests a day on",
        columns=("model", "requests/day", "requests/month", "why"),
        rows=tuple(rows),
        minor=("requests/month",),
    )


def _services(sweep: Sweep, services: Sequence[str]) -> Table:
    scenario = sweep.question.scenario
    table = services_table(scenario.catalogue, scenario.traffic, services)
    chosen = [scenario.catalogue.service(name) for name in services or scenario.catalogue.services]
    found = [_from(sweep, partial(_dearer, service)) for service in chosen]
    columns = (*table.columns, "dearer from requests/day", "requests/month", "why")
    rows = [(*row, *_cells(sweep, *each, _unknown)) for row, each in zip(table.rows, found, strict=True)]
    return replace(table, columns=columns, rows=tuple(rows), minor=(*table.minor, "USD each", "per"))


def _dearer(service: Service, decision: Decision) -> bool | None:
    """Whether a service costs more than what is to be run; None where nothing is."""
    best = decision.best
    return None if best is None else service_usd(service, decision.question.scenario.traffic) > best.usd
