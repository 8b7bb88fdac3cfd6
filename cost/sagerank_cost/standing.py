"""What `sagerank deploy` puts beside a model, by preset and mode: data/presets.csv, which a test compares with the stacks it makes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from . import CostError, unknown
from .store import DATA, rows

PRESETS = ("dev", "prod")
# Of a request of 100 documents the server logs a line of 321 to 323 bytes, as measured, and CloudWatch counts 26 more for each event.
LOG_BYTES = 350
BY_USE = "not counted, as use decides: KMS requests, storage of logs, of images and in S3, data through interface endpoints"
# These rows say how large the fleet may be; the others are items of rates.csv.
_BOUNDS = ("min_instances", "max_instances")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a preset deploys in a mode: the bounds of the fleet, and what stands beside it.

    `standing` are items of rates.csv and how many of each; of logs_ingest, how many lines the server logs for a request.
    """

    min_instances: int
    max_instances: int
    standing: tuple[tuple[str, int], ...]


def of(preset: str, mode: str, *, gpu: bool = False) -> Preset:
    """What a preset deploys in a mode, on a type with a GPU or without. Raises CostError where there is none of that name."""
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    known = _read()
    modes = [each for name, each in known if name == preset]
    if mode not in modes:
        raise unknown("mode", mode, modes)
    counts = {item: count + gpu * more for item, (count, more) in known[preset, mode].items()}
    least, most = (counts.pop(bound) for bound in _BOUNDS)
    return Preset(min_instances=least, max_instances=most, standing=tuple(counts.items()))


def log_gb(requests: float, lines: int) -> Decimal:
    """Gigabytes (10^9 bytes) that so many requests log, each in so many lines."""
    return Decimal(repr(requests)) * lines * LOG_BYTES / 10**9


@cache
def _read() -> dict[tuple[str, str], dict[str, tuple[int, int]]]:
    """By preset and mode, of each item how many there are, and how many more on a GPU type."""
    path = DATA / "presets.csv"
    found: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for line, row in rows(path, "preset", "mode", "item", "count", "on_gpu"):
        try:
            counts = int(row["count"]), int(row["on_gpu"])
        except ValueError:
            raise CostError(f"{path}:{line}: count and on_gpu must be whole numbers.") from None
        found.setdefault((row["preset"], row["mode"]), {})[row["item"]] = counts
    return found
