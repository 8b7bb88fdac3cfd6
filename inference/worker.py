"""The model in a process of its own, so that its death by memory or by a defect is not the death of the
server.

The front sends batches over a socket and gets logits back in order; the end of the stream is the end of the
process. Frames are four bytes of length and a payload of native 32-bit integers or floats: both ends are the
same machine, and nothing is unpickled.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
from array import array
from collections import deque
from collections.abc import Mapping, Sequence

from .contract import InternalError, Unavailable
from .settings import Settings

_READY, _LOGITS, _FAILED, _REFUSED = b"r", b"l", b"f", b"x"


class WorkerDied(Unavailable):
    pass


class LoadFailed(Exception):
    """The model could not be loaded or does not score as it should: trying again would not help."""


class Worker(asyncio.Protocol):
    """One child process, and our end of the socket to it. `run` may be called again before it answers: the next batch
    then waits at the child's door.

    A protocol and not streams: front and model share the cores, so what an answer costs here the model loses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Of batches at the child: the answer to come, and the end of the patience with it.
        self._pending: deque[tuple[asyncio.Future[list[float]], asyncio.TimerHandle]] = deque()
        self._received = bytearray()
        self._transport: asyncio.Transport
        self._process: subprocess.Popen[bytes] | None = None
        self.alive = False

    async def start(self) -> list[float]:
        """Return when the child is loaded, warm and scores its golden pairs, with the tolerance of that
        check for each of its models.

        Raises LoadFailed or WorkerDied.
        """
        loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[bytes] = loop.create_future()
        self._gone = asyncio.Event()
        ours, theirs = socket.socketpair()
        with theirs:
            # Our import path, in case the package was not installed but put there by the container.
            environment = {
                **os.environ,
                **self._settings.to_env(),
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            }
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        ours.setblocking(False)
        await loop.create_connection(lambda: self, sock=ours)
        try:
            answer = await self._loaded
        except EOFError:
            raise WorkerDied(f"The model's process ended while loading: {await self._end()}.") from None
        if answer[:1] == _REFUSED:
            await self._end()
            raise LoadFailed(answer[1:].decode())
        self.alive = True
        return [float(tolerance) for tolerance in answer[1:].split()]

    def run(self, batch: Sequence[Sequence[int]], model: int = 0) -> asyncio.Future[list[float]]:
        """Token ids of each pair -> logits to come by one of the models, or InternalError where this batch fails, or
        WorkerDied where the process does.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[float]] = loop.create_future()
        if not self.alive:
            future.set_exception(WorkerDied("The model's process is gone; try again shortly."))
            return future
        patience = loop.call_later(self._settings.batch_seconds, self._hung, future)
        self._pending.append((future, patience))
        message = array("i", [model, len(batch), *map(len, batch)])
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
            await self._end()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def wait_death(self) -> str:
        """Return, with how it ended, once the child is gone."""
        await self._gone.wait()
        return await self._end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

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
        future, patience = self._pending.popleft()
        patience.cancel()
        if future.done():
            return
        if payload[:1] == _LOGITS:
            future.set_result(array("f", payload[1:]).tolist())
        else:
            future.set_exception(InternalError(f"The model failed on this batch ({payload[1:].decode()})."))

    def connection_lost(self, error: Exception | None) -> None:
        self.alive = False
        if not self._loaded.done():
            self._loaded.set_exception(EOFError())
        while self._pending:
            future, patience = self._pending.popleft()
            patience.cancel()
            _fail(future, WorkerDied("The model's process died under this request; try again shortly."))
        self._gone.set()

    async def _end(self) -> str:
        assert self._process is not None
        self._transport.close()
        code = await asyncio.to_thread(self._process.wait)
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _fail(future: asyncio.Future[list[float]], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # a caller that has left must not leave a warning behind


def _frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, sys.byteorder) + payload


def serve(connection: socket.socket, environ: Mapping[str, str]) -> None:
    """The child: load, say so, then answer batch after batch until the front hangs up."""
    from .engine import Engine

    settings = Settings.from_env(environ)
    try:
        engine = Engine.load(settings.model_dir, settings)
    except Exception as error:
        connection.sendall(_frame(_REFUSED + f"{error}".encode()))
        return
    tolerances = " ".join(str(forward.tolerance) for forward in engine.forwards)
    connection.sendall(_frame(_READY + tolerances.encode()))
    stream = connection.makefile("rb", buffering=1 << 20)
    while header := stream.read(4):
        message = array("i", stream.read(int.from_bytes(header, sys.byteorder)))
        model, count = message[:2]
        start, batch = 2 + count, []
        for length in message[2 : 2 + count]:
            batch.append(message[start : start + length])
            start += length
        try:
            answer = _LOGITS + array("f", engine.forwards[model](batch)).tobytes()
        except Exception as error:  # one bad batch, out of memory among them, is not the end of the others
            answer = _FAILED + type(error).__name__.encode()
        connection.sendall(_frame(answer))


def main() -> None:
    # A front that is killed must not leave a model behind; and Ctrl-C and SIGTERM are the front's to handle.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        serve(connection, os.environ)


if __name__ == "__main__":
    main()
