"""Watches over the model's process: waits until it is ready, sends it batches, and says when and how it died.

Batches have numbers, and each is answered as soon as it is done: the model may compute several at once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import signal
import subprocess
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from .batcher import WorkerDied
from .contract import InternalError
from .settings import Settings
from .worker import LOGITS, REFUSED, Child, frame, start

_LOAD_SECONDS = 900.0  # of the largest model from the slowest disk; then something hangs
_END_SECONDS = 5.0


class LoadFailed(Exception):
    """The model could not be loaded or does not score as it should: trying again would not help."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a child says of itself when it is ready."""

    lanes: int  # batches that it computes at once
    tolerances: list[float]  # of the golden pairs' logits, for each of its models
    facts: dict[str, object]  # for the log: threads, lanes and why so many


class Worker(asyncio.Protocol):
    """One child process and what it is asked. `run` may be called again before it answers.

    What the child has no lane for waits in the socket. A protocol and not streams: front and model share the
    cores, so what an answer costs here the model loses.
    """

    def __init__(self, settings: Settings, child: Child | None = None) -> None:
        """child: one that was started already, with these settings."""
        self._settings, self._child = settings, child
        # Of batches at the child, by number: the answer to come, and the end of the patience with it.
        self._pending: dict[int, tuple[asyncio.Future[list[float]], asyncio.TimerHandle]] = {}
        self._numbers = itertools.cycle(range(1 << 31))
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self.alive = False

    async def start(self) -> Loaded:
        """Start the child, if that was not done; return when it is warm and scores its golden pairs. Raises LoadFailed or WorkerDied."""
        loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[bytes] = loop.create_future()
        self._gone = asyncio.Event()
        try:
            child = self._child = self._child or start(self._settings)
        except OSError as error:  # no memory or no descriptor, at the moment
            raise WorkerDied(f"The model's process could not be started: {error.strerror}.") from None
        child.connection.setblocking(False)
        await loop.create_connection(lambda: self, sock=child.connection)
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
        if answer[:1] == REFUSED:
            await self.end()
            raise LoadFailed(answer[1:].decode())
        self.alive = True
        return Loaded(*json.loads(answer[1:]))

    def run(self, batch: Sequence[Sequence[int]], model: int = 0) -> asyncio.Future[list[float]]:
        """Send pairs of token ids to one of the models; its logits are to come.

        The future raises InternalError where this batch fails, and WorkerDied where the process does.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[float]] = loop.create_future()
        if not self.alive or self._transport is None:
            future.set_exception(WorkerDied("The model's process is gone; try again shortly."))
            return future
        patience = loop.call_later(self._settings.batch_seconds, self._hung, future)
        number = next(self._numbers)
        self._pending[number] = future, patience
        message = array("i", [number, model, len(batch), *map(len, batch)])
        for pair in batch:
            message.extend(pair)  # a copy of memory where the pair is such an array
        self._transport.write(frame(message.tobytes()))
        return future

    def _hung(self, future: asyncio.Future[list[float]]) -> None:
        _fail(future, WorkerDied("The model hung and is being replaced; try again shortly."))
        self.kill()

    def kill(self) -> None:
        if self._child:
            self._child.process.kill()

    async def stop(self) -> None:
        """End the child and wait for it."""
        self.kill()
        if self._child:
            await self.end()

    @property
    def pid(self) -> int | None:
        return self._child.process.pid if self._child else None

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
        logits = array("f", content).tolist() if kind == LOGITS else []
        future, patience = self._pending.pop(number)
        patience.cancel()
        if future.done():
            return
        if kind == LOGITS and math.isfinite(sum(logits)):
            future.set_result(logits)
        elif kind == LOGITS:
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
        assert self._child is not None
        (self._transport or self._child.connection).close()
        code = await asyncio.to_thread(_wait, self._child.process)
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Return the exit status of a child that hung up, or is to end."""
    try:
        return process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _fail(future: asyncio.Future[list[float]], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # a caller that has left must not leave a warning behind
