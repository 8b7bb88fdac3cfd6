"""Peak memory of one model process, as a formula that measurements check.

peak = runtime + linear weights in the arithmetic's precision + activations of the largest batch, in MB = 10^6 bytes.
The runtime is Python with ONNX Runtime (or PyTorch) and the tokenizer. 16-bit weights are mapped from the file, and the
embedding table is read in place; the linear layers are held as they compute, and a fifth more for the copies that the
runtime packs. A graph in bf16 has its weights transposed as it is loaded: until then their 16 bits stand beside them, in memory that
activations take later. Activations are the larger of what the MLP holds (its input and output, gate, value and product) and what attention holds:
of pairs below 768 tokens scores and ALiBi of all heads, of longer ones the rows of each head, as their windows are computed a
few at a time (PyTorch on a CPU keeps the scores of all rows). ONNX Runtime computes a batch on each core at once; a pair
larger than a batch is computed alone.
data/memory.csv holds the measured points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from . import CostError, unknown
from .catalogue import Instance
from .models import MODELS, PRECISIONS, Choice, Model, check_precision
from .store import DATA, rows

# Python, runtime and tokenizer before any weight: intercepts over data/memory.csv.
RUNTIME_MB = {"onnx": 72.2, "torch": 360.0}
# What ONNX Runtime packs beside the weights of linear layers, as a share of them; the same from the same data.
PACKED = 1.188
# PyTorch loads all weights as float32 from the 16-bit file that it maps, before most of the runtime is in use.
TORCH_LOADING_MB = 313.0
# Tokens of a pair from which ONNX Runtime's graph computes attention in windows (sagerank/models/graph_attention.py).
# Cells of a head that are computed together there.
WINDOWS_FROM, WINDOW_CELLS = 768, 1 << 21
# Tokens of a batch (sagerank_inference/settings.py), and of the pair in it that takes most memory: from there on the windows are near.
BATCH_TOKENS, BATCH_LONGEST = 1024, 512
# What a serving process holds beside what `sagerank bench memory` measures: the tokenizer and what goes with it, and for each core what
# batches of other shapes have left in ONNX Runtime's arena. Above what was measured in the image (docs/reliability.md).
SERVING_MB, LEFT_MB = 15.0, 13.0
# The HTTP process that stands before the model's own: the bound that it keeps whatever 64 connections send
# (docs/reliability.md has the measurement). A quiet one takes about 60.
SERVER_MB = 400.0
# Of scores of pairs seen before, which that process keeps where `sagerank deploy` says so by default: in these modes, on a CPU.
CACHE_MB, CACHED = 32.0, frozenset({"realtime", "scale-to-zero"})
# PyTorch with a CUDA context on the host, and what CUDA takes of the device: usual figures, not measured by us.
GPU_HOST_MB, GPU_CONTEXT_MB = 3000.0, 600.0
# What the operating system and SageMaker's agents keep of an instance: an allowance, not measured.
RESERVED_MB = 700.0
# By the memory size of a serverless endpoint, in MB.
SERVERLESS_VCPUS = {
    int(row["memory_mb"]): float(row["vcpu"]) for _, row in rows(DATA / "serverless.csv", "memory_mb", "vcpu")
}
SERVERLESS_SIZES = tuple(SERVERLESS_VCPUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The measured peak of resident memory, in MB, of one process that scored a batch of `tokens`."""

    model: str
    precision: str
    backend: str
    tokens: int
    mb: float
    longest: int = 0  # pair of the batch; 0: it was one pair
    threads: int = 1  # so many such batches at once, unless they are larger than a batch

    @property
    def formula_mb(self) -> float:
        cores = self.threads if self.tokens <= BATCH_TOKENS else 1
        choice = Choice((MODELS[self.model],))
        return copy_mb(choice, self.precision, self.tokens, self.backend, longest=self.longest, cores=cores)

    @property
    def error(self) -> float:
        """The formula's error as a share of the measurement."""
        return self.formula_mb / self.mb - 1


def weights_mb(model: Model, precision: str) -> float:
    """MB of the stored weights: what the announcement's 75 % and 13 % are true of."""
    return PRECISIONS[check_precision(precision)][0] * model.parameters / 1e6


def activations_mb(model: Model, tokens: int, backend: str = "onnx", longest: int = 0) -> float:
    """MB that a batch of `tokens` takes while it is computed. Its pairs have `longest` tokens; 0: it is one pair."""
    longest = longest or tokens
    scores = model.heads * tokens * longest
    mlp = tokens * (2 * model.hidden + 3 * model.intermediate)
    if backend == "torch":
        values: float = scores + mlp
    elif longest < WINDOWS_FROM:
        values = max(mlp, 2 * scores + 6 * tokens * model.hidden)
    else:
        cells = min(tokens * longest, WINDOW_CELLS)
        values = max(mlp + 4.4 * tokens * model.hidden, 4 * cells + 10 * tokens * model.hidden)
    return 4 * values / 1e6


def _linear_mb(model: Model, precision: str) -> float:
    """MB of the linear layers as they compute. The last layer is float32."""
    usual, exact = (PRECISIONS[check_precision(name)][1] for name in (precision, "fp32"))
    last = model.linear / model.layers
    return (usual * (model.linear - last) + exact * last) / 1e6


def _loading_mb(model: Model, precision: str) -> float:
    """MB beside the linear layers while a graph in bf16 is loaded: all weights but the last layer's, as they are stored."""
    if precision != "bf16":
        return 0.0
    return PRECISIONS[precision][0] * model.linear * (1 - 1 / model.layers) / 1e6


def peak_mb(model: Model, precision: str, tokens: int, backend: str = "onnx") -> float:
    """MB of the model's process on a CPU with one core, while it works on one pair of `tokens`."""
    return copy_mb(Choice((model,)), precision, tokens, backend)


def copy_mb(
    choice: Choice, precision: str, tokens: int, backend: str = "onnx", *, longest: int = 0, cores: int = 1
) -> float:
    """MB of a CPU process that holds all stages of a choice, while it works on `tokens` in pairs of `longest` (0: one pair).

    The weights of the stages add up, and one stage works at a time, on a batch for every core. Raises CostError for a
    precision or backend that does not exist.
    """
    if tokens < 1:
        raise CostError(f"tokens is {tokens}: give at least 1.")
    if backend not in RUNTIME_MB:
        raise unknown("backend", backend, RUNTIME_MB)
    activations = max(activations_mb(model, tokens, backend, longest) for model in choice.stages)
    if backend == "torch":
        mapped = TORCH_LOADING_MB + 6 * choice.parameters / 1e6
        return max(mapped, RUNTIME_MB[backend] + 4 * choice.parameters / 1e6 + activations)
    weights = PACKED * sum(_linear_mb(model, precision) for model in choice.stages)
    batch = min(tokens, BATCH_TOKENS), backend, min(longest or tokens, BATCH_LONGEST)
    together = cores * max(activations_mb(model, *batch) for model in choice.stages) if cores > 1 else 0.0
    loading = max(_loading_mb(model, precision) for model in choice.stages)
    return RUNTIME_MB[backend] + weights + max(activations, together, loading)


def promised_mb(choice: Choice, precision: str, tokens: int, *, cores: int) -> float:
    """MB that a copy takes at most while it serves requests of any shape."""
    return copy_mb(choice, precision, tokens, cores=cores) + SERVING_MB + cores * LEFT_MB


def cache_mb(mode: str, instance: Instance) -> float:
    """MB of scores that a server keeps in a mode on an instance type, unless it is told otherwise."""
    return CACHE_MB if mode in CACHED and not instance.gpu else 0.0


@dataclass(frozen=True, slots=True)
class Fit:
    """How many copies of a choice fit: 0 where it does not. `where` says into what memory."""

    copies: int
    needed_mb: float
    available_mb: float
    where: str  # "memory" or the GPU's name


def fit(choice: Choice, precision: str, tokens: int, instance: Instance, *, cache_mb: float = 0.0) -> Fit:
    """Copies of the model that the instance's memory holds beside the server, every one able to take `tokens` at once.

    cache_mb: of scores that the server keeps.
    """
    available = room_mb(instance) - SERVER_MB - cache_mb
    if not instance.gpu:
        needed = promised_mb(choice, precision, tokens, cores=instance.cores)
        return Fit(max(0, int(available // needed)), needed, available, "memory")
    weights = sum(weights_mb(model, precision) * (2 if precision == "fp32" else 1) for model in choice.stages)
    needed = GPU_CONTEXT_MB + weights + max(activations_mb(model, tokens) for model in choice.stages)
    host = max(0, int(available // GPU_HOST_MB))
    device = instance.gpu_memory_gib * 1073.741824
    return Fit(min(int(device // needed) * instance.gpus, host), needed, device, instance.gpu)


def usual_fit(choice: Choice, precision: str, tokens: int, instance: Instance, *, mode: str) -> Fit:
    """As `fit`, beside the scores that a server keeps in that mode unless it is told otherwise."""
    return fit(choice, precision, tokens, instance, cache_mb=cache_mb(mode, instance))


def host_mb(
    choice: Choice, precision: str, tokens: int, instance: Instance, *, cache_mb: float = 0.0
) -> float:
    """MB of an instance's own memory that a copy takes at most with its own server: what a container of it needs."""
    server = SERVER_MB + cache_mb
    if instance.gpu:
        return GPU_HOST_MB + server
    return promised_mb(choice, precision, tokens, cores=instance.cores) + server


def room_mb(instance: Instance) -> float:
    """MB of the host's memory that are for models and their servers."""
    return instance.memory_gib * 1073.741824 - RESERVED_MB


def serverless_mb(choice: Choice, precision: str, tokens: int, *, cache_mb: float = 0.0) -> int | None:
    """The smallest memory size of a serverless endpoint that holds the choice, or None."""

    def holds(size: int) -> bool:
        cores = math.ceil(SERVERLESS_VCPUS[size])
        needed = promised_mb(choice, precision, tokens, cores=cores) + SERVER_MB + cache_mb
        return size * 1.048576 >= needed

    return next(filter(holds, SERVERLESS_SIZES), None)


@cache
def measured(folder: Path = DATA) -> tuple[Point, ...]:
    """The points of `sagerank bench memory` in memory.csv; those of a model that has changed its shape since are left out."""
    path = folder / "memory.csv"
    columns = ("model", "parameters", "precision", "backend", "tokens", "peak_rss_mb")
    points = []
    for line, row in rows(path, *columns):
        if row["model"] not in MODELS:
            raise CostError(f"{path}:{line}: {unknown('model', row['model'], MODELS)}")
        try:
            mb, tokens, parameters = float(row["peak_rss_mb"]), int(row["tokens"]), int(row["parameters"])
            longest, threads = int(row.get("longest", tokens)), int(row.get("threads", 1))
        except ValueError as error:
            raise CostError(f"{path}:{line}: {error}: correct the row.") from None
        if parameters == MODELS[row["model"]].parameters:
            texts = {name: row[name] for name in ("model", "precision", "backend")}
            points.append(Point(**texts, tokens=tokens, mb=mb, longest=longest, threads=threads))
    return tuple(points)
