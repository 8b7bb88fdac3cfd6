"""What a client may ask of a connection: how long it may be silent, how much it may send, how slowly it may read.

uvicorn's HTTP protocol and server, with bounds on all that a client decides, and an end without a reset connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import select
import socket
import sys
import time
from types import FrameType
from typing import Any

import httptools
import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from .process import end_within

# A client is given up on that has a request's head not sent, or moves fewer bytes of a body or an answer, in so long.
PATIENCE = 10.0
_LEAST = 16_384 * int(PATIENCE)
# An idle connection stays this long: SageMaker keeps them between invocations, and a close in between is an error for it.
IDLE = 75.0
# To take what a client still sends after an answer that ends the connection: unread, it would turn the answer into a reset.
_LINGER = 2.0

_HEAD_BYTES = 16_384
_HEADERS = 256
_PIPELINED = 8
_PIECE = 65_536

# When told to stop: so long new connections and requests are still taken, and half-sent ones waited for.
_GRACE = 1.0
_HALF_SENT = 5.0

# After the drain, for the worker's end and the log.
_SLACK = 3.0

_CONNECTIONS = 8_192
# File descriptors for the log, the model's files and a new worker, and for connections accepted in one turn of the loop.
_RESERVE = 128
_ACCEPTED_AT_ONCE = 16
_BACKLOG = 2_048
# IP_MINTTL and IPV6_MINHOPCOUNT of Linux, which Python does not name.
_LEAST_HOPS = ((socket.IPPROTO_IP, 21), (socket.IPPROTO_IPV6, 73))

# All connections read into one buffer, which the parser empties before the next reads. Chunks can be of one byte, each a call
# into Python, so of a chunked body less is read in one turn of the loop.
_BUFFER = memoryview(bytearray(65_536))
_HEAD, _CHUNKS = _BUFFER[:16_384], _BUFFER[:4_096]

_FRAMING = (b"content-length", b"transfer-encoding")

log = logging.getLogger("sagerank")


class State(ServerState):
    """What the connections of a server share."""

    connections: set[Connection]  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        # Seconds in which the loop ran: one that was held up has not been kept waiting by its clients.
        self.clock = 0.0
        self.draining = False
        self.most = _CONNECTIONS
        # Connections without a whole request to answer, the longest without first.
        self.waiting: dict[Connection, None] = {}
        # Since the last line about it in the log.
        self.slow = self.evicted = self.not_accepted = 0


class _Fault(Exception):
    """Tells the parser to stop."""


class Connection(HttpToolsProtocol, asyncio.BufferedProtocol):
    """One client's connection, for uvicorn. It stands between uvicorn's requests and the transport as well."""

    server_state: State

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        # uvicorn's `cycle` is the request that came last, this is the one that is answered.
        self._running: RequestResponseCycle | None = None
        self._phase = "idle"  # of what comes: idle, head or body
        self._space = _HEAD
        self._since = self.server_state.clock  # in this phase, or the last PATIENCE of it
        self._arrived = self._counted = 0  # bytes of the body; and up to _since
        self._overhead = 0  # bytes of head and trailers
        self._fault = (400, "")
        self._upgrading = False  # between the head and the body of a request that has an Upgrade header
        self._written = 0
        # When the client was last seen to take bytes, and how many it had.
        self._unread: tuple[float, int] | None = None
        self._deaf = False  # what comes is thrown away
        self._half_closed = False
        self._until: float | None = None  # when it is closed in any case

    # The transport's side.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        state = self.server_state
        state.waiting[self] = None
        if state.draining:
            _take_hops(transport.get_extra_info("socket"), 0)
        if len(self.connections) > state.most:
            # The newcomer itself where every other is being answered.
            longest = next(iter(state.waiting))
            del state.waiting[longest]
            state.evicted += 1
            longest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        running = self._running
        if running and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        self.server_state.waiting.pop(self, None)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self.pipeline.clear()
        # They hold this connection: without the circle the memory is free at once.
        self.cycle = self._running = None  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._space

    def buffer_updated(self, nbytes: int) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        arrived = self._arrived
        try:
            self._parse(_BUFFER[:nbytes])
        except httptools.HttpParserError:
            self._stop_reading()
            return
        cycle = self.cycle
        if self._arrived == arrived:
            self._overhead += nbytes
            if self._overhead > _HEAD_BYTES and self._phase != "idle":
                self._fault = (431, f"A request's head may have {_HEAD_BYTES} bytes, and its trailers too.")
                self._stop_reading()
        elif cycle.response_complete:
            cycle.body.clear()
        else:
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def _parse(self, data: memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # HTTP/1.1 goes on, as the client has to expect; but the parser has taken the body for another protocol's.
            if self._upgrading:
                self.parser = httptools.HttpRequestParser(self)
                framing = [b"%s: %s\r\n" % header for header in self.headers if header[0] in _FRAMING]
                self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(framing))
                self._upgrading = False
            if rest := data[upgrade.args[0] :]:
                self._parse(rest)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open where a request is to be answered: its client may have closed its own side only."""
        running = self._running
        if self._until is not None or not running or not self._answering or self.cycle.more_body:
            return False
        self._half_closed = True
        self.cycle.keep_alive = False
        if not running.response_started and running.scope["http_version"] != "1.0":
            # Or it has left, which looks the same until something is sent: then its system answers with a reset. An
            # interim answer is what every client of HTTP/1.1 has to be ready for.
            self.write(STATUS_LINE[100] + b"\r\n")
            self.loop.call_later(0.1, self._look_for_reset)
        return True

    def _look_for_reset(self) -> None:
        # asyncio watches a connection no longer from which nothing can come.
        if not self.transport.is_closing():
            transport_socket = self.transport.get_extra_info("socket")
            if transport_socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.transport.abort()

    # The parser's side.

    def on_message_begin(self) -> None:
        if self._upgrading:
            return
        if len(self.pipeline) >= _PIPELINED:
            raise _Fault
        super().on_message_begin()
        self._enter("head")
        self._overhead = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase == "head":  # a trailer says nothing to us
            if len(self.headers) >= _HEADERS:
                self._fault = (431, f"A request may have {_HEADERS} headers.")
                raise _Fault
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._upgrading:
            return
        super().on_headers_complete()
        self.cycle.transport = self  # type: ignore[assignment]
        if self.server_state.draining:
            self.cycle.keep_alive = False
        self._enter("body")
        framing = {name: value for name, value in self.headers if name in _FRAMING}
        self._space = _CHUNKS if b"transfer-encoding" in framing else _BUFFER
        if self.parser.should_upgrade():
            size = framing.get(b"transfer-encoding") or framing.get(b"content-length", b"0")
            self._upgrading = size.strip(b"0") != b""

    def on_body(self, body: bytes) -> None:
        # Once for each chunk, so nothing else is done here.
        self.cycle.body += body
        self._arrived += len(body)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        super().on_message_complete()
        self._enter("idle")
        if self.cycle.response_complete:
            self._until = None
        else:
            self.server_state.waiting.pop(self, None)

    def _enter(self, phase: str) -> None:
        self._phase, self._space, self._since = phase, _HEAD, self.server_state.clock
        self._arrived = self._counted = 0

    def _stop_reading(self) -> None:
        """Refuse what came last; where requests before it are still to be answered, answer them and close."""
        if self._phase == "body" and self.pipeline:
            self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else self._running
        if last and self._phase == "body" and last.response_complete:  # answered before it was whole
            self._linger()
            return
        if last and self._answering and not last.more_body:
            last.keep_alive, self._deaf = False, True
        else:
            status, message = self._fault
            self.refuse(status, message or "This is no HTTP/1.1 request.")

    # The application's side: uvicorn's requests take the connection for the transport.

    def write(self, data: bytes | memoryview) -> None:
        self._written += len(data)
        self.transport.write(data)

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def close(self) -> None:
        self.pipeline.clear()
        if self._deaf or self._phase != "idle":
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        if self._half_closed:
            self.transport.close()
        else:
            self._deaf, self._until = True, self.server_state.clock + _LINGER
            self.flow.resume_reading()
            try:
                self.transport.write_eof()
            except OSError:  # the client has left already
                self.transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        state = self.server_state
        if not self.pipeline:
            state.waiting.pop(self, None)
            state.waiting[self] = None
            if self._phase == "idle":
                self._since = state.clock
            elif self._until is None and self._running is self.cycle:
                self._until = state.clock + PATIENCE  # for the rest of a body that nobody reads
        super().on_response_complete()

    # The server's side.

    @property
    def _answering(self) -> bool:
        running = self._running
        return running is not None and not (running.response_complete or running.disconnected)

    def refuse(self, status: int, message: str) -> None:
        """Answer in place of the application, and close."""
        running = self._running
        if running and self._answering:
            running.disconnected = True
            running.message_event.set()
            if running.response_started:
                self.transport.abort()
                return
        body = json.dumps({"detail": {"message": message}}).encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(
            body
        )
        self.write(STATUS_LINE[status] + head + body)
        self._linger()

    def check(self) -> None:
        """Give up on a client that keeps the connection waiting. Called once a second."""
        state, transport = self.server_state, self.transport
        now = state.clock
        unsent = transport.get_write_buffer_size()
        if not unsent:
            self._unread = None
        elif self._unread is None:
            self._unread = now, self._written - unsent
        elif now - self._unread[0] >= PATIENCE:
            taken = self._written - unsent
            if taken - self._unread[1] < _LEAST:
                state.slow += 1
                transport.abort()
                return
            self._unread = now, taken
        if transport.is_closing():
            return
        if self._until is not None:
            if now >= self._until:
                transport.abort()
        elif self._half_closed:
            self._look_for_reset()
        elif self in state.waiting:
            self._check_waiting(now)

    def _check_waiting(self, now: float) -> None:
        if self._phase == "idle":
            if now - self._since >= IDLE:
                self.transport.close()
        elif self.flow.read_paused:  # it is the application that does not read
            self._since, self._counted = now, self._arrived
        elif now - self._since >= PATIENCE:
            if self._arrived - self._counted >= _LEAST:
                self._since, self._counted = now, self._arrived
            else:
                self.server_state.slow += 1
                self.refuse(
                    408, f"The request did not come within {PATIENCE:.0f} seconds, or came too slowly."
                )

    def shutdown(self) -> None:
        """Let the answer that is under way say that it is the last."""
        if self._answering:
            self.cycle.keep_alive = False

    def check_draining(self, began: float) -> None:
        """Close if nothing is to be answered, and has not been for a while since the server was told to stop."""
        now = self.server_state.clock
        if self not in self.server_state.waiting or self._until is not None or self.transport.is_closing():
            return
        if self._phase == "idle":
            if now - max(self._since, began) >= _GRACE and not self._something_came():
                self.transport.close()
        elif now - began >= _HALF_SENT:
            self.refuse(503, "The server is stopping.")

    def _something_came(self) -> bool:
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))


class DrainedResponse(Response):
    """A response that is written as fast as its client reads: while it does not, no copy of the whole body is made."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self.body) <= _PIECE:
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = memoryview(self.body)
        for start in range(0, len(body), _PIECE):
            more = start + _PIECE < len(body)
            await send(
                {"type": "http.response.body", "body": body[start : start + _PIECE], "more_body": more}
            )


class Server(uvicorn.Server):
    """uvicorn's server that watches over its connections, and answers all that it accepted before it ends."""

    server_state: State

    def __init__(self, app: ASGIApp, *, drain_seconds: float) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=_ACCEPTED_AT_ONCE,
            timeout_keep_alive=int(IDLE),
        )
        super().__init__(config)
        self._drain_seconds = drain_seconds
        self.server_state = State()
        self._looked = time.monotonic()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.server_state.most = _connections()
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        await super().startup(sockets)
        # asyncio takes one number for both: what the system keeps, and how many are accepted in one turn of its loop.
        for listening in sockets or []:
            listening.listen(_BACKLOG)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), OSError) and "accept" in context["message"]:
            self.server_state.not_accepted += 1
        else:
            loop.default_exception_handler(context)

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._look()
            self._report()
        return await super().on_tick(counter)

    def _look(self) -> None:
        state, now = self.server_state, time.monotonic()
        state.clock += min(now - self._looked, 2.0)
        self._looked = now
        for connection in list(state.connections):
            try:
                connection.check()
            except OSError:  # one connection does not end all others
                connection.transport.abort()

    def _report(self) -> None:
        state = self.server_state
        if state.slow or state.evicted or state.not_accepted:
            counts = {"slow": state.slow, "evicted": state.evicted, "not_accepted": state.not_accepted}
            log.warning(json.dumps({"event": "connections", "open": len(state.connections), **counts}))
            state.slow = state.evicted = state.not_accepted = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Drain on the first signal, end on the second."""
        if self.should_exit:
            os._exit(128 + sig)
        self.stop(self._drain_seconds, exit_code=1)

    def stop(self, drain_seconds: float, *, exit_code: int) -> None:
        """Drain and end, with that code where something hangs beyond it."""
        self._drain_seconds, self.should_exit = drain_seconds, True
        end_within(drain_seconds + _SLACK, exit_code)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was accepted, and tell every client that the connection ends, before it does."""
        state, listening = self.server_state, list(sockets or [])
        state.draining = True
        self.lifespan.state["draining"] = True  # each request's `state`
        for connection in list(state.connections):
            connection.shutdown()
        self._look()
        began = state.clock
        while state.connections or state.tasks or listening:
            waited = state.clock - began
            if waited >= self._drain_seconds:
                break
            if listening and (waited >= _GRACE or not state.connections):
                await self._stop_listening(listening)
                listening = []
            for connection in list(state.connections):
                connection.check_draining(began)
            await asyncio.sleep(0.05)
            self._look()
        await self._stop_listening(listening)
        await self._give_up()
        self._report()
        await self.lifespan.shutdown()

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        accepted: list[socket.socket] = []
        if sockets:
            for listening in sockets:
                _take_hops(listening, 255)
            await asyncio.sleep(0.05)  # handshakes that have begun
        for listening in sockets:
            # What the system has accepted for us would be reset with the socket that listens.
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(listening.accept()[0])
        for server in self.servers if sockets else []:
            server.close()
        for connection in accepted:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(self._connection, connection)

    def _connection(self) -> Connection:
        return Connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def _give_up(self) -> None:
        """Answer what is left with 503, and end what does not end by itself."""
        state = self.server_state
        for connection in list(state.connections):
            if not connection.transport.is_closing():
                connection.refuse(503, "The server is stopping.")
        for _ in range(20):
            if not state.connections and not state.tasks:
                break
            await asyncio.sleep(0.05)
            self._look()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in state.tasks:
            task.cancel()


def _connections() -> int:
    """Allow as many file descriptors as are of use, and return how many connections may be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _CONNECTIONS + _RESERVE
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft == resource.RLIM_INFINITY:
        return _CONNECTIONS
    return max(min(_CONNECTIONS, soft - _RESERVE), soft // 4)


def _take_hops(connection: socket.socket, least: int) -> None:
    """Have Linux ignore packets that may not go on for so many hops, which senders set to 64 or 128.

    With 255 a socket that listens takes no new connection, and still completes a handshake that has begun. One made in the instant
    before it closes would be reset; so its client asks again in a second, and is refused, or is answered by the server that follows.
    Unlike a packet filter, this needs no privilege anywhere. The connections inherit it: with 0 they take all again, what they
    missed too, which is sent again.
    """
    if sys.platform == "linux":
        for level, option in _LEAST_HOPS:
            with contextlib.suppress(OSError):  # a socket is of one of the two
                connection.setsockopt(level, option, least)
