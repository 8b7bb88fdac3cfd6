"""What `sagerank deploy` puts beside a model, by preset and mode: data/presets.csv, which a test compares with the stacks it makes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from . import CostError, unknown
from .lines import Statement
from .store import DATA, rows

PRESETS = ("dev", "prod")
# Of a request of 100 documents the server logs a line of 321 to 323 bytes, as measured, and CloudWatch counts 26 more for each event.
LOG_BYTES = 350
# Items of rates.csv that may stand beside a model, as a bill names them.
_NAMES = {
    "alarm": "alarms",
    "dashboard": "dashboard",
    "instance_metric": "metrics of each instance",
    "kms_key": "KMS key",
    "logs_ingest": "logs",
    "metric": "metrics read from the log",
    "nat_gateway": "NAT gateways",
    "provisioned": "provisioned concurrency",
    "public_ipv4": "public addresses",
    "vpc_endpoint": "interface endpoints",
}
# What has no price here, and why.
TELEMETRY = (
    "OpenTelemetry metrics",
    "CloudWatch bills what detailed observability sends by the GB, and how much that is nobody has measured here",
)
# What else is billed where these stand, as it is used.
_USED = {
    "kms_key": "KMS requests",
    "logs_ingest": "logs that are kept",
    "vpc_endpoint": "data through interface endpoints",
}
# This row says how large the fleet is at least; the others are items of rates.csv.
_LEAST = "min_instances"
# Items of rates.csv and how many of each; of logs_ingest, how many lines the server logs for a request; of instance_metric
# (enhanced metrics) and telemetry (detailed observability), whether there are any.
Standing = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a preset deploys in a mode: how many instances at least, and what stands beside them."""

    min_instances: int
    standing: Standing


def of(preset: str, mode: str, *, gpu: bool = False) -> Preset:
    """What a preset deploys in a mode, on a type with a GPU or without. Raises CostError where there is none of that name."""
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    known = _read()
    modes = [each for name, each in known if name == preset]
    if mode not in modes:
        raise unknown("mode", mode, modes)
    counts = {item: count + gpu * more for item, (count, more) in known[preset, mode].items()}
    return Preset(min_instances=counts.pop(_LEAST), standing=tuple(counts.items()))


def instance_metrics(*, gpus: int, components: bool, models: int = 1) -> int:
    """How many metrics CloudWatch bills of an instance, where enhanced metrics name instance, copy and GPU as dimensions.

    models: how many the inference components hold. A copy is on each GPU, and there are as many as models at least.

    An estimate by the lists in AWS's pages "SageMaker AI metrics in Amazon CloudWatch" and "enhanced metrics": three of the host
    and two of each GPU (with inference components six and five), and of each copy eight of its requests, and with components
    two of its container and two of its GPU.
    """
    if not components:
        return 3 + 2 * gpus + 8
    copies = max(models, gpus)
    return 6 + 5 * gpus + copies * (8 + 2 + 2 * bool(gpus))


def add(
    statement: Statement,
    standing: Standing,
    *,
    requests: float,
    instance: str,
    instances: Decimal,
    components: bool = False,
) -> None:
    """Add what stands beside a model that is asked so often in a month; `instance` is its type, or serverless memory in MB.

    instances: how many stand on average. components: whether inference components hold the model.
    """
    for item, count in standing:
        if item == "telemetry":
            statement.leave_out(*TELEMETRY)
        elif item == "instance_metric":
            gpus = statement.catalogue.instance(instance).gpus
            each = instance_metrics(gpus=gpus, components=components, models=count)
            statement.add("metric", each * instances, _NAMES[item])
        else:
            quantity = count * log_gb(requests) if item == "logs_ingest" else count
            memory = int(instance) if item == "provisioned" else None
            statement.add(item, quantity, _NAMES[item], memory_mb=memory)
    if standing:
        used = [_USED[item] for item, _ in standing if item in _USED]
        statement.notes.append(
            f"not counted, as use decides: {', '.join(['what is stored in ECR and S3', *used])}"
        )


def log_gb(requests: float) -> Decimal:
    """Gigabytes (10^9 bytes) of the lines that the server logs of so many requests."""
    return Decimal(repr(requests)) * LOG_BYTES / 10**9


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
