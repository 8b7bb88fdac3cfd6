"""The load generator before servers that answer wrongly."""

from __future__ import annotations

import asyncio
import json

import pytest

from sagerank.bench.load import (
    Load,
    Outcome,
    Request,
    Sent,
    arrivals,
    check_distinct,
    judge,
)
from sagerank.evaluation import EvaluationError


def request(number: int) -> Request:
    return Request(json.dumps({"number": number}).encode(), (0.1 * number, 0.5))


REQUESTS = [request(number) for number in range(4)]


def answer(scores: tuple[float, ...], status: str = "200 OK") -> bytes:
    results = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    body = json.dumps({"results": results}).encode()
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class Fake:
    """An HTTP server that knows the answers, and gets the one to request 2 wrong in the way it is told."""

    def __init__(self, fault: str | None) -> None:
        self.fault = fault

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                number = json.loads(await reader.readexactly(length))["number"]
                writer.write(self.reply(number))
                if number == 2 and self.fault == "drop":
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    def reply(self, number: int) -> bytes:
        right = answer(REQUESTS[number].scores)
        if number != 2:
            return right
        return {
            None: right,
            "drop": b"",
            "double": 2 * right,
            "swap": answer(REQUESTS[1].scores),
            "fewer": answer(REQUESTS[2].scores[:1]),
            "refuse": answer((), "429 Too Many Requests"),
            "garbage": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}!",
        }[self.fault]


def outcome_of(fault: str | None, loop: str) -> Outcome:
    async def run() -> Outcome:
        async with await asyncio.start_server(Fake(fault), "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            load = Load(host="127.0.0.1", port=port, requests=REQUESTS, tolerance=1e-6, timeout=20)
            if loop == "closed":
                return await load.closed_loop(clients=3, count=8)
            return await load.open_loop(per_second=40, seconds=0.2)

    return asyncio.run(run())


@pytest.mark.parametrize("loop", ["closed", "open"])
@pytest.mark.parametrize(
    ("fault", "field"),
    [
        (None, None),
        ("drop", "lost"),
        ("double", "duplicated"),
        ("swap", "wrong"),
        ("fewer", "wrong"),
        ("garbage", "wrong"),
        ("refuse", "errors"),
    ],
)
def test_whatever_is_wrong_with_an_answer_is_counted(fault: str | None, field: str | None, loop: str) -> None:
    outcome = outcome_of(fault, loop)
    assert outcome.requests == (8 if loop == "closed" else len(list(arrivals(40, 0.2))))
    sent_twos = len(range(2, outcome.requests, 4))
    assert sent_twos
    counts = {name: getattr(outcome, name) for name in ("lost", "duplicated", "wrong", "errors")}
    assert counts == dict.fromkeys(counts, 0) | ({field: sent_twos} if field else {})
    right = outcome.requests - (sent_twos if field and field != "duplicated" else 0)
    assert outcome.documents == 2 * right
    assert len(outcome.latencies) == right


def test_a_latency_counts_from_when_the_request_was_due() -> None:
    """Answered 0.1 s after it was sent, but 2 s late: the client had no connection to send it on."""
    late = Sent(REQUESTS[0], due=10.0, answers=[answer(REQUESTS[0].scores)], finished=12.1)
    outcome = judge([late], 5.0, 1e-6, strays=1)
    assert outcome.latencies == pytest.approx((2.1,))
    assert outcome.duplicated == 1


def test_arrivals_are_random_and_as_many_as_asked_for() -> None:
    times = list(arrivals(50, 100))
    assert len(times) == pytest.approx(5000, rel=0.05)
    gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
    # Of exponential gaps, the standard deviation is the mean.
    mean = sum(gaps) / len(gaps)
    assert (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 == pytest.approx(mean, rel=0.1)


def test_requests_that_could_not_be_told_apart_are_refused() -> None:
    check_distinct(REQUESTS, 1e-3)
    with pytest.raises(EvaluationError, match="told apart"):
        check_distinct([*REQUESTS, Request(b"other text", (0.1001, 0.5))], 1e-3)
