"""The seconds of a request by arithmetic: its operations, by what the units of a processor do, and what stands beside them.

data/units.csv has a row for each unit and precision: its peak, and the share of it that packed transformer layers reach,
between bounds, with its source. What is not measured by us has wide ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from . import CostError
from .catalogue import Instance
from .memory import SERVERLESS_VCPUS
from .models import check_precision
from .store import DATA, rows

# Beside the arithmetic, serial with it and on one core: HTTP and JSON, and the tokenizer's time, of which one thread of an AMD
# EPYC 7003 measured 1.7 microseconds a token (100 passages of 154 tokens: 26 ms).
REQUEST_SECONDS, TOKEN_SECONDS = 0.004, 1.7e-6


class Range(NamedTuple):
    """A number between its 5th percentile, its median and its 95th."""

    low: float
    typical: float
    high: float

    def __str__(self) -> str:
        return f"{self.typical:.2g} ({self.low:.2g} to {self.high:.2g})"


# Cores add less the more there are: an allowance, not measured. So many beside the first two halve what each adds.
_CORES_HALF = Range(16, 32, 128)
# Of REQUEST_SECONDS and TOKEN_SECONDS: other processors and texts, and tokenizers on several cores.
_BESIDE = Range(0.5, 1.0, 2.0)
_SERVERLESS_GHZ = 2.5  # an assumption


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A row of units.csv: `peak` operations per cycle of a core, tera-operations per second, or times those in float32."""

    name: str
    precision: str
    per: str  # cycle, second or fp32
    peak: float
    share: Range
    source: str
    date: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """The seconds that one request takes alone, and how they come about in one line."""

    seconds: Range
    beside: float  # of the typical seconds, those that are not the model's
    why: str


@cache
def units() -> dict[tuple[str, str], Unit]:
    """By name and precision; of the units that a processor has, the first one counts."""
    path = DATA / "units.csv"
    read = {}
    for line, row in rows(
        path, "unit", "precision", "peak", "per", "share", "slow", "fast", "source", "date"
    ):
        try:
            share = Range(*(float(row[name]) for name in ("slow", "share", "fast")))
            unit = Unit(
                name=row["unit"],
                precision=check_precision(row["precision"]),
                per=row["per"],
                peak=float(row["peak"]),
                share=share,
                source=row["source"],
                date=row["date"],
            )
        except ValueError as error:
            raise CostError(f"{path}:{line}: {error}: correct the row.") from None
        read[unit.name, unit.precision] = unit
    return read


def precisions(instance: Instance | None) -> tuple[str, ...]:
    """What the engine computes in on an instance, or on a serverless endpoint (None): first what it does without being asked.

    int8, and bf16 on a CPU, need an artefact that passed the gate. One in bf16 runs on any CPU, in float32 where it is not listed.
    """
    if instance is None or not instance.gpu:
        has_bf16 = instance is not None and "bf16" in instance.isa
        return ("fp32", "int8", "bf16") if has_bf16 else ("fp32", "int8")
    known = {kind for name, kind in units() if name == instance.gpu}
    # A GPU whose arithmetic is not known is newer than those that are.
    return ("fp32",) if known == {"fp32"} else ("bf16", "fp32")


def on_instance(operations: float, tokens: float, precision: str, instance: Instance) -> Estimate:
    """A request of so many operations, and tokens over all its documents, on an instance.

    Raises CostError where nothing is known of its processor, or the precision gains nothing there.
    """
    if instance.accelerator:
        raise CostError(
            f"{instance.name} has {instance.accelerator}, for which there is no graph: take a CPU or NVIDIA type."
        )
    if instance.gpu:
        rate, why = _gpu(instance, precision)
    else:
        rate, why = _cpu(instance, precision, instance.isa)
        if instance.maybe:
            # What it may have beside shows in the bound alone.
            best, _ = _cpu(instance, precision, instance.isa | instance.maybe)
            if best.high > rate.high:
                rate = rate._replace(high=best.high)
                why += f"; at best with {', '.join(sorted(instance.maybe))}, which is not certain"
    return _estimate(operations, rate, beside(tokens), why)


def on_serverless(operations: float, tokens: float, precision: str, memory_mb: int) -> Estimate:
    """The same on a serverless endpoint of so much memory, which is x86. Raises CostError for bf16."""
    if check_precision(precision) == "bf16":
        raise CostError("Serverless endpoints have no bf16, and compute its weights in float32: take fp32.")
    vcpus = SERVERLESS_VCPUS[memory_mb]
    rate, why = _cores(frozenset({"serverless"}), precision, vcpus / 2, _SERVERLESS_GHZ)
    return _estimate(operations, rate, beside(tokens, vcpus), f"{why}; {vcpus:g} vCPU, an estimate")


def beside(tokens: float, vcpus: float = 1.0) -> Range:
    """The seconds of a request beside its arithmetic, by its tokens over all documents. Less than one vCPU takes longer."""
    seconds = (REQUEST_SECONDS + TOKEN_SECONDS * tokens) / min(1.0, vcpus)
    return Range(*(seconds * factor for factor in _BESIDE))


def _estimate(operations: float, rate: Range, extra: Range, why: str) -> Estimate:
    low, typical, high = (
        operations / speed + more for speed, more in zip(reversed(rate), extra, strict=True)
    )
    text = f"{operations / 1e9:.3g} GFLOP at {why}; {1e3 * extra.typical:.0f} ms beside"
    return Estimate(Range(low, typical, high), extra.typical, text)


def _gpu(instance: Instance, precision: str) -> tuple[Range, str]:
    of = {kind: unit for (name, kind), unit in units().items() if name == instance.gpu}
    if not of:
        raise CostError(f"The arithmetic of {instance.gpu} ({instance.name}) is not known: measure it there.")
    if precision not in of:
        raise CostError(
            f"{precision} does not run on {instance.gpu}: take {'bf16' if 'bf16' in of else 'fp32'}."
        )
    unit = of[precision]
    used = f"one of {instance.gpus} {instance.gpu}" if instance.gpus > 1 else instance.gpu
    return _product(unit.share, 1e12 * unit.peak), f"{unit.share} of {unit.peak:g} TFLOP/s {_of(unit, used)}"


def _cpu(instance: Instance, precision: str, isa: frozenset[str]) -> tuple[Range, str]:
    if not instance.clock_mhz or _first(isa, "fp32") is None:
        raise CostError(f"The arithmetic of {instance.name} is not known: measure it there.")
    if precision == "bf16" and _first(isa, precision) is None:
        raise CostError(f"{instance.name} has no bf16, and computes its weights in float32: take fp32.")
    if precision != "fp32" and _first(isa, precision) is None:
        raise CostError(
            f"{precision} gains nothing on {instance.name} ({', '.join(sorted(isa))}): take fp32."
        )
    return _cores(isa, precision, instance.cores, instance.clock_mhz / 1000)


def _cores(isa: frozenset[str], precision: str, count: float, ghz: float) -> tuple[Range, str]:
    """The float32-equivalent operations per second of so many cores together, and their derivation."""
    unit = _first(isa, "fp32")
    assert unit is not None
    used = "1 core" if count == 1 else f"{count:g} cores"
    why = f"{unit.share} of {used} x {ghz:g} GHz x {unit.peak:g} a cycle {_of(unit)}"
    factors: list[Range | float] = [unit.share, 1e9 * count * ghz * unit.peak]
    if count > 2:
        together = Range(*(1 / (1 + (count - 2) / half) for half in _CORES_HALF))
        factors.append(together)
        why += f", x {together} for so many"
    gain = _first(isa, precision) if precision != "fp32" else None
    if gain:
        factors.append(gain.share)
        why += f", {precision} x {gain.share} {_of(gain)}"
    return _product(*factors), why


def _first(isa: frozenset[str], precision: str) -> Unit | None:
    return next((unit for (name, kind), unit in units().items() if kind == precision and name in isa), None)


def _of(unit: Unit, name: str = "") -> str:
    return f"[{name or unit.name}; {unit.source}, {unit.date}]"


def _product(*factors: Range | float) -> Range:
    """The bounds of a product whose factors err independently: their logarithms add as the sides of a right angle do."""
    ranges = [factor if isinstance(factor, Range) else Range(factor, factor, factor) for factor in factors]
    typical = math.prod(each.typical for each in ranges)
    down = math.hypot(*(math.log(each.typical / each.low) for each in ranges))
    up = math.hypot(*(math.log(each.high / each.typical) for each in ranges))
    return Range(typical * math.exp(-down), typical, typical * math.exp(up))
