"""What the server makes of the engine under load, beside AWS's toolkit with the same handler.

A machine's speed drifts, so each closed loop lies between two stretches of the engine alone over the same requests, and
its share of offline is relative to these. The client runs in this process, the engine and the servers in their own; all
share the cores.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..evaluation import DEMO, EvaluationError
from .load import Outcome, Request, check_distinct, closed_loop, open_loop

if TYPE_CHECKING:
    from .servers import Served
    from .subject import EngineSubject

TOLERANCE = 1e-5  # of a score, which is a logit's sigmoid
COMPARED_CLIENTS = 16  # at which the toolkit is measured
SHORT_LOAD = 0.2  # share of capacity that goes on while a long request is answered
TIMEOUT = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One server under one load. Latencies are of right answers. lost: requests without an answer; duplicated: answers too
    many; wrong: of another request, by its scores; errors: statuses other than 200.
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


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. Sizes of `long_*` are those of the one request that must not starve the others."""

    documents: int
    clients: Sequence[int]
    rounds: int
    stretch: float  # seconds of offline work, and of a closed loop at least
    load: float  # of the open loop, as a share of the capacity measured
    seconds: float
    long_documents: int
    long_tokens: int
    toolkit: bool
    pool: int = 24  # different requests, sent in turn


def measure(
    folder: Path, plan: Plan, *, threads: int, note: Callable[[str], None] = lambda text: None
) -> list[Row]:
    """Raises EvaluationError where our own server does not start; the toolkit's rows then hold the reason."""
    from .servers import ours, toolkit
    from .subject import EngineSubject

    with ExitStack() as stack:
        engine = stack.enter_context(EngineSubject(folder, threads=threads))
        texts = list(_texts(plan))
        requests = [_request(engine, query, documents) for query, documents in texts]
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
        for one, clients in subjects:  # the toolkit loads its models when /ping is 200 already
            asyncio.run(
                closed_loop(
                    one.port,
                    requests,
                    clients=clients,
                    count=2 * clients,
                    tolerance=TOLERANCE,
                    timeout=TIMEOUT,
                )
            )
        rows = _closed_loops(subjects, requests, offline, plan, note)
        capacity = max(row.documents_per_second or 0.0 for row in rows if row.name == server.name)
        note(f"open loop at {plan.load:.0%} of {capacity:.1f} documents/s")
        rows.append(_open_row(server, requests, plan, capacity))
        if plan.long_documents:
            note(f"{plan.long_documents} documents of {plan.long_tokens} tokens beside short requests")
            rows += _starvation(server, engine, requests, plan, capacity)
        return [offline.row(), *rows, *failed]


def _texts(plan: Plan) -> Iterator[tuple[str, list[str]]]:
    """The demo's passages, each turned round at some word: other texts of the same lengths for each request."""

    raw = json.loads(DEMO.read_text(encoding="utf-8"))
    passages, chance = [passage["text"].split() for passage in raw["passages"]], random.Random(0)
    for _ in range(plan.pool):
        documents = []
        for words in chance.sample(passages, plan.documents):
            turn = chance.randrange(len(words))
            documents.append(" ".join(words[turn:] + words[:turn]))
        yield raw["query"], documents


def _request(engine: EngineSubject, query: str, documents: Sequence[str]) -> Request:
    from sagerank_inference.dialects import sigmoid

    logits, _ = engine.score(query, documents)
    body = json.dumps({"query": query, "documents": documents, "return_documents": False})
    return Request(body.encode(), tuple(map(sigmoid, logits)))


class _Offline:
    """The engine alone over the same requests, one after the other: documents per second, and what each took."""

    def __init__(self, engine: EngineSubject, texts: Sequence[tuple[str, list[str]]]) -> None:
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
        return statistics.median(self._rates)

    def row(self) -> Row:
        ordered = sorted(1e3 * seconds for seconds in self._seconds)
        p50, p90, p99 = (ordered[int(share * len(ordered))] for share in (0.5, 0.9, 0.99))
        return Row(
            name="engine", load="offline", clients=1, requests=len(ordered), documents_per_second=self.rate,
            share_of_offline=1.0, p50_ms=p50, p90_ms=p90, p99_ms=p99,
        )  # fmt: skip


def _closed_loops(
    subjects: Sequence[tuple[Served, int]],
    requests: Sequence[Request],
    offline: _Offline,
    plan: Plan,
    note: Callable[[str], None],
) -> list[Row]:
    found: list[list[tuple[Outcome, float, float, float]]] = [[] for _ in subjects]
    for turn in range(plan.rounds):
        for place, (server, clients) in enumerate(subjects):
            note(f"round {turn + 1} of {plan.rounds}: {server.name}, {clients} clients")
            stretch = max(2, round(plan.stretch * offline.rate / plan.documents))
            rate, median = offline.work(stretch)
            cpu = server.cpu_seconds()
            loop = closed_loop(
                server.port, requests, clients=clients, count=max(stretch, 2 * clients), tolerance=TOLERANCE,
                timeout=TIMEOUT,
            )  # fmt: skip
            outcome = asyncio.run(loop)
            cpu = server.cpu_seconds() - cpu
            after, median_after = offline.work(stretch)
            found[place].append((outcome, (rate + after) / 2, (median + median_after) / 2, cpu))
    rows = []
    for (server, clients), runs in zip(subjects, found, strict=True):
        speeds = [outcome.documents / outcome.seconds for outcome, _, _, _ in runs if outcome.documents]
        shares = [
            outcome.documents / outcome.seconds / alone for outcome, alone, _, _ in runs if outcome.documents
        ]
        above = [1e3 * (half - median) for outcome, _, median, _ in runs if (half := outcome.quantile(0.5))]
        documents = sum(outcome.documents for outcome, _, _, _ in runs)
        row = _row(server, "closed", [outcome for outcome, _, _, _ in runs], clients=clients)
        rows.append(
            dataclasses.replace(
                row,
                documents_per_second=statistics.median(speeds) if speeds else None,
                share_of_offline=statistics.median(shares) if shares else None,
                spread=(min(shares), max(shares)) if shares else None,
                overhead_ms=statistics.median(above) if clients == 1 and above else None,
                cpu_ms_per_document=1e3 * sum(run[3] for run in runs) / documents if documents else None,
            )
        )
    return rows


def _open_row(server: Served, requests: Sequence[Request], plan: Plan, capacity: float) -> Row:
    loop = open_loop(
        server.port, requests, per_second=plan.load * capacity / plan.documents, seconds=plan.seconds,
        tolerance=TOLERANCE, timeout=TIMEOUT,
    )  # fmt: skip
    return _row(server, f"open, {plan.load:.0%}", [asyncio.run(loop)])


def _starvation(
    server: Served, engine: EngineSubject, requests: Sequence[Request], plan: Plan, capacity: float
) -> list[Row]:
    """Short requests alone, then while one long request is answered, and that one."""
    from .workload import long

    work = long((plan.long_tokens,) * plan.long_documents)
    large = _request(engine, work.query, work.documents)
    per_second = SHORT_LOAD * capacity / plan.documents

    async def both() -> tuple[Outcome, Outcome]:
        answer = asyncio.create_task(
            closed_loop(server.port, [large], clients=1, count=1, tolerance=TOLERANCE, timeout=TIMEOUT)
        )
        beside = await open_loop(
            server.port, requests, per_second=per_second, seconds=TIMEOUT, tolerance=TOLERANCE,
            timeout=TIMEOUT, until=answer,
        )  # fmt: skip
        return beside, await answer

    alone = asyncio.run(
        open_loop(
            server.port,
            requests,
            per_second=per_second,
            seconds=plan.seconds,
            tolerance=TOLERANCE,
            timeout=TIMEOUT,
        )  # fmt: skip
    )
    beside, one = asyncio.run(both())
    return [
        _row(server, f"open, {SHORT_LOAD:.0%}", [alone]),
        _row(server, f"open, {SHORT_LOAD:.0%}, beside a long request", [beside]),
        _row(server, f"one request of {plan.long_documents} x {plan.long_tokens} tokens", [one], clients=1),
    ]


def _row(server: Served, load: str, outcomes: Sequence[Outcome], *, clients: int | None = None) -> Row:
    whole = Outcome.together(outcomes)

    def milliseconds(share: float) -> float | None:
        seconds = whole.quantile(share)
        return None if seconds is None else 1e3 * seconds

    return Row(
        name=server.name, load=load, clients=clients, requests=whole.requests,
        documents_per_second=whole.documents / whole.seconds if whole.seconds else None,
        p50_ms=milliseconds(0.5), p90_ms=milliseconds(0.9), p99_ms=milliseconds(0.99), rss_mb=server.memory_mb(),
        lost=whole.lost, duplicated=whole.duplicated, wrong=whole.wrong, errors=whole.errors,
    )  # fmt: skip
