"""How fast a model is somewhere: measured, or estimated from arithmetic with a stated efficiency and its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import NormalDist

from . import CostError, unknown
from .catalogue import Instance
from .memory import SERVERLESS_MB_PER_VCPU
from .models import Choice, check_precision
from .store import DATA, rows, write

_NORMAL = NormalDist()
KINDS = ("measured", "vendor")
COLUMNS = ("model", "precision", "instance", "documents", "tokens", "seconds", "kind", "source", "date")
# float32 operations a core does in a cycle, by the widest unit it has, and the share of it that packed transformer
# layers reach. For AVX2, throughput.csv measures 0.80 to 0.86 of one core in CPU time: 0.75 leaves room for what is not
# the model. The others are allowances for lower clocks under wide vectors, and for units nobody here has measured.
_PER_CYCLE = (
    ("avx512", 64, 0.4),
    ("avx2", 32, 0.75),
    ("sve", 32, 0.55),
    ("sve2", 32, 0.55),
    ("neon", 16, 0.65),
)
# What a core adds less the more there are: an allowance, not measured. 8 cores do 84 %, 32 cores 52 % of their sum.
_CORES_HALF = 32
# int8 dot products against float32 arithmetic, whole model, and bf16: only where the unit exists. Estimates, but for
# AVX2 (docs/benchmarks.md).
_INT8 = (("amx_int8", 2.5), ("avx512_vnni", 1.8), ("i8mm", 1.8), ("dotprod", 1.4), ("avx2", 1.2))
_BF16 = (("amx_bf16", 2.5), ("bf16", 1.5))
# Tera-operations per second as the makers state them: (bfloat16, float32). 0: the unit is missing, and the engine does not
# serve in float16.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """The seconds that one request takes alone, between the bounds `low` and `high`.

    The basis is measured, vendor, estimated, or hypothetical where the engine has no such arithmetic yet; `why` derives it.
    """

    seconds: float
    low: float
    high: float
    basis: str
    why: str

    def at(self, confidence: float) -> Speed:
        """The seconds that a request does not exceed with this probability (0 to 1, exclusive), as if they were known.

        The estimate is taken for the median, and `low` and `high` for the 5th and the 95th percentile: on either side of
        the median the logarithm of the seconds is normal. Raises CostError for a confidence outside.
        """
        if not 0 < confidence < 1:
            raise CostError(
                f"The confidence is {confidence:g}: give more than 0 and less than 1, such as 0.95."
            )
        bound = self.high if confidence > 0.5 else self.low
        share = abs(_NORMAL.inv_cdf(confidence)) / _NORMAL.inv_cdf(0.95)
        return replace(self, seconds=self.seconds * (bound / self.seconds) ** share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A row of throughput.csv: the seconds of one request of `documents` x `tokens` on an instance type."""

    model: str
    precision: str
    instance: str
    documents: int
    tokens: float
    seconds: float
    kind: str  # measured or vendor
    source: str
    date: str


def executes(precision: str, gpu: bool) -> bool:
    """Whether the engine has this arithmetic: float32 anywhere, bfloat16 on GPUs, gated int8 on CPUs."""
    return check_precision(precision) == "fp32" or precision == ("bf16" if gpu else "int8")


def speed(
    choice: Choice, precision: str, instance: Instance, *, documents: int, tokens: int, folder: Path = DATA
) -> Speed:
    """How fast one request of `documents` x `tokens` is. Raises CostError where the model cannot run in this precision there.

    The container drives one GPU; others of the instance stay idle.
    """
    work = choice.flops(documents, tokens)
    for row in measurements(folder):
        if (row.model, row.precision, row.instance) == (
            choice.name,
            check_precision(precision),
            instance.name,
        ):
            seconds = row.seconds * work / choice.flops(row.documents, round(row.tokens))
            why = f"{row.source}, {row.date}, scaled by arithmetic"
            return _speed(seconds, (0.9, 1.1), row.kind, why)
    if instance.accelerator:
        raise CostError(
            f"{instance.name} has {instance.accelerator}, for which there is no graph: take a CPU or NVIDIA type."
        )
    basis = "estimated" if executes(precision, bool(instance.gpu)) else "hypothetical"
    if instance.gpu:
        rate, why = _gpu_rate(instance, precision)
        bounds = 0.5, 2.0
    else:
        rate, why = _cpu_rate(instance, precision)
        bounds = 0.7, 1.6
    return _speed(work / rate + OVERHEAD_SECONDS, bounds, basis, f"{work / 1e9:.0f} GFLOP at {why}")


def _speed(seconds: float, bounds: tuple[float, float], basis: str, why: str) -> Speed:
    low, high = bounds
    return Speed(seconds=seconds, low=seconds * low, high=seconds * high, basis=basis, why=why)


def _gpu_rate(instance: Instance, precision: str) -> tuple[float, str]:
    if instance.gpu not in _GPUS:
        raise CostError(f"The arithmetic of {instance.gpu} ({instance.name}) is not known: measure it there.")
    bf16, fp32 = _GPUS[instance.gpu]
    if precision == "int8" or (precision == "bf16" and not bf16):
        raise CostError(f"{precision} does not run on {instance.gpu}: take {'bf16' if bf16 else 'fp32'}.")
    peak = bf16 if precision == "bf16" else fp32
    used = f"one of {instance.gpus} {instance.gpu}" if instance.gpus > 1 else instance.gpu
    return 1e12 * peak * _GPU_SHARE, f"{_GPU_SHARE:.0%} of {peak:g} TFLOP/s ({used})"


def _cpu_rate(instance: Instance, precision: str) -> tuple[float, str]:
    """The float32-equivalent operations per second of all cores, and its derivation."""
    unit = next(((name, width, share) for name, width, share in _PER_CYCLE if name in instance.isa), None)
    if unit is None or not instance.clock_mhz:
        raise CostError(f"The arithmetic of {instance.name} is not known: measure it there.")
    factor = 1.0
    if precision != "fp32":
        gains = _INT8 if precision == "int8" else _BF16
        factor = next((gain for name, gain in gains if name in instance.isa), 0.0)
        if not factor:
            raise CostError(
                f"{precision} gains nothing on {instance.name} ({', '.join(sorted(instance.isa))}): take fp32."
            )
    name, width, share = unit
    count = instance.cores
    together = 1 / (1 + max(0, count - 2) / _CORES_HALF)
    rate = count * together * 1e6 * instance.clock_mhz * width * share * factor
    gain = f", {precision} x {factor:g}" if factor != 1.0 else ""
    scaling = f" x {together:.2f} for so many" if count > 2 else ""
    return (
        rate,
        f"{share:.0%} of {count} cores{scaling} x {instance.clock_mhz / 1000:g} GHz x {width} per cycle ({name}){gain}",
    )


def serverless_speed(choice: Choice, precision: str, memory_mb: int, *, documents: int, tokens: int) -> Speed:
    """How fast one request of `documents` x `tokens` is on a serverless endpoint. Raises CostError for bf16.

    AWS says only that vCPUs grow with memory. One for each 2 GB, half a 2.5 GHz AVX2 core each, is our estimate.
    """
    if check_precision(precision) == "bf16":
        raise CostError("bf16 is not known to run on serverless endpoints: take fp32.")
    vcpu = memory_mb / SERVERLESS_MB_PER_VCPU
    rate = vcpu / 2 * 2.5e9 * 32 * 0.75
    work = choice.flops(documents, tokens)
    seconds = work / rate + OVERHEAD_SECONDS
    why = (
        f"{work / 1e9:.0f} GFLOP at {vcpu:g} vCPU (one for each 2 GB), 75 % of half a 2.5 GHz AVX2 core each"
    )
    return _speed(seconds, (0.5, 2.0), "estimated", why)


@cache
def measurements(folder: Path = DATA) -> tuple[Measurement, ...]:
    """The rows of throughput.csv. Raises CostError, with the line, for one that is malformed."""
    path = folder / "throughput.csv"
    measured = []
    for line, row in rows(path, *COLUMNS):
        if row["kind"] not in KINDS:
            raise CostError(f"{path}:{line}: {unknown('kind of throughput', row['kind'], KINDS)}")
        try:
            documents, tokens, seconds = int(row["documents"]), float(row["tokens"]), float(row["seconds"])
        except ValueError as error:
            raise CostError(f"{path}:{line}: {error}: correct the row.") from None
        if not all(0 < number < 1e9 for number in (documents, tokens, seconds)):
            raise CostError(f"{path}:{line}: documents, tokens and seconds are above 0.")
        texts = {name: row[name] for name in ("model", "precision", "instance", "kind", "source", "date")}
        measured.append(Measurement(**texts, documents=documents, tokens=tokens, seconds=seconds))
    return tuple(measured)


def append(measurement: Measurement, folder: Path = DATA) -> None:
    """Add a row to throughput.csv; a row of the same model, precision and instance is replaced."""
    key = (measurement.model, measurement.precision, measurement.instance)
    kept = [row for row in measurements(folder) if (row.model, row.precision, row.instance) != key]
    write(
        folder / "throughput.csv",
        COLUMNS,
        [[getattr(row, name) for name in COLUMNS] for row in (*kept, measurement)],
    )
    measurements.cache_clear()
