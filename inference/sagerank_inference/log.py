"""The log: one JSON object a line on standard output, written by a thread of its own.

Who logs never waits. A pipe that nobody reads, a full disk or a closed file costs lines, which are counted, and
nothing else: what is waiting is written when writing works again.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType

_OWN = "sagerank"  # this logger's messages are JSON objects already
_MOST_HELD = 4 << 20  # bytes that wait to be written, about; more are dropped
_LONGEST = 500  # characters of a message of others
_MOST_KINDS = 64  # that are told apart within a second
_AT_ONCE = 1000  # lines of one write
_RELAYED = 20  # lines of a child, at the begin and the end of what it wrote at once
_EXIT_SECONDS = 1.0
# asyncio names the callback that failed with its arguments, which are texts of requests.
_ARGUMENTS = re.compile(r"\((?!\)).*", re.S)


@dataclass(frozen=True, slots=True)
class _Entry:
    created: float
    level: str
    name: str
    message: str
    exception: str = ""  # its type and place: a text could quote what a caller sent
    left_out: int = 0  # as many more of its kind

    @property
    def size(self) -> int:
        return 200 + len(self.message)


@dataclass(slots=True)
class _Repeats:
    """Entries of one kind since one was written: the last, and how many."""

    until: float
    count: int = 0
    last: _Entry | None = None


class JsonLines(logging.Handler):
    """Writes to a file descriptor. Of others' entries at most one a second of each kind, with a count of the rest."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._entries: queue.SimpleQueue[_Entry | threading.Event] = queue.SimpleQueue()
        # Of what follows. Not the handler's own, which is held while `flush` waits; and the same thread may come
        # in again: what collects garbage may log.
        self._lock = threading.RLock()
        self._held = self._dropped = 0
        self._kinds: dict[tuple[str, str], _Repeats] = {}
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        entry = _entry(record)
        with self._lock:
            if record.name != _OWN:
                kind = entry.name, entry.message
                if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
                    kind = entry.name, ""
                repeats = self._kinds.get(kind)
                if repeats:
                    repeats.count, repeats.last = repeats.count + 1, entry
                    return
                self._kinds[kind] = _Repeats(time.monotonic() + 1)
            if self._held + entry.size > _MOST_HELD:
                self._dropped += 1
                return
            self._held += entry.size
        self._entries.put(entry)

    def flush(self) -> None:
        """Wait until everything is written, and no longer than a second: the process is to end."""
        written = threading.Event()
        self._entries.put(written)
        written.wait(_EXIT_SECONDS)

    def _write_all(self) -> None:
        while True:
            with suppress(Exception):  # no memory, say: there is nobody to tell, and a next time
                self._write_next()
            time.sleep(0.01)  # more lines then share a write, and the turns of threads

    def _write_next(self) -> None:
        entries, flushed = self._next()
        try:
            self._write(entries)
        finally:
            with self._lock:
                self._held -= sum(entry.size for entry in entries)
                lost, self._dropped = self._dropped, 0
        late = self._left_out(everything=bool(flushed))
        if lost:
            text = json.dumps({"event": "log_dropped", "lines": lost})
            late.append(_Entry(time.time(), "warning", _OWN, text))
        self._write(late)
        for event in flushed:
            event.set()

    def _next(self) -> tuple[list[_Entry], list[threading.Event]]:
        """Wait for entries, or for the time to tell what was left out; and take what else is there."""
        entries: list[_Entry] = []
        flushed: list[threading.Event] = []
        with suppress(queue.Empty):
            entry = self._entries.get(timeout=1 if self._kinds else None)
            while True:
                if isinstance(entry, _Entry):
                    entries.append(entry)
                else:
                    flushed.append(entry)
                if len(entries) == _AT_ONCE:
                    break
                entry = self._entries.get_nowait()
        return entries, flushed

    def _left_out(self, *, everything: bool) -> list[_Entry]:
        """Forget the kinds whose second is over; an entry for each that came more than once in it, with the count."""
        now, entries = time.monotonic(), []
        with self._lock:
            for kind, repeats in list(self._kinds.items()):
                if now < repeats.until and not everything:
                    continue
                if repeats.last:
                    entries.append(replace(repeats.last, left_out=repeats.count - 1))
                    self._kinds[kind] = _Repeats(now + 1)
                else:
                    del self._kinds[kind]
        return entries

    def _write(self, entries: list[_Entry]) -> None:
        """Write them all, however long that takes: to give up would leave half a line."""
        rest = "".join(map(_line, entries)).encode("utf-8", "backslashreplace")
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest[:65_536]) :]
            except BlockingIOError:  # whoever shares it with us made it so
                select.select([], [self._descriptor], [], 1)
            except OSError:
                time.sleep(0.2)


def _entry(record: logging.LogRecord) -> _Entry:
    try:
        message = record.getMessage()
    except Exception:  # arguments that do not fit: no reason to fail where it was logged
        message = str(record.msg)
    if record.name != _OWN:
        message = message.partition("\n")[0]
        if record.name == "asyncio":
            message = _ARGUMENTS.sub("", message)
        message = message[:_LONGEST]
    kind, _, traceback = record.exc_info or (None, None, None)
    exception = _named(kind, traceback) if kind else ""
    return _Entry(record.created, record.levelname.lower(), record.name, message, exception)


def _named(kind: type[BaseException], traceback: TracebackType | None) -> str:
    """The type of an exception, and the line of code that raised it."""
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    if traceback is None:
        return kind.__name__
    return (
        f"{kind.__name__} at {os.path.basename(traceback.tb_frame.f_code.co_filename)}:{traceback.tb_lineno}"
    )


def _line(entry: _Entry) -> str:
    seconds, fraction = divmod(entry.created, 1)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(1000 * fraction):03}Z"
    fields: dict[str, object] = {"time": stamp, "level": entry.level}
    text = entry.message
    try:
        own = json.loads(text) if entry.name == _OWN else None
    except ValueError:
        own = None
    fields |= own if isinstance(own, dict) else {"event": entry.name, "message": text}
    if entry.exception:
        fields["exception"] = entry.exception
    if entry.left_out:
        fields["left_out"] = entry.left_out
    return json.dumps(fields) + "\n"


def start(descriptor: int = 1) -> None:
    """Send what is logged, warned or raised anywhere in this process to the descriptor. A second call does nothing."""
    root = logging.getLogger()
    if root.handlers:
        return
    # A descriptor that is closed would be the next connection's, and the log be written to a client.
    with suppress(OSError):
        while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(free)
    root.addHandler(JsonLines(descriptor))
    root.setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    # Python's own hooks write to standard error, with the exception's text, and wait there.
    sys.excepthook = lambda kind, _, traceback: _raised("failed", kind, traceback)
    sys.unraisablehook = lambda args: _raised("exception", args.exc_type, args.exc_traceback)
    threading.excepthook = lambda args: _raised("exception", args.exc_type, args.exc_traceback)


def _raised(event: str, kind: type[BaseException], traceback: TracebackType | None) -> None:
    if kind is not SystemExit:
        text = json.dumps({"event": event, "exception": _named(kind, traceback)})
        logging.getLogger(_OWN).error(text)


@contextmanager
def relay(name: str) -> Iterator[int]:
    """A descriptor for a child's output; its lines are logged under the name, and the child never waits for them."""
    reading, writing = os.pipe()
    try:
        threading.Thread(target=_relay, args=(reading, name), name=name, daemon=True).start()
        yield writing
    finally:
        os.close(writing)


def _relay(reading: int, name: str) -> None:
    log, rest = logging.getLogger(name), b""
    with open(reading, "rb", buffering=0) as stream:
        while block := stream.read(1 << 16):
            *lines, rest = (rest + block).split(b"\n")
            if len(rest) > _LONGEST:
                lines, rest = [*lines, rest], b""
            if len(lines) > 2 * _RELAYED:
                left_out = f"({len(lines) - 2 * _RELAYED} lines left out)".encode()
                lines[_RELAYED:-_RELAYED] = [left_out]
            for line in lines:
                _say(log, line)
    _say(log, rest)


def _say(log: logging.Logger, line: bytes) -> None:
    if text := line.decode("utf-8", "replace").strip():
        log.warning("%s", text)
