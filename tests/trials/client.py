"""A client that sends what it is given as it is given, and a server whose log is kept to be looked at."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sagerank.models.build import MICRO
from sagerank_inference.contract import Truncation
from sagerank_inference.engine import Engine
from sagerank_inference.settings import Settings

from ..conftest import ROOT
from ..servers import Server
from .bodies import CANARY, Case

BUILD = ROOT / "build" / "trials"
PING = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
_MOST_LETTERS = 3000  # of texts that are scored here too, to know what the server should say


def say(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; status 0 where nothing did, with the reason as the body."""

    status: int
    body: bytes
    closes: bool = False


def head(
    size: int | str, *, content_type: str | None = "application/json", path: str = "/invocations"
) -> bytes:
    """The head of a request whose body has so many bytes; "chunked" where that is not said."""
    length = f"Content-Length: {size}" if isinstance(size, int) else f"Transfer-Encoding: {size}"
    kind = "" if content_type is None else f"Content-Type: {content_type}\r\n"
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{kind}{length}\r\n\r\n".encode()


def chunked(pieces: Sequence[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


class Connection:
    """An HTTP/1.1 connection that is kept, and made again where the server closed it."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, message: bytes, *, timeout: float) -> Answer:
        """Send a whole request, head and body, and return its answer."""
        try:
            async with asyncio.timeout(timeout):
                if self._streams and self._streams[0].at_eof():
                    self.close()  # idle for too long
                if not self._streams:
                    self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 24)
                reader, writer = self._streams
                # Not drained: an answer may come before the body was taken, as a refusal does.
                writer.write(message)
                answer = await read_answer(reader)
                unsent = writer.transport.get_write_buffer_size()
        except TimeoutError:
            answer, unsent = Answer(0, b"no answer in time"), 0
        except (OSError, EOFError) as error:
            answer, unsent = Answer(0, type(error).__name__.encode()), 0
        if answer.closes or unsent or not answer.status:
            self.close()
        return answer

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    lines = ["http/1.1 100"]
    while lines[0].split()[1].startswith("1"):  # what comes before the answer
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    fields = dict(line.split(":", 1) for line in lines[1:] if ":" in line)
    closes = fields.get("connection", "").strip() == "close"
    length = int(fields.get("content-length", "0"))
    body = await reader.readexactly(length) if length else b""
    return Answer(int(lines[0].split()[1]), body, closes)


@contextmanager
def launched(name: str, *, process: dict[str, Any] | None = None, **variables: str) -> Iterator[Server]:
    """A server of its own that is ready, its log in BUILD/NAME.log. Killed at the end, its model's process with it."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / f"{name}.log").open("wb") as log:
        server = Server(variables, **{"stdout": log, "stderr": log, **(process or {})})
        try:
            server.wait_until_ready()
            yield server
        finally:
            if server.process.poll() is None:
                server.process.kill()
            if server.process.stdout:
                server.process.stdout.close()
            server.process.wait()


def by_status(statuses: Mapping[int, int]) -> str:
    """How many answers had each status; 0 stands for none."""
    return ", ".join(f"{status or 'none'} {count:,}" for status, count in sorted(statuses.items()))


def verdict(limits: Mapping[str, bool], *, indent: str = "") -> bool:
    """Print which criteria were held. True where all were."""
    for limit, kept in limits.items():
        say(f"{indent}{'held    ' if kept else 'NOT HELD'} {limit}")
    return all(limits.values())


def log_faults(name: str) -> list[str]:
    """What a server's log may not hold: lines that are no JSON, as tracebacks are, errors of the libraries, texts."""
    faults: dict[str, int] = {}
    with (BUILD / f"{name}.log").open("rb") as log:
        for line in log:
            try:
                entry = json.loads(line)
                # The server's own events say what they are about in fields of their own.
                library = "message" in entry and entry["level"] in ("error", "critical")
                fault = f"{entry['event']}: {entry['message']}" if library else ""
                fault = f"500 ({entry['exception']})" if entry.get("status") == 500 else fault
            except (ValueError, TypeError, KeyError):
                fault = f"not JSON: {line[:80].decode(errors='replace').strip()}"
            if CANARY.encode() in line:
                fault = "a text of a request"
            if fault:
                shown = " ".join(fault.split())[:120]
                faults[shown] = faults.get(shown, 0) + 1
    return [f"{count} x {fault}" for fault, count in sorted(faults.items(), key=lambda item: -item[1])]


class EngineTable:
    """Logits of pairs by the engine alone, each computed once."""

    def __init__(self) -> None:
        self._engine = Engine.load(MICRO, Settings(model_dir=MICRO, threads=1))
        self._known: dict[tuple[object, ...], float] = {}

    def __call__(self, query: str, texts: Sequence[str], keep: int | None, left: bool) -> list[float] | None:
        if not keep and max(map(len, texts)) < 1500:
            left = False  # nothing is cut
        keys = [(query, text, keep, left) for text in texts]
        missing = list(
            dict.fromkeys(text for key, text in zip(keys, texts, strict=True) if key not in self._known)
        )
        if sum(map(len, missing)) + len(query) > _MOST_LETTERS:
            return None
        if missing:
            if len(self._known) > 500_000:
                self._known.clear()
                missing = list(dict.fromkeys(texts))
            scores = self._engine.score(query, missing, Truncation(max_document_tokens=keep, left=left))
            for text, logit in zip(missing, scores.values, strict=True):
                self._known[query, text, keep, left] = logit
        return [self._known[key] for key in keys]


def as_sent(case: Case, *, pieces: Sequence[bytes] | None = None) -> bytes:
    """The whole request of a case; in chunks where pieces of its body are given."""
    size: int | str = len(case.body) if pieces is None else "chunked"
    body = case.body if pieces is None else chunked(pieces)
    return head(size, content_type=case.content_type, path=case.path) + body


def save(case: Case, path: Path, **facts: object) -> Path:
    """Write a case for --replay: a line of JSON with how it is sent, then the body as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"path": case.path, "content_type": case.content_type, **facts})
    path.write_bytes(line.encode() + b"\n" + case.body)
    return path


def load(path: Path) -> Case:
    line, _, body = path.read_bytes().partition(b"\n")
    facts = json.loads(line)
    return Case(body=body, content_type=facts["content_type"], path=facts["path"])


class Pace:
    """Says now and then how far a trial is."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds, self._next = seconds, time.monotonic() + seconds

    def due(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._seconds
        return True
