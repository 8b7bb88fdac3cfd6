"""Load on a reranker's HTTP door, and a ledger of what became of each request.

The client shares the machine with the server it measures, so it does little: bodies are encoded beforehand, connections
are kept open, and answers are put away as bytes and read when the load is over.

Closed loop: so many clients, each sending its next request when it has its answer. Open loop: requests arrive at random
times of a stated rate whatever the server does, and a latency counts from the moment a request was due: a server that
falls behind cannot hide it by slowing its clients down (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..evaluation import EvaluationError

PATH = "/invocations"


@dataclass(frozen=True, slots=True)
class Request:
    """A body of JSON, and the score of each document in it, by which its answer is known from all others'."""

    body: bytes
    scores: tuple[float, ...]


@dataclass(slots=True)
class Sent:
    """One request under way. Times are of time.perf_counter, in seconds."""

    request: Request
    due: float
    answers: list[bytes] = field(default_factory=list)  # whole HTTP answers
    finished: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run. lost: no answer; errors: a status other than 200; wrong: scores that are not this request's."""

    documents: int
    seconds: float
    latencies: tuple[float, ...]  # seconds, of the right answers
    lost: int
    duplicated: int
    errors: int
    wrong: int

    @property
    def requests(self) -> int:
        """That were sent."""
        return len(self.latencies) + self.lost + self.errors + self.wrong

    @classmethod
    def together(cls, runs: Sequence[Outcome]) -> Outcome:
        """Of several runs one after the other."""
        return cls(
            documents=sum(run.documents for run in runs),
            seconds=sum(run.seconds for run in runs),
            latencies=tuple(latency for run in runs for latency in run.latencies),
            lost=sum(run.lost for run in runs),
            duplicated=sum(run.duplicated for run in runs),
            errors=sum(run.errors for run in runs),
            wrong=sum(run.wrong for run in runs),
        )

    def quantile(self, share: float) -> float | None:
        """Seconds that the share of the right answers did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def check_distinct(requests: Sequence[Request], tolerance: float) -> None:
    """Raise EvaluationError unless every two requests differ in some score by ten times the tolerance: else an answer that
    belongs to another would pass.
    """
    for place, one in enumerate(requests):
        for other in requests[:place]:
            if _agree(one.scores, other.scores, 10 * tolerance):
                raise EvaluationError(
                    f"Two requests have the same scores within {10 * tolerance:g}, so their answers could not be told apart: "
                    "give more --documents, or a model whose scores differ."
                )


async def closed_loop(
    port: int, requests: Sequence[Request], *, clients: int, count: int, tolerance: float, timeout: float
) -> Outcome:
    """Send `count` requests (those given, in turn) from so many clients."""
    numbers = iter(range(count))
    sent: list[Sent] = []

    async def client(connection: _Connection) -> None:
        for number in numbers:
            one = Sent(requests[number % len(requests)], time.perf_counter())
            sent.append(one)
            if not await connection.ask(one, number, timeout):
                connection = await _Connection.open(port)
                connections.append(connection)

    connections = [await _Connection.open(port) for _ in range(clients)]
    start = time.perf_counter()
    await asyncio.gather(*map(client, tuple(connections)))
    return await _close(connections, sent, start, tolerance)


async def open_loop(
    port: int,
    requests: Sequence[Request],
    *,
    per_second: float,
    seconds: float,
    tolerance: float,
    timeout: float,
    until: asyncio.Future[Any] | None = None,
) -> Outcome:
    """Send requests (those given, in turn) at random times of a Poisson process for so many seconds, or until something is
    done, and wait for the last answer.
    """
    sent: list[Sent] = []
    idle: list[_Connection] = []
    connections: list[_Connection] = []

    async def ask(one: Sent, number: int) -> None:
        if idle:
            connection = idle.pop()
        else:
            connection = await _Connection.open(port)
            connections.append(connection)
        if await connection.ask(one, number, timeout):
            idle.append(connection)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number, offset in enumerate(arrivals(per_second, seconds)):
            due = start + offset
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if until and until.done():
                break
            sent.append(Sent(requests[number % len(requests)], due))
            group.create_task(ask(sent[-1], number))
    return await _close(connections, sent, start, tolerance)


def arrivals(per_second: float, seconds: float) -> Iterator[float]:
    """Seconds from the start; the same ones each time."""
    chance = random.Random(0)
    moment = chance.expovariate(per_second)
    while moment < seconds:
        yield moment
        moment += chance.expovariate(per_second)


async def _close(
    connections: Sequence[_Connection], sent: Sequence[Sent], start: float, tolerance: float
) -> Outcome:
    """A second answer to a request may come after the first: listen a little longer, then judge."""
    end = max((one.finished for one in sent), default=start)
    await asyncio.sleep(0.2)
    for connection in connections:
        connection.close()
    return judge(sent, end - start, tolerance, strays=sum(connection.strays for connection in connections))


def judge(sent: Sequence[Sent], seconds: float, tolerance: float, *, strays: int = 0) -> Outcome:
    """What became of the requests; strays are answers that came when nothing was asked."""
    documents, latencies, lost, duplicated, errors, wrong = 0, [], 0, strays, 0, 0
    for one in sent:
        if not one.answers:
            lost += 1
            continue
        duplicated += len(one.answers) - 1
        head, _, body = one.answers[0].partition(b"\r\n\r\n")
        if head.split(b" ", 2)[1] != b"200":
            errors += 1
        elif _agree(_scores(body), one.request.scores, tolerance):
            documents += len(one.request.scores)
            latencies.append(one.finished - one.due)
        else:
            wrong += 1
    return Outcome(documents, seconds, tuple(latencies), lost, duplicated, errors, wrong)


def _scores(body: bytes) -> tuple[float, ...]:
    """By document, of an answer in Jina's form; none where it is something else."""
    try:
        results = json.loads(body)["results"]
        return tuple(item["relevance_score"] for item in sorted(results, key=lambda item: item["index"]))
    except (ValueError, KeyError, TypeError):
        return ()


def _agree(one: Sequence[float], other: Sequence[float], tolerance: float) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


class _Connection(asyncio.Protocol):
    """HTTP/1.1, one request at a time. Of the answer's head only the length is read here."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._sent: Sent | None = None
        self._done: asyncio.Future[bool]
        self.strays = 0

    @classmethod
    async def open(cls, port: int) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def ask(self, sent: Sent, number: int, timeout: float) -> bool:
        """True when the answer is in, and the connection good for the next."""
        self._sent = sent
        self._done = asyncio.get_running_loop().create_future()
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"X-Request-Id: load-{number}\r\nContent-Length: {len(sent.request.body)}\r\n\r\n"
        )
        if self._transport.is_closing():
            return False
        self._transport.write(head.encode() + sent.request.body)
        try:
            async with asyncio.timeout(timeout):
                return await self._done
        except TimeoutError:
            self.close()
            return False
        finally:
            self._sent = None

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._sent and not self._done.done():
            self._done.set_result(False)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _length(self._received[:end])
            if len(self._received) < end + 4 + length:
                return
            answer = bytes(self._received[: end + 4 + length])
            del self._received[: end + 4 + length]
            if self._sent is None:
                self.strays += 1
                continue
            self._sent.answers.append(answer)
            if not self._done.done():
                self._sent.finished = time.perf_counter()
                self._done.set_result(True)


def _length(head: bytearray) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0
