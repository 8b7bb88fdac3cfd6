"""`make chaos`, its first half: what one caller could do to all others, each against a server of its own.

    python -m tests.trials.attacks
    python -m tests.trials.attacks --only drip --only rank-fields --seconds 30

While an attack goes on, /ping is asked every 20 ms and a small request is sent every 200 ms. Exit code 1 where a
criterion was not held.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ..servers import BODY, Server, children
from .bodies import GIANTS, LINES, MOST_BYTES, Case
from .client import (
    BUILD,
    PING,
    Answer,
    Connection,
    as_sent,
    chunked,
    head,
    launched,
    log_faults,
    read_answer,
    say,
)
from .fuzz import FRONT_MB, PING_MAX, PING_P99
from .monitor import Monitor, Report

SMALL_MAX = 1.0
_GROUP = 10_000  # different queries in one body
_STOPS_WITHIN = 30.0  # AWS kills a container after so many seconds


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was measured, what it had to be, and whether it was."""

    measured: str
    criterion: str
    held: bool


@dataclass(frozen=True, slots=True)
class Attack:
    """`run` attacks the server for so many seconds, and returns what it found beside what is measured of every attack.

    beside: /ping, a small request and memory are measured meanwhile.
    """

    run: Callable[[Server, float], Coroutine[Any, Any, list[Finding]]]
    beside: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    process: Mapping[str, Any] = field(default_factory=dict)


async def _messages(server: Server, messages: Sequence[bytes], seconds: float) -> Counter[int]:
    """Send all at once, each on its own connection; the statuses that came within the time, 0 for none."""

    async def one(message: bytes) -> int:
        with Connection(server.port) as connection:
            return (await connection.ask(message, timeout=seconds)).status

    return Counter(await asyncio.gather(*map(one, messages)))


def _bodies(*cases: Case) -> Callable[[Server, float], Coroutine[Any, Any, list[Finding]]]:
    """An attack that sends bodies at once. None of them may be answered with a status of our own fault."""

    async def run(server: Server, seconds: float) -> list[Finding]:
        statuses = await _messages(server, [as_sent(case) for case in cases], seconds)
        faults = sum(count for status, count in statuses.items() if status == 500)
        shown = ", ".join(f"{count} x {status or 'none yet'}" for status, count in sorted(statuses.items()))
        return [Finding(f"answers: {shown}", "no 500", not faults)]

    return run


# 1. Bodies.


def _queries(dialect: str, salt: int) -> Case:
    """As many different queries as one body may have."""
    pairs = [(f"{salt} rain {number}", "a cat") for number in range(_GROUP)]
    entries = [{"query": query, "documents": [{"text": text}]} for query, text in pairs]
    if dialect == "csv":
        text = io.StringIO()
        csv.writer(text, escapechar="\\", doublequote=False, lineterminator="\n").writerows(
            [number, entry["query"], json.dumps(entry["documents"])] for number, entry in enumerate(entries)
        )
        return Case(body=text.getvalue().encode(), content_type="text/csv")
    if dialect == "lines":
        lines = [json.dumps({"query": query, "documents": [text]}) for query, text in pairs]
        return Case(body="\n".join(lines).encode(), content_type=LINES)
    payload: dict[str, Any] = {
        "langchain": {"text_pairs": pairs},
        "marketplace": {"data": entries},
        "huggingface": {"inputs": [{"text": query, "text_pair": text} for query, text in pairs]},
        "dify": {"inputs": [query for query, _ in pairs], "docs": [text for _, text in pairs]},
    }
    return Case(body=json.dumps(payload[dialect]).encode())


def _rank_fields(names: Sequence[str], documents: Sequence[dict[str, str]]) -> Case:
    payload = {"query": "rain", "documents": documents, "rank_fields": names, "return_documents": True}
    return Case(body=json.dumps(payload).encode())


def _nested(depth: int) -> Case:
    deep = "[" * depth + "]" * depth
    return Case(body=f'{{"query":"rain","documents":[{{"text":"a","x":{deep}}}]}}'.encode())


def _text(unit: str, count: int) -> Case:
    return Case(body=json.dumps({"query": "rain", "documents": [unit * count]}).encode())


async def _drip(server: Server, seconds: float) -> list[Finding]:
    body = GIANTS["words"](MOST_BYTES // 2).body
    message = head("chunked") + chunked([bytes([byte]) for byte in body])
    statuses = await _messages(server, [message] * 4, seconds)
    return [Finding(f"answers: {dict(statuses)}", "no 500", not statuses[500])]


async def _left(server: Server, seconds: float) -> list[Finding]:
    for _ in range(8):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(as_sent(GIANTS["words"](MOST_BYTES)))
        await writer.drain()
        writer.transport.abort()
        del reader
    await asyncio.sleep(seconds)
    return []


# 2. Connections.


@asynccontextmanager
async def _open(
    server: Server, count: int
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """So many connections; those that the server will not have are left out."""
    opened = []
    for _ in range(count):
        with suppress(OSError):
            opened.append(await asyncio.open_connection("127.0.0.1", server.port))
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.transport.abort()


async def _closed(reader: asyncio.StreamReader, seconds: float) -> float:
    """Seconds until the server closes a connection; `seconds` where it does not. What it says before counts for nothing."""
    began = time.monotonic()
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(seconds):
            while await reader.read(1 << 16):
                pass
            return time.monotonic() - began
    return seconds


async def _unfinished(server: Server, seconds: float) -> list[Finding]:
    body = GIANTS["words"](MOST_BYTES)
    async with _open(server, 150) as opened:
        for _, writer in opened:
            writer.write(as_sent(body)[:-1])
            await asyncio.sleep(0)
        await asyncio.sleep(seconds)
        return [Finding(f"{len(opened)} bodies of 6 MB held open", "", True)]


async def _unread(server: Server, seconds: float) -> list[Finding]:
    echoed = {"query": "rain", "documents": [{"text": "a cat", "x": "y" * (MOST_BYTES - 1000)}]}
    message = as_sent(Case(body=json.dumps(echoed).encode()))
    async with _open(server, 60) as opened:
        for _, writer in opened:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(message)
        await asyncio.sleep(seconds)
        return [Finding(f"{len(opened)} answers of 6 MB not read", "", True)]


async def _slow_heads(server: Server, seconds: float) -> list[Finding]:
    async with _open(server, 2000) as opened:
        until = time.monotonic() + max(seconds, 20)

        async def drip(writer: asyncio.StreamWriter) -> None:
            writer.write(b"POST /invocations HTTP/1.1\r\n")
            while time.monotonic() < until and not writer.is_closing():
                writer.write(b"X-A: b\r\n")
                await asyncio.sleep(3)

        drips = [asyncio.create_task(drip(writer)) for _, writer in opened]
        times = await asyncio.gather(*(_closed(reader, max(seconds, 20)) for reader, _ in opened))
        for task in drips:
            task.cancel()
        left = sum(took >= max(seconds, 20) for took in times)
        return [
            Finding(f"{left} of {len(opened)} are open after {max(seconds, 20):g} s", "all closed", not left)
        ]


async def _half_closed(server: Server, _seconds: float) -> list[Finding]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head(len(BODY)) + BODY)
    writer.write_eof()
    try:
        async with asyncio.timeout(20):
            answer = await read_answer(reader)
    except (TimeoutError, OSError, EOFError) as error:
        answer = Answer(0, type(error).__name__.encode())
    writer.close()
    return [Finding(f"status {answer.status or answer.body.decode()}", "200", answer.status == 200)]


# 3. The log, files, the end.


def _log_lines(name: str) -> int:
    return (BUILD / f"attack-{name}.log").read_bytes().count(b"\n")


async def _many_small(server: Server, count: int) -> Counter[int]:
    statuses: Counter[int] = Counter()
    with Connection(server.port) as connection:
        for _ in range(count):
            statuses[(await connection.ask(head(len(BODY)) + BODY, timeout=10)).status] += 1
            if statuses[0] > 2:
                break
    return statuses


def _ended(server: Server, seconds: float) -> Finding:
    """Ask for the end, by SIGTERM."""
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    try:
        code: object = server.process.wait(seconds)
    except subprocess.TimeoutExpired:
        code = "no end"
    took = time.monotonic() - began
    return Finding(f"SIGTERM: {code} after {took:.1f} s", f"exit code 0 in {seconds:g} s", code == 0)


async def _log_lost(server: Server, _seconds: float) -> list[Finding]:
    """Standard output is such that nothing can be written; requests are answered for all that."""
    statuses = await _many_small(server, 600)  # 64 KB, what a pipe takes, are some 250 lines
    answered = Finding(f"answers: {dict(statuses)}", "600 x 200", statuses[200] == 600)
    with Connection(server.port) as connection:
        ping = (await connection.ask(PING, timeout=5)).status
    ended = await asyncio.to_thread(_ended, server, _STOPS_WITHIN)
    return [answered, Finding(f"/ping {ping}", "200", ping == 200), ended]


async def _log_closed(server: Server, seconds: float) -> list[Finding]:
    assert server.process.stdout
    server.process.stdout.close()
    return await _log_lost(server, seconds)


def _few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))


async def _ping(kept: Connection) -> int:
    """The status of /ping; a kept connection may have been closed for want of files, and is made again once."""
    return (await kept.ask(PING, timeout=10)).status or (await kept.ask(PING, timeout=10)).status


async def _files(server: Server, seconds: float) -> list[Finding]:
    """More connections than the server may have files; meanwhile its model's process dies."""
    lines = _log_lines("files")
    with Connection(server.port) as kept:
        await _ping(kept)
        async with _open(server, 300):
            await asyncio.sleep(min(5, seconds))
            first = await _ping(kept)
            for child in children(server.pid):
                os.kill(child, signal.SIGKILL)
            await asyncio.sleep(1)
            until, again = time.monotonic() + 20, 0
            while time.monotonic() < until and again != 200:
                again = await _ping(kept)
                await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    said = _log_lines("files") - lines
    alive = server.process.poll() is None
    after = server.post()[0] if alive else 0
    return [
        Finding(f"/ping {first} at the limit", "200", first == 200),
        Finding(f"/ping {again} after the model's process died", "200", again == 200),
        Finding(f"a request after it {after}", "200", after == 200),
        Finding(f"{said:,} log lines", "at most 100", said <= 100),
    ]


async def _half_sent(server: Server, _seconds: float) -> list[Finding]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write((head(len(BODY)) + BODY)[:-5])
    await asyncio.sleep(0.5)
    ended = await asyncio.to_thread(_ended, server, _STOPS_WITHIN)
    writer.transport.abort()
    del reader
    return [ended]


async def _drained(server: Server, _seconds: float) -> list[Finding]:
    """Callers that ask again and again on kept connections while the server is told to stop.

    What was sent before that is answered. What is sent after it may meet a connection that is just being closed.
    """
    ends: Counter[str] = Counter()
    told = math.inf

    async def caller() -> None:
        sent = 0.0
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            while True:
                sent = time.monotonic()
                writer.write(head(len(BODY)) + BODY)
                answer = await read_answer(reader)
                ends[str(answer.status)] += 1
                if answer.closes:
                    ends["told to close"] += 1
                    return
        except (OSError, EOFError):
            ends["lost" if sent < told else "too late"] += 1
        finally:
            writer.close()

    callers = [asyncio.create_task(caller()) for _ in range(64)]
    await asyncio.sleep(2)
    told = time.monotonic()
    ended = await asyncio.to_thread(_ended, server, _STOPS_WITHIN)
    await asyncio.wait(callers, timeout=10)
    for task in callers:
        task.cancel()
    lost = ends.pop("lost", 0)
    return [ended, Finding(f"{lost} requests lost, {dict(ends)}", "none lost", not lost)]


def _fifty() -> list[Case]:
    kinds = [make(MOST_BYTES) for make in GIANTS.values()]
    return [kinds[number % len(kinds)] for number in range(50)]


# The cases are made when they are asked for: together they are hundreds of megabytes.
ATTACKS: dict[str, Callable[[], Attack]] = {
    **{
        f"queries-{dialect}": lambda dialect=dialect: Attack(  # type: ignore[misc]
            _bodies(*(_queries(dialect, salt) for salt in range(4)))
        )
        for dialect in ("langchain", "lines", "csv", "marketplace", "huggingface", "dify")
    },
    "empty-lists": lambda: Attack(_bodies(*[GIANTS["empty lists"](MOST_BYTES)] * 4)),
    "rank-fields": lambda: Attack(
        _bodies(
            _rank_fields([f"f{number}" for number in range(200_000)] + ["text"], [{"text": "a cat"}] * 10_000)
        )
    ),
    "rank-fields-repeated": lambda: Attack(
        _bodies(_rank_fields(["text"] * 20_000, [{"text": "a" * 100_000}]))
    ),
    "nested": lambda: Attack(_bodies(*(_nested(depth) for depth in (900, 5_000, 100_000, 3_000_000)))),
    "drip": lambda: Attack(_drip),
    **{
        f"document-{name.replace(' ', '-')}": lambda name=name: Attack(_bodies(GIANTS[name](MOST_BYTES)))  # type: ignore[misc]
        for name in ("exclamation marks", "letters", "Hangul", "one word", "words", "long query")
    },
    "fifty-giants": lambda: Attack(_bodies(*_fifty())),
    "unfinished-bodies": lambda: Attack(_unfinished),
    "unread-answers": lambda: Attack(_unread),
    "slow-heads": lambda: Attack(_slow_heads),
    "long-documents": lambda: Attack(_bodies(*[_text("rain ", 8_000)] * 55)),
    "senders-left": lambda: Attack(_left),
    "half-closed": lambda: Attack(_half_closed),
    "log-unread": lambda: Attack(_log_lost, beside=False, process={"stdout": subprocess.PIPE}),
    "log-closed": lambda: Attack(_log_closed, beside=False, process={"stdout": subprocess.PIPE}),
    "log-full": lambda: Attack(
        _log_lost, beside=False, process={"stdout": os.open("/dev/full", os.O_WRONLY)}
    ),
    "files": lambda: Attack(_files, beside=False, process={"preexec_fn": _few_files}),
    "stop-half-sent": lambda: Attack(_half_sent, beside=False),
    "stop-under-load": lambda: Attack(_drained, beside=False),
}


def beside(report: Report) -> list[Finding]:
    """What has to hold whatever is sent."""
    p99, worst = report.ping.at(99), report.ping.at(100)
    small = report.small.at(100)
    return [
        Finding(
            f"/ping p99 {1e3 * p99:.0f} ms, max {1e3 * worst:,.0f} ms",
            f"below {1e3 * PING_P99:g} ms and {PING_MAX:g} s",
            p99 < PING_P99 and worst < PING_MAX,
        ),
        Finding(f"/ping not 200: {report.ping.other_than_200}", "0", not report.ping.other_than_200),
        Finding(f"small request max {small:.2f} s", f"below {SMALL_MAX:g} s", small < SMALL_MAX),
        Finding(
            f"small request not 200: {report.small.other_than_200}", "0", not report.small.other_than_200
        ),
        Finding(
            f"front's peak {report.front_peak:,.0f} MB (child {report.child_peak:,.0f})",
            f"below {FRONT_MB:g} MB",
            report.front_peak < FRONT_MB,
        ),
    ]


def run(name: str, seconds: float) -> list[Finding]:
    """One attack on a fresh server."""
    attack = ATTACKS[name]()
    with launched(f"attack-{name}", process=dict(attack.process), **attack.environment) as server:
        if attack.beside:
            with Monitor(server, small=True) as monitor:
                time.sleep(1)
                findings = asyncio.run(attack.run(server, seconds))
                time.sleep(1)
            findings += beside(monitor.report)
            findings.append(
                Finding(f"ended: {server.process.poll()}", "alive", server.process.poll() is None)
            )
        else:
            findings = asyncio.run(attack.run(server, seconds))
    faults = log_faults(f"attack-{name}")
    return [*findings, Finding(f"log: {'; '.join(faults[:3]) or 'clean'}", "clean", not faults)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.trials.attacks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--only", action="append", choices=ATTACKS, help="one attack; may be repeated")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each attack (default: %(default)g)")
    options = parser.parse_args(arguments)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    lost = 0
    for name in options.only or ATTACKS:
        say(name)
        for finding in run(name, options.seconds):
            lost += not finding.held
            limit = f" ({finding.criterion})" if finding.criterion else ""
            say(f"  {'held    ' if finding.held else 'NOT HELD'} {finding.measured}{limit}")
    say(f"{lost} criteria not held")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
