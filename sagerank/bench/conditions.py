"""What a figure depends on beside the code: machine, versions, weights, and other work on the cores."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Mapping
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
# Of one core, taken by other work, from which figures are worth a warning.
BUSY_CORES = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """The machine at one moment, while nothing of ours runs."""

    load: float  # average over the last minute
    busy_cores: float  # cores at work in the half second of the sample, hypervisor's theft included


@dataclass(frozen=True, slots=True)
class Conditions:
    cpu: str
    vector: tuple[str, ...]
    cores: int  # physical ones that this process may use
    threads: int
    memory_gb: float
    system: str
    python: str
    onnxruntime: str
    models: dict[str, str]  # name -> SHA-256 of its weights, 12 digits
    start: Sample
    end: Sample

    @property
    def warning(self) -> str | None:
        busy = max(self.start.busy_cores, self.end.busy_cores)
        if busy <= BUSY_CORES:
            return None
        return f"other work kept {busy:.1f} cores busy: compare ratios, not times, and measure again on a quiet machine."

    def lines(self) -> list[str]:
        lines = [
            f"{self.cpu}, {', '.join(self.vector) or 'no vector unit known'}; {self.threads} threads on {self.cores} physical cores, {self.memory_gb:.0f} GB",
            f"{self.system}, Python {self.python}, ONNX Runtime {self.onnxruntime}",
            *(f"model {name}, weights {digest}" for name, digest in self.models.items()),
            f"load average {self.start.load:.2f} at the start, {self.end.load:.2f} at the end",
        ]
        return [*lines, f"warning: {self.warning}"] if self.warning else lines


def sample(seconds: float = 0.5) -> Sample:
    before = _jiffies()
    time.sleep(seconds)
    after = _jiffies()
    total = sum(after) - sum(before)
    idle = after[3] + after[4] - before[3] - before[4]  # idle, waiting for a disk
    busy = (os.cpu_count() or 1) * (1 - idle / total) if total else 0.0
    return Sample(round(os.getloadavg()[0], 2), round(busy, 2))


def conditions(threads: int, models: Mapping[str, Path], start: Sample, end: Sample) -> Conditions:
    """models: name -> artefact folder."""
    return Conditions(
        cpu=_cpuinfo("model name") or platform.processor() or platform.machine(),
        vector=vector_units(),
        cores=physical_cores(),
        threads=threads,
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        onnxruntime=importlib.metadata.version("onnxruntime"),
        models={name: _weights(folder) for name, folder in models.items()},
        start=start,
        end=end,
    )


def vector_units() -> tuple[str, ...]:
    """Of this machine's cores, as far as matrix products use them."""
    flags = set((_cpuinfo("flags") or _cpuinfo("Features") or "").split())
    return tuple(name for flag, name in _VECTOR.items() if flag in flags)


def _weights(folder: Path) -> str:
    files = Manifest.read(folder).files
    return "+".join(
        digest[:12] for name, digest in sorted(files.items()) if name.endswith("model.safetensors")
    )


def _cpuinfo(key: str) -> str | None:
    """Of the first core. None where the system has no such file or line."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == key), None)


def _jiffies() -> list[int]:
    """Of all cores since the system started: user, nice, system, idle, iowait, irq, softirq, steal."""
    path = Path("/proc/stat")
    return (
        [int(text) for text in path.read_text().split("\n", 1)[0].split()[1:9]] if path.exists() else [0] * 8
    )
