"""How fast a model is somewhere: measured, or estimated from arithmetic with a stated efficiency and its uncertainty."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from . import CostError, unknown
from .catalogue import DATA, Instance
from .models import Choice, precision

# float32 operations a core does in a cycle, by the widest unit it has, and the share of it that packed transformer
# layers reach. The AVX2 share is measured (docs/benchmarks.md: 158 of 157 GFLOP/s on 2 cores at 2.45 GHz; 0.85 is kept);
# the others are allowances for lower clocks under wide vectors.
_PER_CYCLE = (
    ("avx512", 64, 0.45),
    ("avx2", 32, 0.85),
    ("sve", 32, 0.6),
    ("sve2", 32, 0.6),
    ("neon", 16, 0.7),
)
# int8 dot products against float32 arithmetic, whole model, and bf16: only where the unit exists. Estimates.
_INT8 = (("amx_int8", 2.5), ("avx512_vnni", 1.8), ("i8mm", 1.8), ("dotprod", 1.4), ("dotprod(int8)", 1.4))
_BF16 = (("amx_bf16", 2.5), ("bf16", 1.5))
# Tera-operations per second: (bfloat16, float32). 0: the unit is missing, and float16 overflows on ALiBi models.
_GPUS = {
    "NVIDIA T4": (0.0, 8.1),
    "NVIDIA V100": (0.0, 15.7),
    "NVIDIA A10G": (70.0, 31.2),
    "NVIDIA L4": (121.0, 30.3),
    "NVIDIA L40S": (362.0, 91.6),
    "NVIDIA A100": (312.0, 19.5),
    "NVIDIA H100": (989.0, 67.0),
    "NVIDIA H200": (989.0, 67.0),
}
_GPU_SHARE = 0.3
# Per request beside the arithmetic: HTTP, JSON, tokenisation of 100 short documents.
OVERHEAD_SECONDS = 0.004


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds one request takes alone on one copy. kind: measured, vendor or estimated; low and high bound it."""

    seconds: float
    low: float
    high: float
    kind: str
    why: str


def cores(instance: Instance) -> int:
    """Physical cores: a vCPU is half a core on amd64 and a core on arm64."""
    return instance.vcpu if instance.arch == "arm64" else max(1, instance.vcpu // 2)


def speed(choice: Choice, kind: str, instance: Instance, *, documents: int, tokens: int) -> Speed:
    """Of one request of `documents` x `tokens`. Raises CostError where the model cannot run in this precision there."""
    found = _measured(choice, kind, instance.name, documents, tokens)
    if found is not None:
        return found
    work = choice.flops(documents, tokens)
    if instance.accelerator:
        raise CostError(
            f"{instance.name} has {instance.accelerator}, for which there is no graph: take a CPU or NVIDIA type."
        )
    if instance.gpu:
        if instance.gpu not in _GPUS:
            raise CostError(
                f"The arithmetic of {instance.gpu} ({instance.name}) is not known: measure it there."
            )
        bf16, fp32 = _GPUS[instance.gpu]
        if kind == "int8" or (kind == "bf16" and not bf16):
            raise CostError(f"{kind} does not run on {instance.gpu}: take {'bf16' if bf16 else 'fp32'}.")
        peak = bf16 if kind == "bf16" else fp32
        rate = 1e12 * peak * _GPU_SHARE
        seconds = work / rate + OVERHEAD_SECONDS
        why = f"{work / 1e9:.0f} GFLOP at {_GPU_SHARE:.0%} of {peak:g} TFLOP/s ({instance.gpu}, one of {instance.gpus})"
        return Speed(seconds, seconds / 2, seconds * 2, "estimated", why)
    rate, why = cpu_rate(instance, kind)
    seconds = work / rate + OVERHEAD_SECONDS
    return Speed(seconds, seconds * 0.7, seconds * 1.5, "estimated", f"{work / 1e9:.0f} GFLOP at {why}")


def cpu_rate(instance: Instance, kind: str) -> tuple[float, str]:
    """float32-equivalent operations per second of all cores, and its derivation."""
    precision(kind)
    isa = instance.isa
    unit = next(
        (
            (name, per_cycle, share)
            for name, per_cycle, share in _PER_CYCLE
            if name in isa or any(f.startswith(name) for f in isa)
        ),
        None,
    )
    if unit is None or not instance.clock_mhz:
        raise CostError(f"The arithmetic of {instance.name} is not known: measure it there.")
    factor = 1.0
    if kind != "fp32":
        table = _INT8 if kind == "int8" else _BF16
        factor = next((gain for name, gain in table if name in isa), 0.0)
        if not factor:
            raise CostError(f"{kind} gains nothing on {instance.name} ({', '.join(sorted(isa))}): take fp32.")
    name, per_cycle, share = unit
    count = cores(instance)
    rate = count * 1e6 * instance.clock_mhz * per_cycle * share * factor
    gain = f", {kind} x {factor:g}" if factor != 1.0 else ""
    return (
        rate,
        f"{share:.0%} of {count} cores x {instance.clock_mhz / 1000:g} GHz x {per_cycle} per cycle ({name}){gain}",
    )


def serverless_speed(choice: Choice, kind: str, memory_mb: int, *, documents: int, tokens: int) -> Speed:
    """AWS says only that vCPUs grow with memory. One for each 2 GB, of a 2.5 GHz AVX2 core's half, is our estimate."""
    if kind == "bf16":
        raise CostError("bf16 is not known to run on serverless endpoints: take fp32 or int8.")
    rate = memory_mb / 2048 / 2 * 2.5e9 * 32 * 0.85
    seconds = choice.flops(documents, tokens) / rate + OVERHEAD_SECONDS
    why = f"{choice.flops(documents, tokens) / 1e9:.0f} GFLOP at {memory_mb / 2048:g} vCPU (one for each 2 GB) of AVX2 at 2.5 GHz"
    return Speed(seconds, seconds / 2, seconds * 2, "estimated", why)


def _measured(choice: Choice, kind: str, instance: str, documents: int, tokens: int) -> Speed | None:
    for row in measurements():
        if (row["model"], row["precision"], row["instance"]) == (choice.name, kind, instance):
            seconds = float(row["seconds_per_document"]) * documents * tokens / float(row["tokens"])
            return Speed(seconds, seconds * 0.9, seconds * 1.1, row["kind"], row["source"])
    return None


def measurements(path: Path = DATA / "throughput.csv") -> list[dict[str, str]]:
    """model, precision, instance, tokens, seconds_per_document, kind, source."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["kind"] not in ("measured", "vendor"):
            raise unknown("kind of throughput", row["kind"], ("measured", "vendor"))
    return rows
