"""`sagerank bench latency`: how long one call takes, alone, by the number of its documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from ..evaluation import EvaluationError
from ..evaluation.progress import Progress
from ..models.arithmetic import flops
from .ceiling import Ceiling
from .subject import EngineSubject
from .workload import Workload

DOCUMENTS = (1, 10, 25, 100)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds; with fewer than 100 calls, p99 is the longest or near it."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class Row:
    model: str
    documents: int
    calls: int
    total: Percentiles
    tokenise: Percentiles
    forward: Percentiles
    # GFLOP/s of the forwards: their work without padding, pruned, by the sum of their times
    gflops: float | None
    ceiling_gflops: float
    share_of_ceiling: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    rows: list[Row]
    ceiling: str  # library and shape


def measure(
    models: dict[str, Path],
    workload: Workload,
    *,
    documents: Sequence[int] = DOCUMENTS,
    calls: int,
    threads: int,
    progress: Progress = lambda step, done, total: None,
) -> Measured:
    """Calls of Engine.score one after the other, each with the next documents of the workload, so that lengths vary as
    they do there. The ceiling is measured before each number of documents.
    """
    for count in documents:
        if not 1 <= count <= len(workload.documents):
            raise EvaluationError(f"--documents is {count}: give 1 to {len(workload.documents)}.")
    rows = []
    with Ceiling(threads) as ceiling:
        for name, folder in models.items():
            with EngineSubject(folder, threads=threads) as subject:
                for count in documents:
                    ceiling.measure()
                    step = f"{name}, {count} documents"
                    rows.append(
                        _row(name, folder, subject, workload, count, calls, ceiling.rates[-1], step, progress)
                    )
        return Measured(rows, ceiling.what)


def _row(
    name: str,
    folder: Path,
    subject: EngineSubject,
    workload: Workload,
    count: int,
    calls: int,
    ceiling: float,
    step: str,
    progress: Progress,
) -> Row:
    texts = cycle(workload.documents)
    subject.score(workload.query, list(islice(texts, count)))
    total, tokenise, forward, lengths = [], [], [], []
    for call in range(calls):
        chosen = list(islice(texts, count))
        lengths += subject.lengths(workload.query, chosen)
        scores, seconds = subject.time(workload.query, chosen)
        total.append(seconds)
        tokenise.append(scores.timings.tokenise)
        forward.append(scores.timings.forward)
        progress(step, call + 1, calls)
    needed = flops(folder, lengths)
    gflops = None if needed is None else 1e-9 * needed / sum(forward)
    return Row(
        model=name,
        documents=count,
        calls=calls,
        total=_percentiles(total),
        tokenise=_percentiles(tokenise),
        forward=_percentiles(forward),
        gflops=gflops,
        ceiling_gflops=ceiling,
        share_of_ceiling=None if gflops is None else gflops / ceiling,
    )


def _percentiles(seconds: Sequence[float]) -> Percentiles:
    """Nearest rank: a time that was measured, not one between two."""
    ranked = sorted(seconds)
    return Percentiles(*(1e3 * ranked[-(-len(ranked) * part // 100) - 1] for part in (50, 90, 99)))
