"""Load on a reranker's HTTP server, and a ledger of what became of each request.

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
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from ..evaluation import EvaluationError
from .timing import percentile

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the requests of a run.

    lost: no answer; duplicated: answers too many; errors: a status other than 200; wrong: scores that are not this
    request's.
    """

    documents: int = 0  # of the right answers
    seconds: float = 0.0
    latencies: tuple[float, ...] = ()  # seconds, of the right answers
    lost: int = 0
    duplicated: int = 0
    errors: int = 0
    wrong: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        """Two runs one after the other."""
        return Outcome(**{name: getattr(self, name) + getattr(other, name) for name in Outcome.__slots__})

    @property
    def requests(self) -> int:
        """How many were sent."""
        return len(self.latencies) + self.lost + self.errors + self.wrong

    @property
    def documents_per_second(self) -> float | None:
        """Speed, counting right answers only; None where no time was spent."""
        return self.documents / self.seconds if self.seconds else None

    def percentile_ms(self, percent: int) -> float | None:
        """Milliseconds of the right answers, by nearest rank."""
        return 1e3 * percentile(self.latencies, percent) if self.latencies else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests on a server, those given in turn. tolerance: of a score; timeout: seconds until an answer counts as lost."""

    host: str
    port: int
    requests: Sequence[Request]
    tolerance: float
    timeout: float

    async def closed_loop(self, *, clients: int, count: int) -> Outcome:
        """Send `count` requests from so many clients."""
        numbers = iter(range(count))
        sent: list[Sent] = []

        async def client(connection: _Connection) -> None:
            for number in numbers:
                sent.append(self._next(number, time.perf_counter()))
                if not await connection.ask(sent[-1], number, self.timeout):
                    connection = await self._connect(connections)

        connections: list[_Connection] = []
        for _ in range(clients):
            await self._connect(connections)
        start = time.perf_counter()
        await asyncio.gather(*map(client, tuple(connections)))
        return await self._close(connections, sent, start)

    async def open_loop(
        self, *, per_second: float, seconds: float, until: asyncio.Future[Any] | None = None
    ) -> Outcome:
        """Send requests at random times of a Poisson process, and wait for the last answer.

        They are sent for so many seconds, or until the future is done.
        """
        sent: list[Sent] = []
        idle: list[_Connection] = []
        connections: list[_Connection] = []

        async def ask(request: Sent, number: int) -> None:
            connection = idle.pop() if idle else await self._connect(connections)
            if await connection.ask(request, number, self.timeout):
                idle.append(connection)

        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, offset in enumerate(arrivals(per_second, seconds)):
                due = start + offset
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if until and until.done():
                    break
                sent.append(self._next(number, due))
                group.create_task(ask(sent[-1], number))
        return await self._close(connections, sent, start)

    def _next(self, number: int, due: float) -> Sent:
        return Sent(self.requests[number % len(self.requests)], due)

    async def _connect(self, connections: list[_Connection]) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self.host, self.port)
        connections.append(connection)
        return connection

    async def _close(self, connections: Sequence[_Connection], sent: Sequence[Sent], start: float) -> Outcome:
        """A second answer to a request may come after the first: listen a little longer, then judge."""
        end = max((request.finished for request in sent), default=start)
        await asyncio.sleep(0.2)
        for connection in connections:
            connection.close()
        strays = sum(connection.strays for connection in connections)
        return judge(sent, end - start, self.tolerance, strays=strays)


def check_distinct(requests: Sequence[Request], tolerance: float) -> None:
    """Raise EvaluationError unless every two requests differ in some score by ten times the tolerance.

    Otherwise an answer that belongs to another request would pass.
    """
    for one, other in combinations(requests, 2):
        if _agree(one.scores, other.scores, 10 * tolerance):
            raise EvaluationError(
                f"Two requests have the same scores within {10 * tolerance:g}, so their answers could not be told apart: "
                "give more --documents, or a model whose scores differ."
            )


def arrivals(per_second: float, seconds: float) -> Iterator[float]:
    """Times of a Poisson process, in seconds from its start; the same ones whenever it is asked."""
    chance = random.Random(0)
    moment = chance.expovariate(per_second)
    while moment < seconds:
        yield moment
        moment += chance.expovariate(per_second)


def judge(sent: Sequence[Sent], seconds: float, tolerance: float, *, strays: int = 0) -> Outcome:
    """What became of the requests; strays are answers that came when nothing was asked."""
    counts = Counter(duplicated=strays)
    latencies = []
    for request in sent:
        if not request.answers:
            counts["lost"] += 1
            continue
        counts["duplicated"] += len(request.answers) - 1
        head, _, body = request.answers[0].partition(b"\r\n\r\n")
        if head.split(b" ", 2)[1] != b"200":
            counts["errors"] += 1
        elif _agree(_scores(body), request.request.scores, tolerance):
            counts["documents"] += len(request.request.scores)
            latencies.append(request.finished - request.due)
        else:
            counts["wrong"] += 1
    return Outcome(seconds=seconds, latencies=tuple(latencies), **counts)


def _scores(body: bytes) -> tuple[float, ...]:
    """The scores in an answer in Jina's form, by document; none where it is something else."""
    try:
        results = json.loads(body)["results"]
        return tuple(item["relevance_score"] for item in sorted(results, key=lambda item: item["index"]))
    except (ValueError, KeyError, TypeError):
        return ()


def _agree(one: Sequence[float], other: Sequence[float], tolerance: float) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


class _Connection(asyncio.Protocol):
    """An HTTP/1.1 connection with one request at a time; only the length is read of an answer's head."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._sent: Sent | None = None
        self._done: asyncio.Future[bool]
        self.strays = 0

    async def ask(self, sent: Sent, number: int, timeout: float) -> bool:
        """Send a request; True when its answer is in, and the connection good for the next."""
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

    def connection_lost(self, _error: Exception | None) -> None:
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
