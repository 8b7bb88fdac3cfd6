"""What kept scores are worth where requests repeat: a query log by Zipf's law, on a server without a cache and on one with it.

The request of rank r among as many as the log is long is drawn with a probability that goes as 1 / r^s, so the log's length and s
decide how many repeat. Both servers answer the same part of the log in each round, one after the other, and another begins in each: a
machine's speed drifts, and what is compared is the ratio within a round. The cache is empty at first, as after a deployment.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING

from sagerank_cost.memory import CACHE_MB

from .load import Outcome, check_distinct
from .serving import COMPARED_CLIENTS, TIMEOUT, TOLERANCE, different, load, request

if TYPE_CHECKING:
    from .servers import Served


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One of the two servers over the whole log. Latencies are of right answers; counts as in `serving.Row`.

    ratio: of its documents per second to those without a cache in the same round, the median; spread: the lowest and the highest.
    hit_rate: the share of pairs whose score it knew, over all rounds.
    """

    name: str
    zipf: float
    requests: int
    different: int  # among them
    documents_per_second: float | None
    ratio: float | None
    spread: tuple[float, float] | None
    hit_rate: float
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    rss_mb: float | None
    lost: int
    duplicated: int
    wrong: int
    errors: int


def draw(exponent: float, count: int) -> list[int]:
    """The requests of a log by their rank from 0, so many of as many: the same ones whenever it is asked."""
    weights = list(accumulate(1 / rank**exponent for rank in range(1, count + 1)))
    return random.Random(0).choices(range(count), cum_weights=weights, k=count)


def measure(
    folder: Path,
    exponent: float,
    *,
    documents: int,
    rounds: int,
    stretch: float,
    threads: int,
    note: Callable[[str], None] = lambda *_: None,
) -> list[Row]:
    """Rows of the server without a cache and with it. stretch: seconds that a server without it takes for its part of a round.

    Raises EvaluationError where a server does not start. note: is told what is measured next.
    """
    from .servers import ours
    from .subject import EngineSubject

    with ExitStack() as stack:
        engine = stack.enter_context(EngineSubject(folder, threads=threads))
        trial = list(islice(different(documents), 4))
        seconds = statistics.median(engine.score(*texts)[1] for texts in trial)
        part = max(2, round(stretch / seconds))
        log = draw(exponent, part * rounds)
        drawn = set(log)
        note(f"a log of {len(log)} requests, {len(drawn)} of them different: their scores by the engine")
        # A query of its own for each: of few passages, rotated, some pairs would else be known that nobody had asked for.
        texts = enumerate(islice(different(documents), len(log)))
        requests = {
            rank: request(engine, f"{query} {rank}", passages)
            for rank, (query, passages) in texts
            if rank in drawn
        }
        check_distinct(list(requests.values()), TOLERANCE)
        servers = [
            stack.enter_context(ours(folder, threads=threads, request_seconds=TIMEOUT, cache_mb=megabytes))
            for megabytes in (0, round(CACHE_MB))  # what `sagerank deploy` gives it
        ]
        outcomes: list[list[Outcome]] = [[] for _ in servers]
        for number in range(rounds):
            ranks = log[number * part : (number + 1) * part]
            order = list(zip(servers, outcomes, strict=True))
            for served, past in order if number % 2 == 0 else reversed(order):
                note(f"round {number + 1} of {rounds}: {served.name}")
                loop = load(served, [requests[rank] for rank in ranks])
                past.append(asyncio.run(loop.closed_loop(clients=COMPARED_CLIENTS, count=part)))
        return [
            _row(served, exponent, len(drawn), past, outcomes[0])
            for served, past in zip(servers, outcomes, strict=True)
        ]


def _row(
    served: Served, exponent: float, different: int, past: Sequence[Outcome], without: Sequence[Outcome]
) -> Row:
    whole = sum(past, Outcome())
    speeds = [
        (one.documents_per_second, other.documents_per_second)
        for one, other in zip(past, without, strict=True)
    ]
    ratios = [one / other for one, other in speeds if one and other]
    hits, misses = (served.counter(f"sagerank_cache_{name}_total") for name in ("hits", "misses"))
    return Row(
        name=served.name, zipf=exponent, requests=whole.requests, different=different,
        documents_per_second=whole.documents_per_second,
        ratio=statistics.median(ratios) if ratios else None,
        spread=(min(ratios), max(ratios)) if ratios else None,
        hit_rate=hits / (hits + misses) if hits else 0.0,
        p50_ms=whole.percentile_ms(50), p90_ms=whole.percentile_ms(90), p99_ms=whole.percentile_ms(99),
        rss_mb=served.memory_mb(),
        lost=whole.lost, duplicated=whole.duplicated, wrong=whole.wrong, errors=whole.errors,
    )  # fmt: skip


def sentences(rows: Sequence[Row]) -> list[str]:
    """What the rows come to."""
    kept = rows[-1]
    speed = f"{kept.ratio:.2f} times the documents per second" if kept.ratio else "no right answers"
    return [f"{kept.name}: {speed}, where {kept.hit_rate:.0%} of the pairs were known."]
