"""How large models are, and where they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from .. import memory
from ..catalogue import Catalogue, Instance, Price
from ..memory import (
    CACHE_MB,
    RESERVED_MB,
    SERVER_MB,
    Fit,
    copy_mb,
    measured,
    serverless_mb,
    usual_fit,
    weights_mb,
)
from ..models import Choice
from ..sheet import Report, Table, data_notes, tabulate
from .announcement import announcement
from .holding import formula_error
from .tables import price_source

# Types that people are shown; JSON and CSV have all.
MOST = 20
Subject = tuple[Choice, str]  # a model and its precision


@dataclass(frozen=True, slots=True)
class Type:
    """An instance type, its price in a region, and the room it has for each subject."""

    instance: Instance
    region: str
    price: Price
    rooms: tuple[Fit, ...]


def fit_report(
    choices: Sequence[Choice],
    precisions: Sequence[str],
    tokens: int,
    regions: Sequence[str],
    catalogue: Catalogue,
) -> Report:
    """Every instance type sold in the regions, and the serverless size, that holds each model; and the measured memory."""
    subjects = list(product(choices, precisions))
    names = [f"{choice.name} {precision}" for choice, precision in subjects]
    types = _types(subjects, tokens, regions, catalogue)
    return Report(
        title=f"Where {', '.join(names)} fit{'s' if len(names) == 1 else ''}, {tokens:,} tokens at once, {', '.join(regions)}",
        tables=(_sizes(subjects, tokens), _instances(subjects, names, types), _peaks(catalogue, tokens)),
        conclusion=tuple(
            _holds(name, index, tokens, types, subjects[index]) for index, name in enumerate(names)
        ),
        notes=(
            f"The server takes up to {SERVER_MB:.0f} MB beside the model, and on a CPU {CACHE_MB:.0f} MB for scores that it keeps.",
            *data_notes(catalogue),
        ),
        explained=(
            f"needs: {memory.__doc__}",
            f"has: GiB x 1,073.74 MB, less {RESERVED_MB:.0f} MB for the system and up to {SERVER_MB:.0f} MB for the HTTP process, and {CACHE_MB:.0f} MB for the scores that it keeps in modes realtime and scale-to-zero on a CPU; a GPU's own memory where there is one.",
            *dict.fromkeys(f"USD/hour: {price_source(each.price, catalogue)}" for each in types),
        ),
    )


def _types(
    subjects: Sequence[Subject], tokens: int, regions: Sequence[str], catalogue: Catalogue
) -> list[Type]:
    """Those that hold most of the subjects first, and then the cheapest."""
    types = [
        Type(
            instance,
            region,
            catalogue.hosting(region, instance.name),
            tuple(
                usual_fit(choice, precision, tokens, instance, mode="realtime")
                for choice, precision in subjects
            ),
        )
        for region in regions
        for instance in map(catalogue.instance, catalogue.offered(region))
        if not instance.accelerator
    ]
    return sorted(types, key=lambda one: (-sum(room.copies > 0 for room in one.rooms), one.price.usd))


def _holds(name: str, index: int, tokens: int, types: Sequence[Type], subject: Subject) -> str:
    """Which types hold a model, and which serverless sizes."""
    holding = [one for one in types if one.rooms[index].copies]
    lasting = [one for one in holding if one.instance.baseline is None]  # others are fast only for a while
    least = min(lasting, key=lambda one: one.price.usd, default=None)
    cheapest = f", {least.instance.name} for the least: {least.price.usd} USD an hour" if least else ""
    size = serverless_mb(*subject, tokens)
    serverless = f"{size:,} MB holds it" if size else "no size holds it"
    return f"{name}: {len(holding)} of {len(types)} types hold it{cheapest}. Serverless: {serverless}."


def _sizes(subjects: Sequence[Subject], tokens: int) -> Table:
    return tabulate(
        "models",
        "The models",
        {
            "model": lambda subject: subject[0].name,
            "precision": lambda subject: subject[1],
            "M parameters": lambda subject: round(subject[0].parameters / 1e6, 1),
            "weights MB": lambda subject: round(
                sum(weights_mb(stage, subject[1]) for stage in subject[0].stages), 1
            ),
            "process MB": lambda subject: round(copy_mb(*subject, tokens)),
            "serverless MB": lambda subject: serverless_mb(*subject, tokens),
        },
        subjects,
    )


def _instances(subjects: Sequence[Subject], names: Sequence[str], types: Sequence[Type]) -> Table:
    """A record for each type and model; people see the copies of all models beside each type."""
    title = "Instance types, those that hold most first, cheapest first"
    several = len({one.region for one in types}) > 1
    facts = ("region", "instance", "arch", "vCPU", "GiB", "GPU")
    last = ("copies", "needs MB", "has MB", "USD/hour")

    def known(one: Type) -> tuple[object, ...]:
        machine = one.instance
        return one.region, machine.name, machine.arch, machine.vcpu, machine.memory_gib, machine.gpu

    def space(room: Fit) -> tuple[int, int, int]:
        return room.copies, round(room.needed_mb), round(room.available_mb)

    records = Table(
        key="fit",
        title=title,
        columns=("model", "precision", *facts, *last),
        rows=tuple(
            (choice.name, precision, *known(one), *space(room), one.price.usd)
            for one in types
            for (choice, precision), room in zip(subjects, one.rooms, strict=True)
        ),
    )
    columns: tuple[str, ...]
    minor: tuple[str, ...]
    if len(subjects) == 1:
        columns, minor = (*facts, *last), ("arch", "GPU", "needs MB")
        cells = [(*known(one), *space(one.rooms[0]), one.price.usd) for one in types]
    else:
        columns, minor = (*facts, *(f"copies of {name}" for name in names), "USD/hour"), ("arch", "GPU")
        cells = [(*known(one), *(room.copies for room in one.rooms), one.price.usd) for one in types]
    start = 0 if several else 1
    left = len(types) - MOST
    notes = (f"{left} more, in --format csv or json.",) if left > 0 else ()
    shown_as = Table(
        key="fit",
        title=title,
        columns=columns[start:],
        rows=tuple(row[start:] for row in cells[:MOST]),
        notes=notes,
        minor=minor,
    )
    return replace(records, shown_as=shown_as)


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
        formula_error(catalogue),
        announcement(tokens),
    )
    return replace(table, detail=True)
