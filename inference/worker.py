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


class Worker:
    """One child process. `run` may be called again before it answers: the next batch then waits at the
    child's door.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pending: deque[asyncio.Future[list[float]]] = deque()
        self.alive = False

    async def start(self) -> list[float]:
        """Return when the child is loaded, warm and scores its golden pairs, with the tolerance of that
        check for each of its models.

        Raises LoadFailed or WorkerDied.
        """
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
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        try:
            kind, payload = await self._receive()
        except asyncio.IncompleteReadError:
            raise WorkerDied(f"The model's process ended while loading: {await self._end()}.") from None
        if kind == _REFUSED:
            await self._end()
            raise LoadFailed(payload.decode())
        self.alive = True
        self._listener = asyncio.create_task(self._listen())
        return [float(tolerance) for tolerance in payload.split()]

    async def run(self, batch: Sequence[Sequence[int]], model: int = 0) -> list[float]:
        """Token ids of each pair -> logits by one of the models. Raises InternalError where this batch failed, WorkerDied where
        the process did.
        """
        if not self.alive:
            raise WorkerDied("The model's process is gone; try again shortly.")
        message = array("i", [model, len(batch), *map(len, batch)])
        for pair in batch:
            message.extend(pair)
        future: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()
        self._pending.append(future)
        self._writer.write(_frame(message.tobytes()))
        try:
            async with asyncio.timeout(self._settings.batch_seconds):
                return await asyncio.shield(future)
        except TimeoutError:
            self.kill()
            raise WorkerDied("The model hung and is being replaced; try again shortly.") from None

    def kill(self) -> None:
        self._process.kill()

    async def stop(self) -> None:
        """End the child and wait for it."""
        if hasattr(self, "_listener"):
            self._listener.cancel()
        if hasattr(self, "_process"):
            self.kill()
            await self._end()
        self._fail_pending()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait_death(self) -> str:
        """Return, with how it ended, once the child is gone."""
        await asyncio.wait([self._listener])
        return await self._end()

    async def _listen(self) -> None:
        try:
            while True:
                kind, payload = await self._receive()
                future = self._pending.popleft()
                if future.cancelled():
                    continue
                if kind == _LOGITS:
                    future.set_result(list(array("f", payload)))
                else:
                    future.set_exception(
                        InternalError(f"The model failed on this batch ({payload.decode()}).")
                    )
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._fail_pending()

    def _fail_pending(self) -> None:
        self.alive = False
        while self._pending:
            future = self._pending.popleft()
            if not future.done():
                future.set_exception(
                    WorkerDied("The model's process died under this request; try again shortly.")
                )
                future.exception()  # a caller that has left must not leave a warning behind

    async def _receive(self) -> tuple[bytes, bytes]:
        size = int.from_bytes(await self._reader.readexactly(4), sys.byteorder)
        payload = await self._reader.readexactly(size)
        return payload[:1], payload[1:]

    async def _end(self) -> str:
        self._writer.close()
        code = await asyncio.to_thread(self._process.wait)
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


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
