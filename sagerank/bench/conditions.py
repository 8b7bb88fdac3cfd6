"""What a figure depends on beside the code: machine, versions, weights, and other work on the cores."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sagerank_inference.artefact import Manifest
from sagerank_inference.settings import physical_cores

# Flags of /proc/cpuinfo, on x86-64 and on arm64, for vector units that matrix products use.
_VECTOR = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimd": "NEON",
    "asimddp": "DOTPROD",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
    "sve2": "SVE2",
}
# What sets one machine's speed apart from another's: of each architecture the widest unit first, and what may come with it.
_WIDEST = ("AVX-512", "AVX2", "NEON")
_ADDED = {
    "AVX512-VNNI": "VNNI",
    "AVX-VNNI": "VNNI",
    "AVX512-BF16": "BF16",
    "AMX-INT8": "AMX",
    "DOTPROD": "dotprod",
    "I8MM": "i8mm",
    "BF16": "BF16",
    "SVE2": "SVE2",
    "SVE": "SVE",
}
# Cores taken by other work, above which figures are worth a warning.
BUSY_CORES = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """The machine at one moment, while nothing of ours runs; None where the system does not say."""

    load: float | None  # average over the last minute
    busy_cores: float | None  # cores at work in the half second of the sample, hypervisor's theft included


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The machine, the versions and the weights of a measurement."""

    cpu: str
    vector: tuple[str, ...]
    cores: int  # physical ones that this process may use
    threads: int
    memory_gb: float | None
    system: str
    python: str
    onnxruntime: str
    models: dict[str, str]  # name -> SHA-256 of its weights, 12 digits
    start: Sample
    end: Sample

    @property
    def instruction_set(self) -> str:
        """What speeds are compared by, such as AVX2, AVX-512 VNNI BF16 or NEON dotprod; the architecture where the system does not say."""
        return instruction_set(self.vector) or platform.machine()

    @property
    def warning(self) -> str | None:
        """What makes times of this run worth less; None where nothing does."""
        busy = max(self.start.busy_cores or 0.0, self.end.busy_cores or 0.0)
        if busy <= BUSY_CORES:
            return None
        return f"other work kept {busy:.1f} cores busy: compare ratios, not times, and measure again on a quiet machine."

    def lines(self) -> list[str]:
        """The conditions as they are printed beside the figures."""
        memory = "" if self.memory_gb is None else f", {self.memory_gb:.0f} GB"
        lines = [
            f"{self.cpu}, {', '.join(self.vector) or 'no vector unit known'}; {self.threads} threads on {self.cores} physical cores{memory}",
            f"{self.system}, Python {self.python}, ONNX Runtime {self.onnxruntime}",
            *(f"model {name}, weights {digest}" for name, digest in self.models.items()),
        ]
        if self.start.load is not None and self.end.load is not None:
            lines.append(f"load average {self.start.load:.2f} at the start, {self.end.load:.2f} at the end")
        return [*lines, f"warning: {self.warning}"] if self.warning else lines


def sample(seconds: float = 0.5) -> Sample:
    """Look at the machine for so many seconds."""
    before = _jiffies()
    time.sleep(seconds)
    spent = [end - start for start, end in zip(before, _jiffies(), strict=True)]
    total, idle = sum(spent), sum(spent[3:5])  # idle, and waiting for a disk
    busy = round((os.cpu_count() or 1) * (1 - idle / total), 2) if total else None
    return Sample(round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None, busy)


def conditions(threads: int, models: Mapping[str, Path], start: Sample, end: Sample) -> Conditions:
    """The conditions of a measurement between two samples. models: name -> artefact folder."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    return Conditions(
        cpu=_cpuinfo("model name") or platform.processor() or platform.machine(),
        vector=vector_units(),
        cores=physical_cores(),
        threads=threads,
        memory_gb=memory and round(memory / 1e9, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        onnxruntime=importlib.metadata.version("onnxruntime"),
        models={name: _weights(folder) for name, folder in models.items()},
        start=start,
        end=end,
    )


def vector_units() -> tuple[str, ...]:
    """The vector units of this machine's cores, as far as matrix products use them."""
    flags = set((_cpuinfo("flags") or _cpuinfo("Features") or "").split())
    return tuple(name for flag, name in _VECTOR.items() if flag in flags)


def instruction_set(units: Sequence[str]) -> str:
    """One name for vector units: the widest, and what else of them products of one precision or another use. Empty for none."""
    widest = next((unit for unit in _WIDEST if unit in units), "")
    added = dict.fromkeys(name for unit, name in _ADDED.items() if unit in units)
    if "SVE2" in added:  # which has all of it
        added.pop("SVE", None)
    return " ".join([widest, *added]) if widest else ""


def _weights(folder: Path) -> str:
    files = Manifest.read(folder).files
    return "+".join(
        digest[:12] for name, digest in sorted(files.items()) if name.endswith("model.safetensors")
    )


def _cpuinfo(key: str) -> str | None:
    """The value that a line of /proc/cpuinfo has for the first core. None where the system has no such file or line."""
    pairs = (line.partition(":") for line in _lines("/proc/cpuinfo"))
    return next((value.strip() for name, _, value in pairs if name.strip() == key), None)


def _jiffies() -> list[int]:
    """What all cores did since the system started: user, nice, system, idle, iowait, irq, softirq, steal."""
    return [int(text) for line in _lines("/proc/stat")[:1] for text in line.split()[1:9]]


def _lines(path: str) -> list[str]:
    """The lines of a file of Linux's; none on another system."""
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
