"""How large models are, and where they fit: the memory tables."""

from __future__ import annotations

from . import memory
from .catalogue import Catalogue
from .decide import Question
from .memory import RESERVED_MB, SERVER_MB, copy_mb, fit, measured, peak_mb, serverless_mb, weights_mb
from .models import MODELS, Choice
from .sheet import Report, Table, data_notes


def memory_table(question: Question) -> Table:
    tokens = question.tokens_at_once
    base = peak_mb(MODELS["base"], "fp32", tokens)
    rows: list[tuple[object, ...]] = []
    for choice in question.choices:
        stored = sum(weights_mb(stage, "fp32") for stage in choice.stages)
        process = copy_mb(choice, "fp32", tokens)
        rows.append(
            (
                choice.name,
                round(choice.parameters / 1e6, 1),
                round(stored, 1),
                f"{stored / weights_mb(MODELS['base'], 'fp32') - 1:+.1%}",
                round(process),
                f"{process / base - 1:+.1%}",
                serverless_mb(choice, "fp32", tokens),
            )
        )
    return Table(
        "memory",
        f"Memory (16-bit weights, fp32 arithmetic on a CPU, one pair of {tokens:,} tokens)",
        (
            "model",
            "M parameters",
            "weights MB",
            "weights to Base",
            "process MB",
            "process to Base",
            "serverless MB",
        ),
        tuple(rows),
        (_checked(), announcement(tokens)),
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


def announcement(tokens: int) -> str:
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


def fit_report(choice: Choice, kind: str, tokens: int, region: str, catalogue: Catalogue) -> Report:
    """Every instance type sold in the region, and the serverless size, that holds the model; and the measured memory."""
    rows = []
    for name in catalogue.offered(region):
        instance = catalogue.instance(name)
        if instance.accelerator:
            continue
        room = fit(choice, kind, tokens, instance)
        price = catalogue.hosting(region, name).usd
        needs, has = round(room.needed_mb), round(room.available_mb)
        rows.append(
            (
                name,
                instance.arch,
                instance.vcpu,
                instance.memory_gib,
                instance.gpu,
                room.copies,
                needs,
                has,
                price,
            )
        )
    rows.sort(key=lambda row: (row[5] == 0, row[8]))
    size = serverless_mb(choice, kind, tokens)
    columns = ("instance", "arch", "vCPU", "GiB", "GPU", "copies", "needs MB", "has MB", "USD/hour")
    points = tuple(
        (
            point.model,
            point.backend,
            point.precision,
            point.tokens,
            point.mb,
            round(point.formula_mb, 1),
            f"{point.error:+.1%}",
        )
        for point in measured(catalogue.folder)
    )
    held = sum(row[5] > 0 for row in rows)
    return Report(
        f"Where {choice.name} {kind} fits, {tokens:,} tokens at once, {region}",
        (
            Table("fit", "Instance types, those that hold it first, cheapest first", columns, tuple(rows)),
            Table(
                "memory",
                "The memory formula against measured peaks",
                ("model", "backend", "precision", "tokens", "measured MB", "formula MB", "error"),
                points,
                (announcement(tokens),),
            ),
        ),
        (
            f"{held} of {len(rows)} types hold it. Serverless: {f'{size} MB holds it' if size else 'no size holds it'}; the server takes {SERVER_MB:.0f} MB beside the model.",
        ),
        data_notes(catalogue),
        explained=(
            f"needs: {memory.__doc__}",
            f"has: GiB x 1,073.74 MB, less {RESERVED_MB:.0f} MB for the system and {SERVER_MB:.0f} MB for the HTTP process; a GPU's own memory where there is one.",
            *dict.fromkeys(_price_source(catalogue, region, str(row[0])) for row in rows),
        ),
    )


def _price_source(catalogue: Catalogue, region: str, instance: str) -> str:
    price = catalogue.hosting(region, instance)
    return f"USD/hour: price of {price.date} ({price.confidence}): {catalogue.sources.get(price.source, price.source)}"
