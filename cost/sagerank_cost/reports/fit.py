"""How large models are, and where they fit."""

from __future__ import annotations

from dataclasses import replace

from .. import memory
from ..catalogue import Catalogue
from ..decide import Question
from ..memory import RESERVED_MB, SERVER_MB, copy_mb, fit, measured, peak_mb, serverless_mb, weights_mb
from ..models import MODELS, Choice
from ..sheet import Report, Table, data_notes, tabulate


def memory_table(question: Question) -> Table:
    """What the question's models weigh, and what their processes hold for its longest pair."""
    tokens = question.scenario.tokens_at_once
    base = peak_mb(MODELS["base"], "fp32", tokens)

    def stored(choice: Choice) -> float:
        return sum(weights_mb(stage, "fp32") for stage in choice.stages)

    def process(choice: Choice) -> float:
        return copy_mb(choice, "fp32", tokens)

    return tabulate(
        "memory",
        f"Memory: 16-bit weights, fp32 arithmetic on a CPU, one pair of {tokens:,} tokens",
        {
            "model": lambda choice: choice.name,
            "M parameters": lambda choice: round(choice.parameters / 1e6, 1),
            "weights MB": lambda choice: round(stored(choice), 1),
            "weights to Base": lambda choice: (
                f"{stored(choice) / weights_mb(MODELS['base'], 'fp32') - 1:+.1%}"
            ),
            "process MB": lambda choice: round(process(choice)),
            "process to Base": lambda choice: f"{process(choice) / base - 1:+.1%}",
            "serverless MB": lambda choice: serverless_mb(choice, "fp32", tokens),
        },
        question.choices,
        _checked(),
        _announcement(tokens),
    )


def _checked() -> str:
    points = measured()
    if not points:
        return "The formula has not been measured here."
    worst = max(points, key=lambda point: abs(point.error))
    return (
        f"The formula is within {abs(worst.error):.1%} of all {len(points)} measured peaks (worst: {worst.model}, {worst.backend}, {worst.tokens} tokens: "
        f"{worst.formula_mb:.0f} MB for {worst.mb:.0f} MB measured)."
    )


def _announcement(tokens: int) -> str:
    """What the announcement's two percentages are true of, and what they are not."""
    base, turbo, tiny = (MODELS[name] for name in ("base", "turbo", "tiny"))

    def less(b: float, a: float) -> str:
        return f"{1 - a / b:.1%}"

    def whole(at: int) -> str:
        b, u, i = (peak_mb(model, "fp32", at) for model in (base, turbo, tiny))
        return f"{less(b, u)} and {less(u, i)} at {at:,} tokens"

    return (
        "The announcement says 75 % less memory for Turbo than for Base, and 13 % less for Tiny than for Turbo. Of stored weights, that is of parameters, it is "
        f"{less(base.parameters, turbo.parameters)} and {less(turbo.parameters, tiny.parameters)}; of the whole process {whole(128)} and {whole(tokens)}: "
        "runtime and activations do not shrink with the weights."
    )


def fit_report(choice: Choice, precision: str, tokens: int, region: str, catalogue: Catalogue) -> Report:
    """Every instance type sold in the region, and the serverless size, that holds the model; and the measured memory."""
    rows = []
    for name in catalogue.offered(region):
        instance = catalogue.instance(name)
        if instance.accelerator:
            continue
        room = fit(choice, precision, tokens, instance)
        machine = (name, instance.arch, instance.vcpu, instance.memory_gib, instance.gpu)
        needs, has = round(room.needed_mb), round(room.available_mb)
        rows.append((*machine, room.copies, needs, has, catalogue.hosting(region, name).usd))
    rows.sort(key=lambda row: (row[5] == 0, row[8]))
    size = serverless_mb(choice, precision, tokens)
    held = sum(row[5] > 0 for row in rows)
    cheapest = f", {rows[0][0]} for the least: {rows[0][8]} USD an hour" if held else ""
    return Report(
        title=f"Where {choice.name} {precision} fits, {tokens:,} tokens at once, {region}",
        tables=(
            Table(
                key="fit",
                title="Instance types, those that hold it first, cheapest first",
                columns=(
                    "instance",
                    "arch",
                    "vCPU",
                    "GiB",
                    "GPU",
                    "copies",
                    "needs MB",
                    "has MB",
                    "USD/hour",
                ),
                rows=tuple(rows),
                minor=("arch", "GPU", "needs MB"),
            ),
            _peaks(catalogue, tokens),
        ),
        conclusion=(
            f"{held} of {len(rows)} types hold it{cheapest}. Serverless: {f'{size} MB holds it' if size else 'no size holds it'}; the server takes up to {SERVER_MB:.0f} MB beside the model.",
        ),
        notes=data_notes(catalogue),
        explained=(
            f"needs: {memory.__doc__}",
            f"has: GiB x 1,073.74 MB, less {RESERVED_MB:.0f} MB for the system and up to {SERVER_MB:.0f} MB for the HTTP process; a GPU's own memory where there is one.",
            *dict.fromkeys(_price_source(catalogue, region, row[0]) for row in rows),
        ),
    )


def _peaks(catalogue: Catalogue, tokens: int) -> Table:
    table = tabulate(
        "memory",
        "The memory formula: measured peaks beside it",
        {
            "model": lambda point: point.model,
            "backend": lambda point: point.backend,
            "precision": lambda point: point.precision,
            "tokens": lambda point: point.tokens,
            "measured MB": lambda point: point.mb,
            "formula MB": lambda point: round(point.formula_mb, 1),
            "error": lambda point: f"{point.error:+.1%}",
        },
        measured(catalogue.folder),
        _announcement(tokens),
    )
    return replace(table, detail=True)


def _price_source(catalogue: Catalogue, region: str, instance: str) -> str:
    price = catalogue.hosting(region, instance)
    return f"USD/hour: price of {price.date} ({price.confidence}): {catalogue.sources.get(price.source, price.source)}"
