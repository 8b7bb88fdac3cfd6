"""The models side by side: memory, the smallest machines and their prices, what each costs for this traffic, how it ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..bill import Bill
from ..decide import Question
from ..doubt import Answer
from ..sheet import Table, tabulate
from .groups import best_of, by_model, grouped, why_not
from .holding import SHORT, Kept, Machine
from .tables import not_counted

Record = dict[str, Any]
GATE = "sagerank build --model {} --precision int8 --gate DATA/mine --output model.tar.gz"


def models_table(question: Question, answer: Answer, models: list[Kept]) -> Table:
    """A record for each model; people see the models beside one another."""
    traffic, region = question.scenario.traffic, question.regions[0]
    long = f"process, {question.scenario.tokens_at_once:,} tokens, MB"
    found = best_of(answer.decision, by_model)
    columns: dict[str, Callable[[Kept], object]] = {
        "model": lambda model: model.choice.name,
        "parameters, M": lambda model: round(model.choice.parameters / 1e6, 1),
        "stored weights, MB": lambda model: round(model.weights_mb, 1),
        f"process, {SHORT} tokens, MB": lambda model: round(model.short_mb),
        long: lambda model: round(model.long_mb),
        **_machine("instance", lambda model: model.instance),
        **_machine("serverless", lambda model: model.serverless),
        **_monthly("", question, found),
    }
    eight_bit = bool(answer.int8) and "int8" not in question.precisions
    if eight_bit:
        columns |= _monthly("int8 ", replace(question, precisions=("int8",)), answer.int8)
    columns["NDCG@10"] = lambda model: model.choice.ndcg
    records = tabulate("models", "", columns, models)
    notes = [
        f"smallest: what costs least of what holds the model in float32, {region}. documents/s: as estimated, between bounds; USD/M documents: a million at that speed, never idle.",
    ]
    if eight_bit:
        best = answer.best.deployment.choice.name if answer.best is not None else ""
        model = best if best in answer.int8 else next(iter(answer.int8))
        notes.append(f"int8: if it passes the gate on your data: {GATE.format(model)}")
    title = f"The models, for requests of {traffic.documents} documents of {traffic.tokens} tokens"
    rows = [dict(zip(records.columns, row, strict=True)) for row in records.rows]
    beside = _beside(long, eight_bit)
    if all(row["mode"] in ("", "realtime", "serverless") for row in rows):
        del beside["mode"]  # its hardware says it
    lines = [(label, *(cell(row) for row in rows)) for label, cell in beside.items()]
    turned = Table(
        key="models",
        title=title,
        columns=("", *(str(row["model"]) for row in rows)),
        rows=tuple(line for line in lines if any(line[1:])),
        notes=tuple(notes),
        turned=True,
    )
    return Table(
        key="models",
        title=title,
        columns=records.columns,
        rows=records.rows,
        notes=tuple(notes),
        shown_as=turned,
    )


def _machine(kind: str, machine: Callable[[Kept], Machine | None]) -> dict[str, Callable[[Kept], object]]:
    """What a record says of the smallest instance, or of the smallest serverless size."""

    def cell(value: Callable[[Machine], object]) -> Callable[[Kept], object]:
        return lambda model: None if (found := machine(model)) is None else value(found)

    def pace(index: int) -> Callable[[Kept], object]:
        return cell(lambda found: found.per_second and round(found.per_second[index], 2))

    name: dict[str, Callable[[Kept], object]] = (
        {"instance": cell(lambda found: found.name), "USD/hour": cell(lambda found: found.price.usd)}
        if kind == "instance"
        else {
            "serverless MB": cell(lambda found: int(found.name)),
            "USD/second": cell(lambda found: found.price.usd),
        }
    )
    return {
        **name,
        f"{kind} documents/s": pace(1),
        f"{kind} documents/s, slow": pace(0),
        f"{kind} documents/s, fast": pace(2),
        f"{kind} USD/M documents": cell(lambda found: found.usd_per_million),
    }


def _monthly(prefix: str, question: Question, found: dict[str, Bill]) -> dict[str, Callable[[Kept], object]]:
    """What a record says of a model's cheapest deployment within the limits, or of why there is none."""

    def cell(value: Callable[[Bill], object], none: object = None) -> Callable[[Kept], object]:
        return lambda model: value(found[model.choice.name]) if model.choice.name in found else none

    lacking = {choice.name for choice in question.choices} - found.keys()
    groups = grouped(question, by_model) if lacking else {}

    def why(model: Kept) -> str:
        name = model.choice.name
        return why_not(question, groups.get(name, [])) if name in lacking else ""

    return {
        f"{prefix}USD/month": cell(lambda bill: bill.usd),
        f"{prefix}on": cell(lambda bill: bill.deployment.hardware, ""),
        f"{prefix}precision": cell(lambda bill: bill.deployment.precision, ""),
        f"{prefix}mode": cell(lambda bill: bill.deployment.mode, ""),
        f"{prefix}region": cell(lambda bill: bill.deployment.region, ""),
        f"{prefix}why none": why,
        f"{prefix}not counted": cell(lambda bill: not_counted(bill.statement), ""),
    }


def _beside(long: str, eight_bit: bool) -> dict[str, Callable[[Record], object]]:
    """The lines of the table in which every model is a column."""

    def field(name: str) -> Callable[[Record], object]:
        return lambda row: row[name]

    def pace(kind: str) -> Callable[[Record], object]:
        def cell(row: Record) -> object:
            estimate, slow, fast = (row[f"{kind} documents/s{bound}"] for bound in ("", ", slow", ", fast"))
            return None if estimate is None else f"{estimate:.3g} ({slow:.3g}-{fast:.3g})"

        return cell

    def on(prefix: str) -> Callable[[Record], object]:
        return lambda row: row[f"{prefix}on"] or row[f"{prefix}why none"]

    eight = {"int8 USD/month": field("int8 USD/month"), "int8 on": on("int8 ")} if eight_bit else {}
    return {
        "parameters, million": field("parameters, M"),
        "stored weights, MB": field("stored weights, MB"),
        f"process, {SHORT} tokens, MB": field(f"process, {SHORT} tokens, MB"),
        long: field(long),
        "smallest CPU instance": field("instance"),
        "instance USD/hour": field("USD/hour"),
        "instance documents/s": pace("instance"),
        "instance USD/M documents": field("instance USD/M documents"),
        "smallest serverless, MB": field("serverless MB"),
        "serverless USD/second": field("USD/second"),
        "serverless documents/s": pace("serverless"),
        "serverless USD/M docs": field("serverless USD/M documents"),
        "cheaper when never idle": _cheaper,
        "USD/month, this traffic": field("USD/month"),
        "on": on(""),
        "precision": field("precision"),
        "mode": field("mode"),
        **eight,
        "NDCG@10": field("NDCG@10"),
    }


def _cheaper(row: Record) -> object:
    usd = {kind: row[f"{kind} USD/M documents"] for kind in ("instance", "serverless")}
    known = {kind: price for kind, price in usd.items() if price is not None}
    return min(known, key=lambda kind: known[kind]) if known else None
