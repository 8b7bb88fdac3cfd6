"""`make fuzz`: bodies of every dialect, half of them spoilt, each answer held against the oracle.

    python -m tests.trials.fuzz --minutes 10                     against a server of its own, over HTTP
    python -m tests.trials.fuzz --in-process --bodies 1000000    parsing and rendering alone, on every core: volume
    python -m tests.trials.fuzz --guided --minutes 10            the same led by coverage: pip install atheris
    python -m tests.trials.fuzz --replay build/trials/FILE       one body again

A body that does harm is written to build/trials/ with its seed and index. Exit code 1 where one did.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import itertools
import multiprocessing
import os
import random
import re
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sagerank_inference.contract import RerankError, RerankRequest, Scores, Timings
from sagerank_inference.dialects import parse, render, render_error

from ..servers import Server
from . import oracle
from .bodies import Case, Maker
from .client import (
    BUILD,
    Connection,
    EngineTable,
    Pace,
    as_sent,
    by_status,
    launched,
    load,
    log_faults,
    save,
    say,
    verdict,
)
from .monitor import Monitor, Report

_BY_DESIGN = {503, 504}  # what a server may say that is not the caller's fault
_SECONDS_IN_PROCESS = 10.0
_SECONDS_HTTP = 70.0
_KEPT = 3  # bodies of each kind of failure
# What the server must not exceed meanwhile.
PING_P99, PING_MAX, FRONT_MB = 0.1, 1.0, 400.0


@dataclass(slots=True)
class Tally:
    """What became of the bodies. verdicts: the oracle's, before the answer; failures: of each kind, how often, and a few."""

    bodies: int = 0
    size: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    @property
    def failed(self) -> int:
        return self.kinds.total()

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.bodies + other.bodies,
            self.size + other.size,
            self.verdicts + other.verdicts,
            self.statuses + other.statuses,
            self.kinds + other.kinds,
            self.failures + other.failures,
            max(self.slowest, other.slowest),
        )


def judge(
    case: Case, answer: tuple[int, bytes], tally: Tally, table: oracle.Table, *, tolerance: float
) -> None:
    """Count an answer. Raises Wrong where it is not one to this body."""
    code, body = answer
    tally.bodies += 1
    tally.size += len(case.body)
    tally.statuses[code] += 1
    if code == 0:
        raise oracle.Wrong(body.decode())
    if code != 200:
        if not (400 <= code < 500 or code in _BY_DESIGN):
            raise oracle.Wrong(f"status {code}")
        oracle.check_error(case, body)
    try:
        expected = oracle.read(case)
    except oracle.Refused:
        tally.verdicts["to be refused"] += 1
        if code == 200:
            raise oracle.Wrong("answered, where it has to be refused") from None
    except oracle.Open:
        tally.verdicts["left open"] += 1
        if code == 200:
            for line in body.splitlines() if b"\n" in body else [body]:
                oracle.strict(line)
    else:
        if code == 200:
            known = oracle.check(case, expected, body, table, tolerance=tolerance)
            tally.verdicts["answered, all checked" if known else "answered, checked but for the scores"] += 1
        elif code in (429, *_BY_DESIGN):
            tally.verdicts["valid, turned away"] += 1
        else:
            raise oracle.Wrong(f"refused with {code}, where it has to be answered: {body[:200].decode()}")


def fail(tally: Tally, case: Case, reason: str, where: tuple[str, int, int]) -> None:
    """Count a failure, and keep its body."""
    how, seed, index = where
    kind = re.sub(r"[0-9.]+|request_id.*", "N", reason)
    tally.kinds[kind] += 1
    if tally.kinds[kind] <= _KEPT:
        path = save(case, BUILD / f"{how}-{seed}-{index}", reason=reason[:300])
        tally.failures.append(f"{reason[:200]}: {path}")


# In this process: the server's reading and writing of bodies, with scores made up of the texts.


def _logits(query: str, texts: Sequence[str], _keep: int | None = None, _left: bool = False) -> list[float]:
    """Made-up logits, with ties, that differ between pairs: cut texts count whole."""
    start = zlib.crc32(query.encode())
    return [zlib.crc32(text.encode(), start) % 401 / 20 - 10 for text in texts]


def _scores(request: RerankRequest) -> list[Scores]:
    times = Timings(0.0, 0.0, 0.0)
    return [
        Scores(tuple(_logits(group.query, group.documents)), 3, (3,) * len(group.documents), times)
        for group in request.groups
    ]


def in_process(case: Case) -> tuple[int, bytes]:
    """What the server answers, without server and model."""
    try:
        call = parse(case.body, case.content_type, path=case.path)
        return 200, render(call, [_scores(one) for one in call.requests], model="m", request_id="r")[0]
    except RerankError as error:
        refusal = render_error(error, path=case.path, request_id="r")
        return refusal.status, refusal.body


def check_in_process(case: Case, tally: Tally, where: tuple[str, int, int]) -> None:
    began = time.process_time()
    try:
        answer = in_process(case)
        seconds = time.process_time() - began
        if seconds > _SECONDS_IN_PROCESS:
            raise oracle.Wrong(f"{seconds:.1f} s of processor time")
        tally.slowest = max(tally.slowest, (seconds, f"index {where[2]}, {len(case.body):,} bytes"))
        judge(case, answer, tally, _logits, tolerance=0)
    except oracle.Wrong as wrong:
        fail(tally, case, str(wrong), where)
    except Exception as error:
        # What the server would answer with 500.
        fail(tally, case, f"{type(error).__name__} in the server's code", where)


def _numbers(options: argparse.Namespace, first: int = 0, step: int = 1) -> Iterator[int]:
    """Indices of bodies, until time or number is reached."""
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    for index in range(first, options.bodies or sys.maxsize, step):
        if time.monotonic() > end:
            return
        yield index


def _share(options: argparse.Namespace, first: int, step: int) -> Tally:
    tally, pace = Tally(), Pace()
    for index in _numbers(options, first, step):
        check_in_process(Maker(options.seed, index).case(), tally, ("in-process", options.seed, index))
        if first == 0 and pace.due():
            say(f"  {index + 1:,} bodies, {tally.failed} failures in this process's share")
    return tally


def fuzz_in_process(options: argparse.Namespace) -> Tally:
    processes = options.processes or len(os.sched_getaffinity(0))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        shares = pool.starmap(_share, [(options, first, processes) for first in range(processes)])
    return sum(shares, Tally())


# Over HTTP.


def _cut(case: Case, index: int) -> list[bytes] | None:
    """Some bodies go in chunks of any size."""
    chance = random.Random(index)
    if chance.random() > 0.1:
        return None
    cuts = sorted(chance.randrange(len(case.body) + 1) for _ in range(min(20, len(case.body))))
    return [case.body[a:b] for a, b in itertools.pairwise([0, *cuts, len(case.body)])]


async def _fuzz_http(host: str, port: int, options: argparse.Namespace) -> Tally:
    tally, table, pace = Tally(), EngineTable(), Pace()
    numbers = _numbers(options)

    async def client() -> None:
        with Connection(port, host) as connection:
            for index in numbers:
                case = Maker(options.seed, index).case()
                if len(case.content_type or "") > 2000:
                    continue  # a line of a head, which is not what this is about
                began = time.monotonic()
                answer = await connection.ask(as_sent(case, pieces=_cut(case, index)), timeout=_SECONDS_HTTP)
                facts = f"index {index}, {len(case.body):,} bytes, {answer.status}"
                tally.slowest = max(tally.slowest, (time.monotonic() - began, facts))
                try:
                    judge(case, (answer.status, answer.body), tally, table, tolerance=1e-4)
                except oracle.Wrong as wrong:
                    fail(tally, case, str(wrong), ("http", options.seed, index))
                if pace.due():
                    say(f"  {tally.bodies:,} bodies, {tally.failed} failures")

    await asyncio.gather(*(client() for _ in range(options.connections)))
    return tally


def fuzz_http(options: argparse.Namespace) -> tuple[Tally, Report | None]:
    """Fuzz the server at --url, or one of its own, which is watched."""
    if options.url:
        parts = urlsplit(options.url)
        tally = asyncio.run(_fuzz_http(parts.hostname or "127.0.0.1", parts.port or 80, options))
        return tally, None
    with launched("fuzz") as server:
        with Monitor(server) as monitor:
            tally = asyncio.run(_fuzz_http(server.host, server.port, options))
        _still_there(server, tally)
    for fault in log_faults("fuzz"):
        tally.kinds[f"in the server's log: {fault}"] += 1
    return tally, monitor.report


def _still_there(server: Server, tally: Tally) -> None:
    if server.process.poll() is not None or server.post()[0] != 200:
        tally.kinds["a small request got no answer at the end"] += 1


# Led by coverage.


def fuzz_guided(options: argparse.Namespace) -> int:
    """Let libFuzzer change bodies for what makes the server's readers go new ways. Ends the process."""
    try:
        import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        say("--guided needs atheris, which the test environment does not hold: pip install atheris")
        return 2
    for name in [name for name in sys.modules if name.startswith("sagerank_inference.dialects")]:
        del sys.modules[name]
    with atheris.instrument_imports(include=["sagerank_inference.dialects"]):
        dialects = importlib.import_module("sagerank_inference.dialects")
    globals().update(parse=dialects.parse, render=dialects.render, render_error=dialects.render_error)
    corpus = BUILD / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for index in range(300):
        case = Maker(options.seed, index, spoil=False).case()
        (corpus / f"seed-{index}").write_bytes(bytes([_KINDS.index(case.content_type or ""), 0]) + case.body)
    tally, began = Tally(), time.monotonic()
    numbers = _numbers(options)

    def one(data: bytes) -> None:
        if len(data) >= 2:
            kind, path = _KINDS[data[0] % len(_KINDS)], _PATHS[data[1] % len(_PATHS)]
            case = Case(body=data[2:], content_type=kind, path=path)
            check_in_process(case, tally, ("guided", options.seed, tally.bodies))
        if next(numbers, None) is None:  # libFuzzer's own end leaves no time for a report
            held = report(f"guided, seed {options.seed}", tally, time.monotonic() - began, None)
            os._exit(0 if held else 1)

    atheris.Setup([sys.argv[0], f"-seed={options.seed + 1}", "-max_len=4096", str(corpus)], one)
    atheris.Fuzz()
    return 0


_KINDS = ("application/json", "application/jsonlines", "application/x-ndjson", "text/csv")
_PATHS = ("/invocations", "/rerank", "/v2/rerank")


def replay(path: Path, url: str | None) -> int:
    """Read one kept body again, here or at a server, and say what becomes of it."""
    case, tally = load(path), Tally()
    if url:
        parts = urlsplit(url)
        with Connection(parts.port or 80, parts.hostname or "127.0.0.1") as connection:
            answer = asyncio.run(connection.ask(as_sent(case), timeout=_SECONDS_HTTP))
        code, body, table, tolerance = answer.status, answer.body, EngineTable(), 1e-4
    else:
        code, body = in_process(case)  # an exception is what is looked for
        table, tolerance = _logits, 0.0  # type: ignore[assignment]
    say(f"{code} {body[:500].decode(errors='replace')}")
    try:
        judge(case, (code, body), tally, table, tolerance=tolerance)
    except oracle.Wrong as wrong:
        say(f"wrong: {wrong}")
        return 1
    say(f"right: {next(iter(tally.verdicts))}")
    return 0


def report(
    title: str, tally: Tally, seconds: float, watched: Report | None, *, untimed: bool = False
) -> bool:
    """Print what became of the bodies. True where everything held. untimed: whatever the times of /ping."""
    say(f"{title}: {tally.bodies:,} bodies, {tally.size / 1e6:,.0f} MB in {seconds:,.0f} s")
    say("  oracle  " + ", ".join(f"{name} {count:,}" for name, count in tally.verdicts.most_common()))
    say(f"  status  {by_status(tally.statuses)}")
    say(f"  slowest {tally.slowest[0]:.2f} s ({tally.slowest[1]})")
    missed = 0
    if watched:
        say(f"  /ping   {watched.ping}")
        first = watched.samples[0].front if watched.samples else 0.0
        say(
            f"  memory  front {first:,.0f} MB at first, peak {watched.front_peak:,.0f} MB; model's process peak {watched.child_peak:,.0f} MB"
        )
        times = {
            f"/ping p99 below {1e3 * PING_P99:g} ms": watched.ping.at(99) < PING_P99,
            f"/ping never above {PING_MAX:g} s": watched.ping.at(100) < PING_MAX,
        }
        others = {
            "/ping always 200": not watched.ping.other_than_200,
            f"front below {FRONT_MB:g} MB": watched.front_peak < FRONT_MB,
        }
        verdict(times | others, indent="  ")
        judged = others if untimed else times | others
        missed = sum(not kept for kept in judged.values())
    for failure in sorted(tally.failures):
        say(f"  kept    {failure}")
    for kind, count in tally.kinds.most_common():
        say(f"  FAILED  {count:,} x {kind}")
    say(f"  {tally.failed:,} failures, {missed} criteria not held")
    return not tally.failed and not missed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.trials.fuzz", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="stop after so many (default without --bodies: 1)"
    )
    parser.add_argument("--bodies", type=int, default=0, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0, help="of the bodies; another gives others")
    drive = parser.add_mutually_exclusive_group()
    drive.add_argument("--in-process", action="store_true", help="without server and model")
    drive.add_argument("--guided", action="store_true", help="without server and model, led by coverage")
    drive.add_argument("--url", help="a server with micro that runs already, http://HOST:PORT")
    parser.add_argument("--connections", type=int, default=16, help="over HTTP (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=0, help="of --in-process; 0: one for each core")
    parser.add_argument(
        "--untimed", action="store_true", help="whatever the times of /ping, as on a busy machine"
    )
    parser.add_argument("--replay", type=Path, help="one body that was kept")
    options = parser.parse_args(arguments)
    if options.replay:
        if not options.replay.is_file():
            parser.error(f"there is no file {options.replay}: failures are kept in {BUILD}")
        return replay(options.replay, options.url)
    if not options.minutes and not options.bodies:
        options.minutes = 1.0
    if options.guided:
        return fuzz_guided(options)
    began, watched = time.monotonic(), None
    if options.in_process:
        tally = fuzz_in_process(options)
    else:
        tally, watched = fuzz_http(options)
    title = f"{'in process' if options.in_process else 'over HTTP'}, seed {options.seed}"
    held = report(title, tally, time.monotonic() - began, watched, untimed=options.untimed)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
