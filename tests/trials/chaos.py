"""`make chaos`, its second half: the model's process is killed again and again under load.

    python -m tests.trials.chaos --minutes 10 --kill-every 30 --load 0.6

Capacity is found first, by callers that wait for their answers; then requests come at random times at that share of it,
and `kill -9` ends the model's process every so many seconds. Every answer is held against the engine's scores. Exit code 1
where one is wrong, a request gets anything but an answer or 503, or fewer than 99 % are answered.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from ..servers import Server, children
from . import oracle
from .bodies import Case, Maker
from .client import PING, Connection, EngineTable, as_sent, by_status, launched, log_faults, say, verdict
from .monitor import Monitor

_CLIENTS = 16
_TIMEOUT = 70.0
_ANSWERED = 0.99


@dataclass(frozen=True, slots=True)
class Request:
    """A request that has to be answered, and what its answer is."""

    case: Case
    message: bytes
    expected: Sequence[oracle.Expected]


@dataclass(slots=True)
class Ledger:
    """What became of the requests. `hit` are those under way when a process was killed, by what they got."""

    table: EngineTable
    statuses: Counter[int] = field(default_factory=Counter)
    hit: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    under_way: dict[int, Request] = field(default_factory=dict)
    struck: set[int] = field(default_factory=set)

    async def ask(self, connection: Connection, request: Request, number: int) -> None:
        self.under_way[number] = request
        began = time.monotonic()
        answer = await connection.ask(request.message, timeout=_TIMEOUT)
        self.seconds.append(time.monotonic() - began)
        del self.under_way[number]
        self.statuses[answer.status] += 1
        if number in self.struck:
            self.struck.discard(number)
            self.hit[answer.status] += 1
        if answer.status == 200:
            try:
                oracle.check(request.case, request.expected, answer.body, self.table)
            except oracle.Wrong as wrong:
                self.wrong.append(str(wrong))

    @property
    def answered(self) -> float:
        return self.statuses[200] / max(1, self.statuses.total())


def requests(seed: int, count: int, table: EngineTable) -> list[Request]:
    """Requests of every dialect, of a few documents each, with their scores known beforehand."""
    chosen: list[Request] = []
    index = 0
    while len(chosen) < count:
        case = Maker(seed, index, spoil=False).case()
        index += 1
        expected = oracle.read(case)
        if len(case.body) > 8_000:
            continue
        for one in expected:
            for group in one.groups:
                table(group.query, group.texts, one.keep, one.left)
        chosen.append(Request(case, as_sent(case), expected))
    return chosen


async def capacity(server: Server, chosen: Sequence[Request], seconds: float, table: EngineTable) -> float:
    """Requests a second that callers who wait for their answers can send."""
    ledger, end = Ledger(table), time.monotonic() + seconds

    async def client(first: int) -> None:
        with Connection(server.port) as connection:
            number = first
            while time.monotonic() < end:
                await ledger.ask(connection, chosen[number % len(chosen)], number)
                number += _CLIENTS

    began = time.monotonic()
    await asyncio.gather(*map(client, range(_CLIENTS)))
    return ledger.statuses.total() / (time.monotonic() - began)


async def open_loop(
    server: Server, chosen: Sequence[Request], ledger: Ledger, *, rate: float, seconds: float
) -> None:
    """Send requests at random times, whatever the server does, and wait for the last answer."""
    chance, idle = random.Random(0), list[Connection]()

    async def one(request: Request, number: int) -> None:
        connection = idle.pop() if idle else Connection(server.port)
        await ledger.ask(connection, request, number)
        idle.append(connection)

    end, due, number = time.monotonic() + seconds, time.monotonic(), 0
    async with asyncio.TaskGroup() as group:
        while due < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(one(chosen[chance.randrange(len(chosen))], number))
            number += 1
            due += chance.expovariate(rate)
    for connection in idle:
        connection.close()


@asynccontextmanager
async def killing(server: Server, ledger: Ledger, every: float) -> AsyncIterator[list[float]]:
    """Kill the model's process every so many seconds; the seconds until /ping was 200 again, inf where it never was."""
    ready: list[float] = []

    async def kill() -> None:
        with Connection(server.port) as connection:
            while True:
                await asyncio.sleep(every)
                for child in children(server.pid):
                    with suppress(OSError):
                        os.kill(child, signal.SIGKILL)
                ledger.struck |= set(ledger.under_way)
                killed = time.monotonic()
                ready.append(float("inf"))
                status, noticed = 0, False
                while status != 200 or not noticed:
                    status = (await connection.ask(PING, timeout=_TIMEOUT)).status
                    noticed |= status != 200 or time.monotonic() - killed > 0.5
                    await asyncio.sleep(0.02)
                ready[-1] = time.monotonic() - killed

    task = asyncio.create_task(kill())
    try:
        yield ready
    finally:
        task.cancel()


async def trial(server: Server, options: argparse.Namespace, ledger: Ledger) -> list[float]:
    chosen = requests(options.seed, 300, ledger.table)
    most = await capacity(server, chosen, min(5.0, 20 * options.minutes), ledger.table)
    say(f"capacity {most:,.0f} requests a second; {options.load:.0%} of it from now on")
    async with killing(server, ledger, options.kill_every) as ready:
        await open_loop(server, chosen, ledger, rate=options.load * most, seconds=60 * options.minutes)
    return ready


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.trials.chaos", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kill-every", type=float, default=30.0, help="seconds (default: %(default)g)")
    parser.add_argument("--load", type=float, default=0.6, help="share of capacity (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    ledger = Ledger(EngineTable())
    with launched("chaos") as server, Monitor(server) as monitor:
        ready = asyncio.run(trial(server, options, ledger))
    shown = by_status(ledger.statuses)
    say(
        f"requests {ledger.statuses.total():,}: {shown}; answered {ledger.answered:.2%}, wrong {len(ledger.wrong)}"
    )
    say(
        f"killed {len(ready)} times; under way then {ledger.hit.total()}, of which {dict(ledger.hit)} (by status)"
    )
    say(f"ready again after {', '.join(f'{seconds:.1f}' for seconds in ready)} s")
    ordered = sorted(ledger.seconds)
    say(
        f"latency p50 {1e3 * ordered[len(ordered) // 2]:,.0f} ms, p99 {1e3 * ordered[len(ordered) * 99 // 100]:,.0f} ms, max {ordered[-1]:.1f} s"
    )
    say(f"/ping {monitor.report.ping}")
    say(
        f"memory: front's peak {monitor.report.front_peak:,.0f} MB, the model's process {monitor.report.child_peak:,.0f} MB"
    )
    faults = log_faults("chaos")
    limits = {
        "no wrong answer": not ledger.wrong,
        "200 or 503": set(ledger.statuses) <= {200, 503},
        f"{_ANSWERED:.0%} answered": ledger.answered >= _ANSWERED,
        "ready again after every kill": float("inf") not in ready,
        f"log: {'; '.join(faults[:3]) or 'clean'}": not faults,
    }
    return 0 if verdict(limits) else 1


if __name__ == "__main__":
    sys.exit(main())
