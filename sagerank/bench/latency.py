"""`sagerank bench latency`: how long one call takes, alone, by the number of its documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from ..evaluation import EvaluationError
from ..evaluation.progress import Progress
from ..models.arithmetic import flops
from .ceiling import Ceiling
from .subject import EngineSubject
from .timing import percentile
from .workload import Workload


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds; with fewer than 100 calls, p99 is the longest or near it."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Percentiles:
        """The percentiles of times in seconds."""
        return cls(*(1e3 * percentile(seconds, percent) for percent in (50, 90, 99)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Calls of one model with so many documents."""

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
    """The rows, and what the ceiling is: library and shape."""

    rows: list[Row]
    ceiling: str


def measure(
    models: dict[str, Path],
    workload: Workload,
    *,
    documents: Sequence[int],
    calls: int,
    threads: int,
    progress: Progress = lambda *_: None,
) -> Measured:
    """Time calls of Engine.score one after the other; the ceiling is measured before every number of documents.

    A call takes the next documents of the workload, so that lengths vary as they do there. Raises EvaluationError for a
    number of documents that the workload does not have.
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
                    step = partial(progress, f"{name}, {count} documents")
                    times, lengths = _calls(subject, workload, count, calls, step)
                    total, tokenise, forward = zip(*times, strict=True)
                    needed = flops(folder, lengths)
                    gflops = None if needed is None else 1e-9 * needed / sum(forward)
                    rows.append(
                        Row(
                            model=name,
                            documents=count,
                            calls=calls,
                            total=Percentiles.of(total),
                            tokenise=Percentiles.of(tokenise),
                            forward=Percentiles.of(forward),
                            gflops=gflops,
                            ceiling_gflops=ceiling.rates[-1],
                            share_of_ceiling=None if gflops is None else gflops / ceiling.rates[-1],
                        )
                    )
        return Measured(rows, ceiling.what)


def _calls(
    subject: EngineSubject, workload: Workload, count: int, calls: int, progress: Callable[[int, int], None]
) -> tuple[list[tuple[float, float, float]], list[int]]:
    """Seconds of every call, of its tokenisation and of its forwards; and the tokens of all pairs."""
    texts = cycle(workload.documents)
    subject.score(workload.query, list(islice(texts, count)))
    times, lengths = [], []
    for call in range(calls):
        chosen = list(islice(texts, count))
        lengths += subject.lengths(workload.query, chosen)
        scores, seconds = subject.time(workload.query, chosen)
        times.append((seconds, scores.timings.tokenise, scores.timings.forward))
        progress(call + 1, calls)
    return times, lengths
