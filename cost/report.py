"""Reports as plain tables: built once here, written in five forms by render.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from .catalogue import STALE_DAYS, Catalogue
from .decide import Decision, Question, break_even, decide, service_usd
from .deploy import Bill
from .memory import SERVER_MB, copy_mb, fit, measured, peak_mb, serverless_mb, weights_mb
from .models import MODELS, Choice


@dataclass(frozen=True, slots=True)
class Table:
    """key names the table in JSON and CSV. Cells are text, numbers or None (not known)."""

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bars:
    """A chart: label -> value."""

    title: str
    unit: str
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Report:
    title: str
    tables: tuple[Table, ...]
    conclusion: tuple[str, ...]
    notes: tuple[str, ...]
    charts: tuple[Bars, ...] = field(default=())
    explained: tuple[str, ...] = field(default=())


def data_notes(catalogue: Catalogue) -> tuple[str, ...]:
    age = catalogue.age_days()
    line = f"Hosting prices of {catalogue.date().isoformat()} ({age} days old), US dollars, without tax and discounts."
    stale = (
        f"WARNING: prices are older than {STALE_DAYS} days: run `sagerank cost refresh`."
        if age > STALE_DAYS
        else ""
    )
    return tuple(part for part in (line, stale) if part)


def decision_report(question: Question, catalogue: Catalogue, *, services: Sequence[str] = ()) -> Report:
    """The comparison of the question's models on CPU, GPU and serverless, and the cheapest that meets its limits."""
    decision = decide(question, catalogue)
    groups: dict[str, Callable[[Bill, Catalogue], bool]] = {
        "CPU": _is_cpu,
        "GPU": _is_gpu,
        "serverless": lambda bill, _: bill.deployment.mode == "serverless",
        "async": lambda bill, _: bill.deployment.mode == "async",
    }
    rows: list[tuple[object, ...]] = []
    shown: list[Bill] = []
    for choice in question.choices:
        for group, belongs in groups.items():
            found = next(
                (
                    item
                    for item in decision.bills
                    if item.deployment.choice == choice and belongs(item, catalogue)
                ),
                None,
            )
            if found is None:
                if (group == "serverless" and "serverless" not in question.modes) or (
                    group == "async" and "async" not in question.modes
                ):
                    continue
                rows.append(
                    (choice.name, group, "nothing meets the limits", None, None, None, None, choice.ndcg, "")
                )
                continue
            shown.append(found)
            rows.append(
                (
                    choice.name,
                    group,
                    f"{found.deployment.precision} {_place(found)}",
                    found.usd,
                    round(found.p95, 3),
                    found.instances_peak if found.deployment.mode != "serverless" else None,
                    found.usd_per_million_documents,
                    choice.ndcg,
                    found.speed.kind,
                )
            )
    columns = (
        "model",
        "on",
        "cheapest",
        "USD/month",
        "p95 s",
        "instances",
        "USD/M documents",
        "NDCG@10",
        "speed",
    )
    tables = [
        _memory_table(question),
        Table("comparison", "Cheapest deployment of each model", columns, tuple(rows)),
    ]
    front = decision.pareto()
    tables.append(
        Table(
            "pareto",
            "Pareto front: nothing here is beaten in quality, latency and cost at once",
            ("model", "deployment", "USD/month", "p95 s", "NDCG@10"),
            tuple(
                (
                    item.deployment.choice.name,
                    f"{item.deployment.precision} {_place(item)}",
                    item.usd,
                    round(item.p95, 3),
                    item.deployment.choice.ndcg,
                )
                for item in front[:12]
            ),
            (f"{len(front) - 12} more, all dearer.",) if len(front) > 12 else (),
        )
    )
    best = decision.best
    if best is not None:
        tables.append(_lines_table(best))
        tables.append(_services_table(best, question, catalogue, services))
    charts = (
        Bars(
            "USD a month, cheapest of each model",
            "USD",
            tuple((f"{row[0]} {row[1]}", float(row[3])) for row in rows if isinstance(row[3], Decimal)),
        ),
    )
    return Report(
        f"sagerank cost: {question.traffic.name}, {question.traffic.documents} documents of {question.traffic.tokens} tokens, {', '.join(question.regions)}",
        tuple(tables),
        _conclusion(decision),
        (*data_notes(catalogue), *(best.notes if best else ())),
        charts,
        tuple(line for item in shown for line in explain(item, catalogue)),
    )


def _is_cpu(bill: Bill, catalogue: Catalogue) -> bool:
    return bill.deployment.mode == "realtime" and not catalogue.instance(bill.deployment.instance).gpu


def _is_gpu(bill: Bill, catalogue: Catalogue) -> bool:
    return bill.deployment.mode == "realtime" and bool(catalogue.instance(bill.deployment.instance).gpu)


def _place(bill: Bill) -> str:
    return (
        f"serverless {int(bill.deployment.instance) // 1024} GB"
        if bill.deployment.mode == "serverless"
        else bill.deployment.instance
    )


def _memory_table(question: Question) -> Table:
    base = MODELS["base"]
    rows = []
    for choice in question.choices:
        model = choice.stages[-1]
        stored = sum(weights_mb(stage, "fp32") for stage in choice.stages)
        process = copy_mb(choice, "fp32", question.tokens_at_once)
        rows.append(
            (
                choice.name,
                round(sum(stage.parameters for stage in choice.stages) / 1e6, 1),
                round(stored, 1),
                f"{stored / weights_mb(base, 'fp32') - 1:+.0%}" if model is not base else "",
                round(process),
                f"{process / peak_mb(base, 'fp32', question.tokens_at_once) - 1:+.0%}"
                if choice.name != "base"
                else "",
                serverless_mb(choice, "fp32", question.tokens_at_once),
            )
        )
    points = measured()
    worst = max((abs(point.error) for point in points), default=None)
    checked = (
        f"The formula against {len(points)} measured peaks: at most {worst:.0%} off."
        if worst is not None
        else "The formula has not been measured here."
    )
    tiny, turbo = MODELS["tiny"], MODELS["turbo"]
    return Table(
        "memory",
        f"Memory (16-bit weights, fp32 arithmetic on a CPU, one pair of {question.tokens_at_once:,} tokens)",
        (
            "model",
            "M parameters",
            "weights MB",
            "against base",
            "process MB",
            "against base ",
            "serverless MB",
        ),
        tuple(rows),
        (
            checked,
            f"The announcement's 75 % (Turbo against Base) and 13 % (Tiny against Turbo) are about weights: {1 - turbo.parameters / base.parameters:.1%} and "
            f"{1 - tiny.parameters / turbo.parameters:.1%}. Of the whole process it is {1 - peak_mb(turbo, 'fp32', question.tokens_at_once) / peak_mb(base, 'fp32', question.tokens_at_once):.1%} and "
            f"{1 - peak_mb(tiny, 'fp32', question.tokens_at_once) / peak_mb(turbo, 'fp32', question.tokens_at_once):.1%}: the runtime and the activations do not shrink with the weights.",
        ),
    )


def _lines_table(best: Bill) -> Table:
    rows = [
        (
            line.name,
            float(round(line.quantity, 3)),
            line.unit,
            line.price.usd,
            line.usd,
            line.price.date,
            line.price.confidence,
        )
        for line in best.lines
    ]
    return Table(
        "lines",
        f"The bill of {best.deployment.name}",
        ("item", "quantity", "unit", "USD each", "USD/month", "price of", "confidence"),
        (*rows, ("total", None, "", None, best.usd, "", "")),
    )


def _services_table(best: Bill, question: Question, catalogue: Catalogue, services: Sequence[str]) -> Table:
    rows = []
    for name in services or catalogue.services:
        service = catalogue.service(name)
        even = break_even(best.deployment, question.traffic, service, catalogue)
        rows.append(
            (
                service.title,
                service.price.usd,
                service.per,
                service_usd(service, question.traffic),
                None if even.requests is None else round(even.requests),
                service.price.confidence,
            )
        )
    return Table(
        "services",
        "The same traffic at services billed by use",
        (
            "service",
            "USD each",
            "per",
            "USD/month",
            "requests/month above which sagerank is cheaper",
            "confidence",
        ),
        tuple(rows),
        ("Their quality is another: compare it on your own data. Override a price with --service NAME=USD.",),
    )


def _conclusion(decision: Decision) -> tuple[str, ...]:
    best = decision.best
    question = decision.question
    limits = [
        f"p95 at most {question.p95_seconds:g} s" if question.p95_seconds is not None else "",
        f"NDCG@10 at least {question.min_ndcg:g}" if question.min_ndcg is not None else "",
    ]
    asked = " and ".join(part for part in limits if part) or "any latency"
    refused = ", ".join(f"{count} {reason}" for reason, count in decision.refused.items() if count)
    if best is None:
        return (
            f"Nothing carries this traffic with {asked} ({refused}): raise the limit, allow more instances, or send fewer documents.",
        )
    lines = [
        f"Run {best.deployment.name}: {best.usd:,} USD a month, p95 {best.p95:.3f} s with {asked}, "
        f"{best.instances_peak} instance{'s' if best.instances_peak != 1 else ''} at the peak ({best.speed.kind} speed)."
    ]
    base = next((item for item in decision.bills if item.deployment.choice.name == "base"), None)
    if base is not None and best.deployment.choice.name != "base":
        lines.append(
            f"Base would cost {base.usd:,} USD ({base.deployment.name}): {best.deployment.choice.name} saves {1 - best.usd / base.usd:.0%}. "
            "The announcement's 75 % is of memory."
        )
    if refused:
        lines.append(f"{len(decision.bills)} deployments were feasible; {refused}.")
    return tuple(lines)


def explain(item: Bill, catalogue: Catalogue) -> list[str]:
    """Where every number of a bill comes from."""
    lines = [
        f"{item.deployment.name}: one request takes {item.speed.seconds:.4f} s ({item.speed.low:.4f} to {item.speed.high:.4f}), {item.speed.kind}: {item.speed.why}.",
    ]
    lines += [
        f"  {line.name}: {line.quantity:.3f} {line.unit} x {line.price.usd} USD = {line.usd} USD; price of {line.price.date} "
        f"({line.price.confidence}): {catalogue.sources.get(line.price.source, line.price.source)}"
        for line in item.lines
    ]
    return [*lines, *(f"  {note}" for note in item.notes)]


def fit_report(choice: Choice, kind: str, tokens: int, region: str, catalogue: Catalogue) -> Report:
    """Every instance type sold in the region, and the serverless size, that holds the model."""
    rows = []
    for name in catalogue.offered(region):
        instance = catalogue.instance(name)
        if instance.accelerator:
            continue
        room = fit(choice, kind, tokens, instance)
        rows.append(
            (
                name,
                instance.arch,
                instance.vcpu,
                instance.memory_gib,
                instance.gpu,
                room.copies,
                round(room.needed_mb),
                round(room.available_mb),
                catalogue.hosting(region, name).usd,
            )
        )
    rows.sort(key=lambda row: (row[5] == 0, row[8]))
    size = serverless_mb(choice, kind, tokens)
    return Report(
        f"Where {choice.name} {kind} fits, {tokens:,} tokens at once, {region}",
        (
            Table(
                "fit",
                "Instance types, those that hold it first, cheapest first",
                ("instance", "arch", "vCPU", "GiB", "GPU", "copies", "needs MB", "has MB", "USD/hour"),
                tuple(rows),
            ),
        ),
        (
            f"Serverless: {f'{size} MB holds it' if size else 'no size holds it'}; the server takes {SERVER_MB:.0f} MB beside the model.",
        ),
        data_notes(catalogue),
    )


def bills_report(title: str, bills: Sequence[Bill], catalogue: Catalogue) -> Report:
    rows = tuple(
        (
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
        for item in bills
    )
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
    return Report(
        title,
        (Table("deployments", "Deployments", columns, rows),),
        (),
        data_notes(catalogue),
        (Bars("USD a month", "USD", tuple((item.deployment.name, float(item.usd)) for item in bills)),),
        tuple(line for item in bills for line in explain(item, catalogue)),
    )
