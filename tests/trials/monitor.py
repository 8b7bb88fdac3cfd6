"""What a server's other callers see meanwhile, from a process of its own: /ping every 20 ms, a small request if asked, and
the memory, files and threads of the server's processes.

A caller that is kept waiting calls less often, which would hide the wait behind the many calls that were fast: the calls
that were due in it are counted too, with what was left of it.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ..servers import BODY, Server, children

PING_EVERY, SMALL_EVERY, MEMORY_EVERY = 0.02, 0.2, 0.25
TIMEOUT = 60.0


@dataclass(slots=True)
class Seen:
    """Of one kind of call: seconds of each, and how often each status came; 0 stands for no answer."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def at(self, percent: float) -> float:
        """The percentile, by nearest rank."""
        ordered = sorted(self.seconds) or [0.0]
        return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))]

    @property
    def other_than_200(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != 200)

    def __str__(self) -> str:
        p50, p99, worst = (1e3 * self.at(percent) for percent in (50, 99, 100))
        return f"{len(self.seconds):,} times: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {worst:,.0f} ms; not 200: {self.other_than_200}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The server at one moment; megabytes are 10^6 bytes resident."""

    second: float
    front: float
    child: float
    files: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Peaks are the kernel's own (VmHWM), in megabytes; the child's is that of the largest there was."""

    ping: Seen
    small: Seen
    front_peak: float
    child_peak: float
    samples: Sequence[Sample]


class Monitor:
    """Watches a server while the block runs; `report` is there after it."""

    def __init__(self, server: Server, *, small: bool = False) -> None:
        self._arguments = [str(server.port), str(server.pid), str(int(small))]
        self.report: Report

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *self._arguments],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it has begun
        return self

    def __exit__(self, *_: object) -> None:
        output, _errors = self._process.communicate(b"\n", timeout=TIMEOUT + 30)
        said = json.loads(output)
        calls = {
            name: Seen(
                said[name][0], Counter({int(status): count for status, count in said[name][1].items()})
            )
            for name in ("ping", "small")
        }
        self.report = Report(
            **calls,
            front_peak=said["front_peak"],
            child_peak=said["child_peak"],
            samples=[Sample(**sample) for sample in said["samples"]],
        )


def _call_regularly(
    port: int, method: str, path: str, body: bytes | None, every: float, seen: Seen, stop: threading.Event
) -> None:
    connection: http.client.HTTPConnection | None = None
    while not stop.is_set():
        began = time.monotonic()
        try:
            connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            seen.statuses[answer.status] += 1
        except (OSError, http.client.HTTPException):
            seen.statuses[0] += 1
            if connection:
                connection.close()
            connection = None
        took = time.monotonic() - began
        seen.seconds.append(took)
        seen.seconds.extend(took - every * missed for missed in range(1, int(took / every)))
        stop.wait(max(0.0, every - took) if connection else every)


def status_fields(pid: int) -> dict[str, str]:
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {}


def megabytes(fields: dict[str, str], name: str) -> float:
    return int(fields.get(name, "0 kB").split()[0]) * 1024 / 1e6


def main(port: int, pid: int, small: int) -> None:
    stop = threading.Event()
    seen = {"ping": Seen(), "small": Seen()}
    calls: list[tuple[Any, ...]] = [(port, "GET", "/ping", None, PING_EVERY, seen["ping"], stop)]
    if small:
        calls.append((port, "POST", "/invocations", BODY, SMALL_EVERY, seen["small"], stop))
    callers = [threading.Thread(target=_call_regularly, args=call, daemon=True) for call in calls]

    def read() -> None:
        sys.stdin.buffer.readline()
        stop.set()

    reader = threading.Thread(target=read, daemon=True)
    began = time.monotonic()
    for thread in (*callers, reader):
        thread.start()
    sys.stdout.write("\n")
    sys.stdout.flush()
    peaks = [0.0, 0.0]
    samples: list[dict[str, float]] = []
    last = False
    while not last:
        last = stop.wait(MEMORY_EVERY)  # once more after the end
        front = status_fields(pid)
        child = [status_fields(one) for one in children(pid)]
        peaks[0] = max(peaks[0], megabytes(front, "VmHWM"))
        peaks[1] = max([peaks[1], *(megabytes(one, "VmHWM") for one in child)])
        with suppress(OSError):
            samples.append(
                {
                    "second": time.monotonic() - began,
                    "front": megabytes(front, "VmRSS"),
                    "child": sum(megabytes(one, "VmRSS") for one in child),
                    "files": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
                    "threads": int(front.get("Threads", "0")),
                }
            )
    for caller in callers:
        caller.join(TIMEOUT + 5)
    said: dict[str, Any] = {name: [one.seconds, one.statuses] for name, one in seen.items()}
    sys.stdout.write(json.dumps({**said, "front_peak": peaks[0], "child_peak": peaks[1], "samples": samples}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
