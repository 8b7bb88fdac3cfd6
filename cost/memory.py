"""Peak memory of one model process, as a formula that measurements check.

peak = runtime + linear weights in the arithmetic's precision + tokens x (8 hidden + 3 intermediate) x 4 bytes,
in MB = 10^6 bytes. The runtime is Python with ONNX Runtime and the tokenizer; the embedding table and 16-bit weights
are mapped from the file and read in place; activations are float32, and attention holds one block of query rows,
whose size does not grow with the text. data/memory.csv holds the measured points (`sagerank bench memory`).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from . import CostError
from .catalogue import DATA, Instance
from .models import MODELS, PRECISIONS, Choice, Model, precision

RUNTIME_MB = 72.0
# The HTTP process that stands before the model's own.
SERVER_MB = 60.0
# PyTorch with a CUDA context on the host, and what CUDA takes of the device: usual figures, not measured by us.
GPU_HOST_MB, GPU_CONTEXT_MB = 3000.0, 600.0
# What the operating system and SageMaker's agents keep of an instance: an allowance, not measured.
RESERVED_MB = 700.0


@dataclass(frozen=True, slots=True)
class Point:
    """Measured peak resident memory of one process that scored one pair of `tokens`."""

    model: str
    precision: str
    tokens: int
    mb: float

    @property
    def error(self) -> float:
        """Of the formula, as a share of the measurement."""
        return peak_mb(MODELS[self.model], self.precision, self.tokens) / self.mb - 1


def weights_mb(model: Model, kind: str) -> float:
    """Of the stored weights: what the announcement's 75 % and 13 % are true of."""
    return PRECISIONS[precision(kind)][0] * model.parameters / 1e6


def activations_mb(model: Model, tokens: int) -> float:
    return 4 * tokens * (8 * model.hidden + 3 * model.intermediate) / 1e6


def peak_mb(model: Model, kind: str, tokens: int) -> float:
    """Of the model's process on a CPU, while it works on a batch or pair of `tokens`."""
    if tokens < 1:
        raise CostError(f"tokens is {tokens}: give at least 1.")
    arithmetic = PRECISIONS[precision(kind)][1]
    return RUNTIME_MB + arithmetic * model.linear / 1e6 + activations_mb(model, tokens)


def copy_mb(choice: Choice, kind: str, tokens: int) -> float:
    """Of all stages of a choice in one server process group: weights add up, and one stage works at a time."""
    weights = sum(PRECISIONS[precision(kind)][1] * model.linear for model in choice.stages) / 1e6
    return RUNTIME_MB + weights + max(activations_mb(model, tokens) for model in choice.stages)


@dataclass(frozen=True, slots=True)
class Fit:
    """How often a choice fits. copies is 0 where it does not."""

    copies: int
    needed_mb: float
    available_mb: float
    where: str  # "memory" or the GPU's name


def fit(choice: Choice, kind: str, tokens: int, instance: Instance) -> Fit:
    """Copies of the model that the instance's memory holds beside the server, each able to take `tokens` at once."""
    if instance.gpu:
        weights = sum(PRECISIONS[precision(kind)][0] * model.parameters for model in choice.stages) / 1e6
        needed = GPU_CONTEXT_MB + weights + max(activations_mb(model, tokens) for model in choice.stages)
        available = instance.gpu_memory_gib * 1073.741824
        host = int((instance.memory_gib * 1073.741824 - RESERVED_MB - SERVER_MB) // GPU_HOST_MB)
        return Fit(
            min(int(available // needed) * instance.gpus, max(0, host)), needed, available, instance.gpu
        )
    needed = copy_mb(choice, kind, tokens)
    available = instance.memory_gib * 1073.741824 - RESERVED_MB - SERVER_MB
    return Fit(max(0, int(available // needed)), needed, available, "memory")


def serverless_mb(choice: Choice, kind: str, tokens: int) -> int | None:
    """The smallest memory size of a serverless endpoint that holds the choice, or None."""
    needed = copy_mb(choice, kind, tokens) + SERVER_MB
    return next((size for size in range(1024, 6145, 1024) if size * 1.048576 >= needed), None)


def measured(path: Path = DATA / "memory.csv") -> list[Point]:
    """The points of `sagerank bench memory`: model, precision, tokens, mb."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Point(row["model"], row["precision"], int(row["tokens"]), float(row["mb"]))
            for row in csv.DictReader(file)
        ]
