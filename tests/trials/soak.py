"""`make soak`: mixed load for long, to see whether anything grows.

    python -m tests.trials.soak --minutes 60

Requests of every dialect at half of what the server can answer, spoilt ones of the fuzzer among them, callers that leave
before their answer, and connections that come and go. Exit code 1 where an answer is wrong, or the last quarter of the
time holds more memory, files or threads than the second.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from ..servers import Server
from .bodies import Maker
from .chaos import Ledger, Request, capacity, open_loop, requests
from .client import BUILD, Connection, EngineTable, as_sent, by_status, launched, log_faults, say, verdict
from .monitor import Monitor, Sample

_GROWTH, _MEGABYTES, _THINGS = 1.1, 10.0, 5  # a tenth, and what comes and goes
_LEFT_ONE_IN = 10


async def _strangers(server: Server, seed: int, end: float) -> int:
    """Spoilt bodies, one after the other on a connection of its own; some callers leave while theirs is read."""
    chance, index = random.Random(seed), 0
    while time.monotonic() < end:
        message = as_sent(Maker(seed, index).case())
        index += 1
        if chance.randrange(_LEFT_ONE_IN):
            with Connection(server.port) as connection:
                await connection.ask(message, timeout=70)
        else:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(message[: chance.randrange(len(message)) + 1])
            await asyncio.sleep(chance.random() / 50)
            writer.transport.abort()
        await asyncio.sleep(0.02)
    return index


async def trial(server: Server, options: argparse.Namespace, ledger: Ledger) -> int:
    chosen: Sequence[Request] = requests(options.seed, 300, ledger.table)
    most = await capacity(server, chosen, min(5.0, 20 * options.minutes), ledger.table)
    seconds = 60 * options.minutes
    say(f"capacity {most:,.0f} requests a second; {options.load:.0%} of it, and spoilt bodies, from now on")
    strangers = asyncio.create_task(_strangers(server, options.seed, time.monotonic() + seconds))
    await open_loop(server, chosen, ledger, rate=options.load * most, seconds=seconds)
    return await strangers


def growth(samples: Sequence[Sample]) -> dict[str, tuple[float, float, bool]]:
    """Medians of the second and the last quarter, and whether the last is no more: the first quarter warms up."""
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[3 * quarter :]
    found = {}
    for name in ("front", "child", "files", "threads"):
        before, after = (median(getattr(one, name) for one in part) for part in (second, last))
        slack = _MEGABYTES if name in ("front", "child") else _THINGS
        found[name] = before, after, after <= before * _GROWTH + slack
    return found


def write(samples: Sequence[Sample], path: Path) -> None:
    lines = [f"{s.second:.1f},{s.front:.1f},{s.child:.1f},{s.files},{s.threads}\n" for s in samples]
    path.write_text("second,front_mb,child_mb,files,threads\n" + "".join(lines))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.trials.soak", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--load", type=float, default=0.5, help="share of capacity (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    ledger = Ledger(EngineTable())
    with launched("soak") as server:
        with Monitor(server) as monitor:
            spoilt = asyncio.run(trial(server, options, ledger))
        alive = server.process.poll() is None
    report = monitor.report
    write(report.samples, BUILD / "soak.csv")
    shown = by_status(ledger.statuses)
    say(
        f"requests {ledger.statuses.total():,}: {shown}; wrong {len(ledger.wrong)}; spoilt bodies beside them {spoilt:,}"
    )
    say(f"/ping {report.ping}")
    say(
        f"memory: front's peak {report.front_peak:,.0f} MB, the model's process {report.child_peak:,.0f} MB; {BUILD / 'soak.csv'}"
    )
    faults = log_faults("soak")
    limits = {
        "no wrong answer": not ledger.wrong,
        "all answered": set(ledger.statuses) == {200},
        "alive at the end": alive,
        f"log: {'; '.join(faults[:3]) or 'clean'}": not faults,
    }
    for name, (before, after, kept) in growth(report.samples).items():
        unit = " MB" if name in ("front", "child") else ""
        limits[f"{name}: {before:,.0f} -> {after:,.0f}{unit}"] = kept
    return 0 if verdict(limits) else 1


if __name__ == "__main__":
    sys.exit(main())
