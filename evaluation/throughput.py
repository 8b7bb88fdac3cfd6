"""Documents per 50 ms of a scorer on one query, the announcement's unit."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from .scorer import Scorer


def documents_per_50_ms(scorer: Scorer, query: str, documents: Sequence[str], *, repeats: int = 3) -> float:
    """Median of `repeats` calls after one that warms up; whole calls, tokenisation included.

    Comparable only between scorers measured in one process on one machine, with the same documents.
    """
    scorer.score(query, documents)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        scorer.score(query, documents)
        times.append(time.perf_counter() - start)
    return 0.05 * len(documents) / statistics.median(times)
