"""The model in a process of its own, so that its death by memory or by a defect is not the server's.

The front sends numbered batches over a socket and gets their logits back, each as soon as it is done. The end of the
stream is the end of the process. Frames are four bytes of length and a payload of native 32-bit integers or floats: both
ends are the same machine, and nothing is unpickled.

Both begin with this module, and it imports little: the front starts the process before it imports the rest of itself, and
the process needs no more of the front than this.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from . import process
from .log import relay
from .settings import Settings

# numpy starts a thread for each processor of the machine, whatever a container may use of them, for products that ONNX Runtime computes.
_UNUSED = {"OPENBLAS_NUM_THREADS": "1"}
# What a frame of the child begins with.
READY, LOGITS, FAILED, REFUSED = b"r", b"l", b"f", b"x"


@dataclass(frozen=True, slots=True)
class Child:
    """The model's process, and our end of the socket to it."""

    process: subprocess.Popen[bytes]
    connection: socket.socket


def start(settings: Settings) -> Child:
    """Start the model's process, which begins to load; its output goes to our log. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        with theirs, relay("worker") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(os.getpid())],
                env={
                    **(_UNUSED if settings.backend == "onnx" else {}),
                    **os.environ,
                    **settings.to_env(),
                    "PYTHONPATH": os.pathsep.join(_import_path()),
                },
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
    except OSError:
        ours.close()
        raise
    return Child(process, ours)


def _import_path() -> list[str]:
    """Return where this process finds modules, without the working directory unless this package lies there."""
    try:
        left_out = {Path.cwd()} - {Path(__file__).parent.parent}
    except OSError:  # the working directory was removed: nothing can be imported from it
        left_out = set()
    return [entry for entry in sys.path if entry and Path(entry).resolve() not in left_out]


def frame(payload: bytes) -> bytes:
    """Return a payload as it goes over the socket."""
    return len(payload).to_bytes(4, sys.byteorder) + payload


def serve(connection: socket.socket, environ: Mapping[str, str]) -> None:
    """Be the child: load, say so, then answer batch after batch until the front hangs up."""
    from .engine import Engine

    settings = Settings.from_env(environ)
    try:
        engine = Engine.load(settings.model_dir, settings, cached=False)  # the front has it
    except BaseException as error:  # a panic of a library's, too
        connection.sendall(frame(REFUSED + f"{error}".encode(errors="backslashreplace")))
        return
    lanes = engine.lanes.number
    tolerances = [forward.tolerance for forward in engine.forwards]
    facts: dict[str, object] = {"threads": settings.threads, "lanes": lanes, "lanes_by": engine.lanes.reason}
    if engine.lanes.tokens_per_second:
        facts["tokens_per_second"] = engine.lanes.tokens_per_second
    connection.sendall(frame(READY + json.dumps([lanes, tolerances, facts]).encode()))
    stream = cast(BinaryIO, connection.makefile("rb", buffering=1 << 20))
    reading, writing = threading.Lock(), threading.Lock()

    def lane() -> None:
        while True:
            with reading:
                message = _read(stream)
            if not message:
                return
            number, model, count = message[:3]
            start, batch = 3 + count, []
            for length in message[3 : 3 + count]:
                batch.append(message[start : start + length])
                start += length
            try:
                kind, content = LOGITS, array("f", engine.forwards[model](batch)).tobytes()
            except Exception as error:
                # One bad batch, out of memory among them, is not the end of the others.
                kind, content = FAILED, type(error).__name__.encode()
            with writing:
                connection.sendall(frame(kind + number.to_bytes(4, sys.byteorder) + content))

    # Each lane fetches its own work: nothing is handed from thread to thread.
    others = [threading.Thread(target=lane) for _ in range(lanes - 1)]
    for other in others:
        other.start()
    lane()
    for other in others:
        other.join()


def _read(stream: BinaryIO) -> array[int]:
    """Return the next frame's integers, none at the end of the stream."""
    return array("i", stream.read(int.from_bytes(stream.read(4), sys.byteorder)))


def main() -> None:
    connection, front = int(sys.argv[1]), int(sys.argv[2])
    process.end_with(front)
    process.die_first()
    # What a terminal or a platform sends to all of us is the front's to handle.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=connection) as stream:
        serve(stream, os.environ)


if __name__ == "__main__":
    main()
