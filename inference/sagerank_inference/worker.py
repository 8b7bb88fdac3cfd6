"""The model in a process of its own, so that its death by memory or by a defect is not the server's.

The front sends numbered batches over a socket and gets their logits back, each as soon as it is done: the
model may compute several at once. The end of the stream is the end of the process. Frames are four bytes of
length and a payload of native 32-bit integers or floats: both ends are the same machine, and nothing is
unpickled.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

from . import process
from .batcher import WorkerDied
from .contract import InternalError
from .log import relay
from .settings import Settings

_LOAD_SECONDS = 900.0  # of the largest model from the slowest disk; then something hangs
_END_SECONDS = 5.0
# numpy starts a thread for each processor of the machine, whatever a container may use of them, for products that ONNX Runtime computes.
_UNUSED = {"OPENBLAS_NUM_THREADS": "1"}
_READY, _LOGITS, _FAILED, _REFUSED = b"r", b"l", b"f", b"x"


class LoadFailed(Exception):
    """The model could not be loaded or does not score as it should: trying again would not help."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a child says of itself when it is ready."""

    lanes: int  # batches that it computes at once
    tolerances: list[float]  # of the golden pairs' logits, for each of its models


class Worker(asyncio.Protocol):
    """One child process, and our end of the socket to it. `run` may be called again before it answers.

    What the child has no lane for waits in the socket. A protocol and not streams: front and model share the
    cores, so what an answer costs here the model loses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Of batches at the child, by number: the answer to come, and the end of the patience with it.
        self._pending: dict[int, tuple[asyncio.Future[list[float]], asyncio.TimerHandle]] = {}
        self._numbers = itertools.cycle(range(1 << 31))
        self._received = bytearray()
        self._transport: asyncio.Transport
        self._process: subprocess.Popen[bytes] | None = None
        self.alive = False

    async def start(self) -> Loaded:
        """Start the child; return when it is warm and scores its golden pairs. Raises LoadFailed or WorkerDied."""
        loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[bytes] = loop.create_future()
        self._gone = asyncio.Event()
        ours, theirs = socket.socketpair()
        try:
            with theirs, relay("worker") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(os.getpid())],
                    env={
                        **(_UNUSED if self._settings.backend == "onnx" else {}),
                        **os.environ,
                        **self._settings.to_env(),
                        "PYTHONPATH": os.pathsep.join(_import_path()),
                    },
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
        except OSError as error:  # no memory or no descriptor, at the moment
            ours.close()
            raise WorkerDied(f"The model's process could not be started: {error.strerror}.") from None
        ours.setblocking(False)
        await loop.create_connection(lambda: self, sock=ours)
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                answer = await self._loaded
        except TimeoutError:
            self.kill()
            raise WorkerDied(
                f"The model was not loaded within {_LOAD_SECONDS:g} s: {await self.end()}."
            ) from None
        except EOFError:
            raise WorkerDied(f"The model's process ended while loading: {await self.end()}.") from None
        if answer[:1] == _REFUSED:
            await self.end()
            raise LoadFailed(answer[1:].decode())
        self.alive = True
        lanes, *tolerances = answer[1:].split()
        return Loaded(int(lanes), list(map(float, tolerances)))

    def run(self, batch: Sequence[Sequence[int]], model: int = 0) -> asyncio.Future[list[float]]:
        """Send pairs of token ids to one of the models; its logits are to come.

        The future raises InternalError where this batch fails, and WorkerDied where the process does.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[float]] = loop.create_future()
        if not self.alive:
            future.set_exception(WorkerDied("The model's process is gone; try again shortly."))
            return future
        patience = loop.call_later(self._settings.batch_seconds, self._hung, future)
        number = next(self._numbers)
        self._pending[number] = future, patience
        message = array("i", [number, model, len(batch), *map(len, batch)])
        for pair in batch:
            message.extend(pair)  # a copy of memory where the pair is such an array
        self._transport.write(_frame(message.tobytes()))
        return future

    def _hung(self, future: asyncio.Future[list[float]]) -> None:
        _fail(future, WorkerDied("The model hung and is being replaced; try again shortly."))
        self.kill()

    def kill(self) -> None:
        if self._process:
            self._process.kill()

    async def stop(self) -> None:
        """End the child and wait for it."""
        self.kill()
        if self._process:
            await self.end()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def gone(self) -> None:
        """Return once the child hung up: it is dead, or will be soon."""
        await self._gone.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: another event loop's transports, uvloop's for one, are not subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= 4:
            end = 4 + int.from_bytes(self._received[:4], sys.byteorder)
            if len(self._received) < end:
                return
            payload = bytes(self._received[4:end])
            del self._received[:end]
            if self._loaded.done():
                self._answer(payload)
            else:
                self._loaded.set_result(payload)

    def _answer(self, payload: bytes) -> None:
        kind, number, content = payload[:1], int.from_bytes(payload[1:5], sys.byteorder), payload[5:]
        logits = array("f", content).tolist() if kind == _LOGITS else []
        future, patience = self._pending.pop(number)
        patience.cancel()
        if future.done():
            return
        if kind == _LOGITS and math.isfinite(sum(logits)):
            future.set_result(logits)
        elif kind == _LOGITS:
            future.set_exception(InternalError("The model's score of this batch is no number."))
        else:
            future.set_exception(InternalError(f"The model failed on this batch ({content.decode()})."))

    def connection_lost(self, _error: Exception | None) -> None:
        self.alive = False
        if not self._loaded.done():
            self._loaded.set_exception(EOFError())
        while self._pending:
            _, (future, patience) = self._pending.popitem()
            patience.cancel()
            _fail(future, WorkerDied("The model's process died under this request; try again shortly."))
        self._gone.set()

    async def end(self) -> str:
        """Return how the child ended, once the system knows."""
        assert self._process is not None
        self._transport.close()
        code = await asyncio.to_thread(_wait, self._process)
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Return the exit status of a child that hung up, or is to end."""
    try:
        return process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _import_path() -> list[str]:
    """Return where this process finds modules, without the working directory unless this package lies there."""
    try:
        left_out = {Path.cwd()} - {Path(__file__).parent.parent}
    except OSError:  # the working directory was removed: nothing can be imported from it
        left_out = set()
    return [entry for entry in sys.path if entry and Path(entry).resolve() not in left_out]


def _fail(future: asyncio.Future[list[float]], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # a caller that has left must not leave a warning behind


def _frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, sys.byteorder) + payload


def serve(connection: socket.socket, environ: Mapping[str, str]) -> None:
    """Be the child: load, say so, then answer batch after batch until the front hangs up."""
    from .engine import Engine

    settings = replace(Settings.from_env(environ), cache_mb=0)  # the front has it
    try:
        engine = Engine.load(settings.model_dir, settings)
    except BaseException as error:  # a panic of a library's, too
        connection.sendall(_frame(_REFUSED + f"{error}".encode(errors="backslashreplace")))
        return
    lanes = max(forward.lanes for forward in engine.forwards)
    tolerances = [forward.tolerance for forward in engine.forwards]
    connection.sendall(_frame(_READY + " ".join(map(str, (lanes, *tolerances))).encode()))
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
                kind, content = _LOGITS, array("f", engine.forwards[model](batch)).tobytes()
            except Exception as error:
                # One bad batch, out of memory among them, is not the end of the others.
                kind, content = _FAILED, type(error).__name__.encode()
            with writing:
                connection.sendall(_frame(kind + number.to_bytes(4, sys.byteorder) + content))

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
