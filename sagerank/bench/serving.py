"""What the server makes of the engine under load, beside AWS's toolkit with the same handler.

A machine's speed drifts, so each closed loop lies between two stretches of the engine alone over the same requests, and
its share of offline is relative to these. The client runs in this process, the engine and the servers in their own; all
share the cores.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..evaluation import EvaluationError
from .load import Load, Outcome, Request, check_distinct
from .timing import percentile
from .workload import demo, long

if TYPE_CHECKING:
    from .servers import Served
    from .subject import EngineSubject

TOLERANCE = 1e-5  # of a score, which is a probability
COMPARED_CLIENTS = 16  # at which the toolkit is measured
SHORT_LOAD = 0.2  # share of capacity that goes on while a long request is answered
TIMEOUT = 600.0
DIFFERENT_REQUESTS = 24  # sent in turn

Texts = tuple[str, list[str]]  # a query and its documents


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One server under one load; what was not measured is None. Latencies are of right answers.

    lost: requests without an answer; duplicated: answers too many; wrong: answers to another request, by their scores;
    errors: statuses other than 200.
    """

    name: str
    load: str
    clients: int | None = None
    requests: int = 0
    documents_per_second: float | None = None
    share_of_offline: float | None = None  # median over the rounds
    spread: tuple[float, float] | None = None  # of that share
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    overhead_ms: float | None = None  # one client: p50 above the engine's over the same requests
    cpu_ms_per_document: float | None = None  # of all the server's processes
    rss_mb: float | None = None  # of all the server's processes, shared pages once
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    errors: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured. `long_*` are the sizes of the one request that must not starve the others."""

    documents: int
    clients: Sequence[int]
    rounds: int
    stretch: float  # seconds of offline work, and of a closed loop at least
    load: float  # of the open loop, as a share of the capacity measured
    seconds: float
    long_documents: int
    long_tokens: int
    toolkit: bool


def measure(
    folder: Path, plan: Plan, *, threads: int, note: Callable[[str], None] = lambda *_: None
) -> list[Row]:
    """Rows of the engine alone, of our server, and of the toolkit. note: is told what is measured next.

    Raises EvaluationError where our own server does not start; the toolkit's rows then hold the reason.
    """
    from .servers import ours, toolkit
    from .subject import EngineSubject

    with ExitStack() as stack:
        engine = stack.enter_context(EngineSubject(folder, threads=threads))
        texts = list(islice(different(plan.documents), DIFFERENT_REQUESTS))
        requests = [request(engine, query, documents) for query, documents in texts]
        check_distinct(requests, TOLERANCE)
        server = stack.enter_context(ours(folder, threads=threads, request_seconds=TIMEOUT))
        subjects = [(server, clients) for clients in plan.clients]
        failed = []
        for workers in sorted({threads, 1}, reverse=True) if plan.toolkit else ():
            try:
                other = stack.enter_context(toolkit(folder, workers=workers, threads=threads))
                subjects.append((other, COMPARED_CLIENTS))
            except EvaluationError as error:
                name = f"sagemaker-toolkit, {workers} copies"
                failed.append(Row(name=name, load="closed", clients=COMPARED_CLIENTS, error=str(error)))
        offline = _Offline(engine, texts)
        offline.work(2)
        for subject, clients in subjects:  # the toolkit loads its models when /ping is 200 already
            asyncio.run(load(subject, requests).closed_loop(clients=clients, count=2 * clients))
        rows = _closed_rows(subjects, requests, offline, plan, note)
        capacity = max(row.documents_per_second or 0.0 for row in rows if row.name == server.name)
        note(f"open loop at {plan.load:.0%} of {capacity:.1f} documents/s")
        per_second = plan.load * capacity / plan.documents
        loop = load(server, requests).open_loop(per_second=per_second, seconds=plan.seconds)
        rows.append(_row(server, f"open, {plan.load:.0%}", [asyncio.run(loop)]))
        if plan.long_documents:
            note(f"{plan.long_documents} documents of {plan.long_tokens} tokens beside short requests")
            rows += _starvation(server, engine, requests, plan, capacity)
        return [offline.row(), *rows, *failed]


def different(documents: int) -> Iterator[Texts]:
    """Queries with so many documents, without end: the demo's passages, all rotated at random, so other texts of the same lengths."""
    query, texts = demo()
    passages, chance = [text.split() for text in texts], random.Random(0)
    while True:
        rotated = []
        for words in chance.sample(passages, documents):
            first = chance.randrange(len(words))
            rotated.append(" ".join(words[first:] + words[:first]))
        yield query, rotated


def request(engine: EngineSubject, query: str, documents: Sequence[str]) -> Request:
    """A request with the scores that the engine gives it."""
    logits, _ = engine.score(query, documents)
    body = json.dumps({"query": query, "documents": documents, "return_documents": False})
    return Request(body.encode(), tuple(map(engine.scale.score, logits)))


def load(served: Served, requests: Sequence[Request]) -> Load:
    """Those requests in turn on a server."""
    server = served.server
    return Load(host=server.host, port=server.port, requests=requests, tolerance=TOLERANCE, timeout=TIMEOUT)


class _Offline:
    """The engine alone over the same requests, one after the other: documents per second, and seconds of every request."""

    def __init__(self, engine: EngineSubject, texts: Sequence[Texts]) -> None:
        self._engine, self._texts = engine, texts
        self._rates: list[float] = []
        self._seconds: list[float] = []

    def work(self, count: int) -> tuple[float, float]:
        """Documents per second over so many requests, and the median's seconds."""
        seconds = [self._engine.score(*self._texts[number % len(self._texts)])[1] for number in range(count)]
        self._seconds += seconds
        self._rates.append(count * len(self._texts[0][1]) / sum(seconds))
        return self._rates[-1], statistics.median(seconds)

    @property
    def rate(self) -> float:
        """Documents per second, the median of all stretches of work."""
        return statistics.median(self._rates)

    def row(self) -> Row:
        p50, p90, p99 = (1e3 * percentile(self._seconds, percent) for percent in (50, 90, 99))
        return Row(
            name="engine", load="offline", clients=1, requests=len(self._seconds), documents_per_second=self.rate,
            share_of_offline=1.0, p50_ms=p50, p90_ms=p90, p99_ms=p99,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Round:
    """A closed loop, and the engine alone before and after it."""

    outcome: Outcome
    cpu_seconds: float | None  # of the server
    alone_rate: float  # documents per second
    alone_seconds: float  # of the median request

    @property
    def rate(self) -> float:
        return self.outcome.documents / self.outcome.seconds


def _closed_rows(
    subjects: Sequence[tuple[Served, int]],
    requests: Sequence[Request],
    offline: _Offline,
    plan: Plan,
    note: Callable[[str], None],
) -> list[Row]:
    rounds: list[list[_Round]] = [[] for _ in subjects]
    for number in range(plan.rounds):
        for (served, clients), past in zip(subjects, rounds, strict=True):
            note(f"round {number + 1} of {plan.rounds}: {served.name}, {clients} clients")
            stretch = max(2, round(plan.stretch * offline.rate / plan.documents))
            rate, median = offline.work(stretch)
            start = served.cpu_seconds()
            loop = load(served, requests).closed_loop(clients=clients, count=max(stretch, 2 * clients))
            outcome = asyncio.run(loop)
            end = served.cpu_seconds()
            after, median_after = offline.work(stretch)
            cpu = None if start is None or end is None else end - start
            past.append(_Round(outcome, cpu, (rate + after) / 2, (median + median_after) / 2))
    return [
        _closed_row(served, clients, past) for (served, clients), past in zip(subjects, rounds, strict=True)
    ]


def _closed_row(served: Served, clients: int, rounds: Sequence[_Round]) -> Row:
    answered = [past for past in rounds if past.outcome.documents]
    row = _row(served, "closed", [past.outcome for past in rounds], clients=clients)
    if not answered:
        return replace(row, documents_per_second=None)
    shares = [past.rate / past.alone_rate for past in answered]
    above = [(past.outcome.percentile_ms(50) or 0.0) - 1e3 * past.alone_seconds for past in answered]
    cpu = [past.cpu_seconds for past in rounds if past.cpu_seconds is not None]
    documents = sum(past.outcome.documents for past in rounds)
    return replace(
        row,
        documents_per_second=statistics.median(past.rate for past in answered),
        share_of_offline=statistics.median(shares),
        spread=(min(shares), max(shares)),
        overhead_ms=statistics.median(above) if clients == 1 else None,
        cpu_ms_per_document=1e3 * sum(cpu) / documents if cpu else None,
    )


def _starvation(
    served: Served, engine: EngineSubject, requests: Sequence[Request], plan: Plan, capacity: float
) -> list[Row]:
    """Short requests alone, then while one long request is answered, and that one."""
    work = long((plan.long_tokens,) * plan.long_documents)
    long_load = load(served, [request(engine, work.query, work.documents)])
    short_load = load(served, requests)
    per_second = SHORT_LOAD * capacity / plan.documents

    async def both() -> tuple[Outcome, Outcome]:
        answer = asyncio.create_task(long_load.closed_loop(clients=1, count=1))
        beside = await short_load.open_loop(per_second=per_second, seconds=TIMEOUT, until=answer)
        return beside, await answer

    alone = asyncio.run(short_load.open_loop(per_second=per_second, seconds=plan.seconds))
    beside, one = asyncio.run(both())
    share = f"open, {SHORT_LOAD:.0%}"
    return [
        _row(served, share, [alone]),
        _row(served, f"{share}, beside a long request", [beside]),
        _row(served, f"one request of {plan.long_documents} x {plan.long_tokens} tokens", [one], clients=1),
    ]


def _row(served: Served, load: str, outcomes: Sequence[Outcome], *, clients: int | None = None) -> Row:
    whole = sum(outcomes, Outcome())
    return Row(
        name=served.name, load=load, clients=clients, requests=whole.requests,
        documents_per_second=whole.documents_per_second, rss_mb=served.memory_mb(),
        p50_ms=whole.percentile_ms(50), p90_ms=whole.percentile_ms(90), p99_ms=whole.percentile_ms(99),
        lost=whole.lost, duplicated=whole.duplicated, wrong=whole.wrong, errors=whole.errors,
    )  # fmt: skip
