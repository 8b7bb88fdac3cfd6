"""`sagerank bench memory`: the peak resident memory of a batch of pairs on each core, in a process of its own.

The points are those that the cost module's formula is checked against.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sagerank_cost.memory import Point
from sagerank_cost.models import MODELS
from sagerank_cost.store import rows, write
from sagerank_inference.artefact import Manifest
from sagerank_inference.checkpoint import CheckpointError, JinaBertConfig
from sagerank_inference.settings import Settings

from ..evaluation import EvaluationError
from ..models.arithmetic import shape
from . import peak
from .conditions import vector_units
from .process import printed

# Columns of memory.csv. `tokens` are those of the batch, `longest` those of each of its pairs.
_KEY = ("model", "parameters", "precision", "backend", "tokens", "longest", "threads")
COLUMNS = (*_KEY, "loaded_rss_mb", "peak_rss_mb", "conditions")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPoint:
    """The peak of one batch. Megabytes are 10^6 bytes, of the whole process: interpreter, runtime, weights, activations."""

    model: str
    precision: str
    backend: str
    tokens: int  # of each pair
    pairs: int
    threads: int
    loaded_rss_mb: float  # peak until the artefact is loaded
    peak_rss_mb: float
    formula_mb: float | None  # the cost module's; None for a shape it does not know
    seconds: float  # of the forward


def measure(folder: Path, model: str, tokens: int, settings: Settings, *, pairs: int = 1) -> MemoryPoint:
    """Run a batch in a fresh process: what this one has loaded (PyTorch, to build a model) does not count.

    Raises EvaluationError where that process fails, and on a system without /proc.
    """
    if not peak.STATUS.exists():
        raise EvaluationError(f"Peak memory is read from {peak.STATUS}, which only Linux has: measure there.")
    # PyTorch computes in float32 on a CPU.
    precision = Manifest.read(folder).precision if settings.backend == "onnx" else "fp32"
    result = printed(peak.__name__, folder, tokens, pairs, settings.backend, settings.threads)
    name, formula = _shape(folder), None
    if name:
        point = Point(
            model=name,
            precision=precision,
            backend=settings.backend,
            tokens=pairs * tokens,
            mb=result["peak_rss_mb"],
            longest=tokens,
            threads=settings.threads,
        )
        formula = round(point.formula_mb, 1)
    return MemoryPoint(
        model=model,
        precision=precision,
        backend=settings.backend,
        tokens=tokens,
        pairs=pairs,
        threads=settings.threads,
        formula_mb=formula,
        **result,
    )


def save(points: Sequence[MemoryPoint], folders: dict[str, Path], path: Path) -> None:
    """Add the points to a file like cost/sagerank_cost/data/memory.csv, or write one; a row of the same measurement is replaced.

    folders: artefact folder of each point's model. Raises EvaluationError for a shape that the cost module does not know.
    """
    kept: dict[tuple[str, ...], dict[str, str]] = {}
    if path.exists():
        for _, row in rows(path, *(name for name in COLUMNS if name != "longest")):
            row = {"longest": row["tokens"], **row}
            kept[tuple(row[name] for name in _KEY)] = row
    for point in points:
        row = _csv_row(point, folders[point.model])
        kept[tuple(row[name] for name in _KEY)] = row
    write(path, COLUMNS, [[row[name] for name in COLUMNS] for row in kept.values()])


def _csv_row(point: MemoryPoint, folder: Path) -> dict[str, str]:
    name = _shape(folder)
    if name is None:
        raise EvaluationError(
            f"The cost module knows no model of the shape of {point.model}: add it to cost/sagerank_cost/data/models.csv."
        )
    command = f"sagerank bench memory --model {point.model} --tokens {point.tokens}"
    command += f" --batch {point.pairs}" if point.pairs > 1 else ""
    command += f" --backend {point.backend} --threads {point.threads}"
    units = " and ".join(vector_units()[:1])
    where = f"{platform.system()} {platform.machine().replace('_', '-')}" + (
        f" with {units}" if units else ""
    )
    version = ".".join(platform.python_version_tuple()[:2])
    values = {
        "model": name,
        "parameters": Manifest.read(folder).parameters,
        "precision": point.precision,
        "backend": point.backend,
        "tokens": point.pairs * point.tokens,
        "longest": point.tokens,
        "threads": point.threads,
        "loaded_rss_mb": point.loaded_rss_mb,
        "peak_rss_mb": point.peak_rss_mb,
        "conditions": f"{command}; {where}; Python {version}; {datetime.date.today().isoformat()}",
    }
    return {column: str(value) for column, value in values.items()}


def _shape(folder: Path) -> str | None:
    """The cost module's name for the shape of an artefact. None where it has none, or the artefact several models."""
    try:
        ours = shape(JinaBertConfig.read(folder))
    except CheckpointError:
        return None
    same = (name for name, model in MODELS.items() if replace(model, name=ours.name, ndcg=ours.ndcg) == ours)
    return next(same, None)
