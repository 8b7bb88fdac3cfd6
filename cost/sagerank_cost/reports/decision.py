"""What to run and what it costs; the models side by side; and what each costs on CPU, GPU and serverless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from ..bill import Bill
from ..decide import Decision, Question, compared, service_usd
from ..doubt import answer
from ..lines import AtLeast
from ..sheet import Report, Table, data_notes, tabulate
from .announcement import saving_table
from .charts import cost_chart, quality_chart
from .groups import DEAR, best_of, by_model, by_model_and_hardware, grouped, too_dear, why_not
from .holding import explain_kept, formula_error, kept
from .models import models_table
from .sweep import Sweep
from .tables import explain_all, lines_table, money, not_counted, on, per_million, services_table
from .verdict import decision_table, verdict

# Shares that buyers report, and the most AWS states ("up to 64 %"); no rate per instance type is known.
SAVINGS_PLANS = (20, 40, 64)


def decision_report(question: Question, services: Sequence[str] = (), *, charts: bool = True) -> Report:
    """The cheapest that meets the question's limits, and what it rests on. Charts take a second more."""
    found = answer(question)
    decision, catalogue, traffic = found.decision, question.scenario.catalogue, question.scenario.traffic
    best = decision.best
    choices = sorted(question.choices, key=lambda choice: (len(choice.stages) > 1, -choice.parameters))
    models = kept(question, choices)  # the largest first, and cascades last
    cheapest, hardware = best_of(decision, by_model), best_of(decision, by_model_and_hardware(catalogue))
    tables = [
        decision_table(found),
        models_table(question, found, models),
        saving_table(question, cheapest),
        _comparison(question, decision, hardware),
    ]
    details = [_pareto(decision)]
    if best is not None:
        details += [lines_table(f"The bill: {best.deployment.name}", best.statement), _savings(best)]
    details.append(services_table(catalogue, traffic, services))
    explained = [formula_error(catalogue)]
    explained += [
        line for model in models for line in explain_kept(model, question.scenario.tokens_at_once, catalogue)
    ]
    explained += explain_all(
        [*filter(None, [best]), *cheapest.values(), *hardware.values(), *found.int8.values()]
    )
    return Report(
        title=f"The cost of {traffic.name}, {traffic.documents} documents of {traffic.tokens} tokens, {', '.join(question.regions)}",
        tables=(*tables, *(replace(table, detail=True) for table in details)),
        conclusion=verdict(question, found),
        command=found.switch.measure if found.switch else "",
        notes=(
            *_others(decision),
            *([_elsewhere(best, services)] if best else ()),
            *data_notes(catalogue, question.scenario.discounts, question.scenario.hit_rate),
            *(best.notes if best else ()),
        ),
        charts=(cost_chart(Sweep(question), best), quality_chart(hardware, best)) if charts else (),
        explained=tuple(explained),
        monthly=best.usd if best else None,
    )


def _comparison(question: Question, decision: Decision, hardware: dict[tuple[str, str], Bill]) -> Table:
    """The best of each model on each hardware, or why there is none. People are not shown what nobody would buy."""
    catalogue = question.scenario.catalogue
    rows: list[tuple[object, ...]] = []
    dear: list[tuple[object, ...]] = []
    for (model, name), deployments in grouped(question, by_model_and_hardware(catalogue)).items():
        bill, quality = hardware.get((model, name)), deployments[0].choice.ndcg
        if bill is None:
            nothing = (None, None, None, None, quality, None, "")
            rows.append((model, name, f"none: {why_not(question, deployments)}", *nothing))
            continue
        peak = None if bill.deployment.mode == "serverless" else bill.running.peak
        cells = (on(bill), bill.usd, round(bill.p95, 3), peak, per_million(bill))
        rows.append((model, name, *cells, quality, bill.speed.basis, not_counted(bill.statement)))
        if too_dear(bill, decision):
            dear.append(rows[-1])
    first = ("model", "on", "cheapest", "USD/month", "p95 s")
    notes = [
        f"p95 s: with {question.scenario.confidence:.0%} confidence in speeds, which are estimated from arithmetic unless measured; --explain shows how, and between what bounds."
    ]
    table = Table(
        key="comparison",
        title="What each model costs on each kind of hardware",
        columns=(*first, "peak instances", "USD/M documents", "NDCG@10", "speed", "not counted"),
        rows=tuple(rows),
        notes=tuple(notes),
        minor=("peak instances", "USD/M documents", "speed"),
    )
    if not dear:
        return table
    cut = f"Not shown: {len(dear)} that cost more than {DEAR} times what is recommended, and are not the cheapest of their model."
    kept_rows = tuple(row for row in rows if row not in dear)
    return replace(table, shown_as=replace(table, rows=kept_rows, notes=(*notes, cut)))


def _pareto(decision: Decision) -> Table:
    front = decision.pareto()
    return tabulate(
        "pareto",
        "Pareto front: nothing here is beaten in quality, latency and cost at once",
        {
            "model": lambda bill: bill.deployment.choice.name,
            "deployment": lambda bill: f"{bill.deployment.precision} {bill.deployment.hardware}",
            "region": lambda bill: bill.deployment.region,
            "USD/month": lambda bill: bill.usd,
            "p95 s": lambda bill: round(bill.p95, 3),
            "NDCG@10": lambda bill: bill.deployment.choice.ndcg,
        },
        front[:10],
        *([f"{len(front) - 10} more, all dearer."] if len(front) > 10 else []),
    )


def _savings(best: Bill) -> Table:
    """A what-if: the same bill with a larger savings plan than was asked for, and all other discounts after it."""
    scenario, rows = best.scenario, []
    for percent in SAVINGS_PLANS:
        plan = replace(scenario.discounts, savings_plan=Decimal(percent))
        usd = compared(replace(best, scenario=replace(scenario, discounts=plan)), frozenset())
        saved = usd - Decimal(best.usd)
        if saved < 0:
            rows.append((f"{percent} %", saved, AtLeast(usd) if best.statement.unknown else usd))
    return Table(
        key="savings",
        title="Savings plans: what if one covered the instance hours",
        columns=("discount", "saved USD", "USD/month"),
        rows=tuple(rows),
        notes=(
            "AWS says up to 64 %; buyers report 20 to 65 %. Rates by type were not found, so these are assumptions.",
            "There is no spot price for endpoints, and serverless is not known to be covered.",
        ),
    )


def _elsewhere(best: Bill, services: Sequence[str]) -> str:
    """Owning a reranker may not be the cheaper way."""
    catalogue, traffic = best.scenario.catalogue, best.scenario.traffic
    chosen = map(catalogue.service, services or catalogue.services)
    usd, title = min((service_usd(service, traffic), service.title) for service in chosen)
    more = "perhaps more" if isinstance(best.usd, AtLeast) else "more"
    than = "less" if usd < best.usd else more
    return f"The cheapest service billed by use costs {than}: {title}, {money(usd)}, with another model."


def _others(decision: Decision) -> tuple[str, ...]:
    """How many deployments there were to choose from, and why others were none."""
    if not decision.refused:
        return ()
    refused = ", ".join(f"{count} {reason}" for reason, count in decision.refused.items())
    return (f"Deployments that meet the limits: {len(decision.bills)}. Of those that do not, {refused}.",)
