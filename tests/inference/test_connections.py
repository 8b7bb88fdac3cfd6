"""Clients that are slow, silent, half gone or many, at real sockets; and an end that resets nobody."""

from __future__ import annotations

import asyncio
import collections
import http.client
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from sagerank_inference import connections
from sagerank_inference.connections import DrainedResponse, Server, listen

from ..servers import BODY, running, wait_for

HEAD = b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
LONG = json.dumps({"query": "q", "documents": ["long " * 8000] * 8}).encode()


def request(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


class App:
    """Answers with what was sent, or with `large` bytes; counts who was there and who left."""

    def __init__(self) -> None:
        self.large = 0
        self.pause = 0.0
        self.seen = self.left = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            body, more = body + message["body"], message["more_body"]
        self.seen += 1
        if self.pause:
            gone = asyncio.ensure_future(receive())
            await asyncio.wait({gone}, timeout=self.pause)
            if gone.done():
                self.left += 1
                return
            gone.cancel()
        await DrainedResponse(bytes(self.large) or body)(scope, receive, send)


class Running:
    def __init__(self, app: App, server: Server, port: int) -> None:
        self.app, self.server, self.port = app, server, port

    @contextmanager
    def connected(self, data: bytes = b"") -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client:
            client.sendall(data)
            yield client


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """Our server before an application of the test's, with the patience of half a second."""
    monkeypatch.setattr(connections, "PATIENCE", 0.5)
    monkeypatch.setattr(connections, "_LEAST", 20_000)
    sockets = listen("127.0.0.1", 0)
    app = App()
    server = Server(app, drain_seconds=2)
    thread = threading.Thread(target=server.run, args=(sockets,))
    thread.start()
    wait_for(lambda: server.started)
    yield Running(app, server, sockets[0].getsockname()[1])
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def read_all(client: socket.socket) -> bytes:
    """What comes until the other side closes."""
    received = b""
    with suppress(ConnectionResetError):
        while part := client.recv(65_536):
            received += part
    return received


def test_a_head_or_a_body_that_does_not_come_is_given_up_on(served: Running) -> None:
    for data in (b"", b"POST /", HEAD, HEAD + b"Content-Length: 9\r\n\r\nabc"):
        began = time.monotonic()
        with served.connected(data) as client:
            answer = read_all(client) if data else b""
        if data:
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in answer
            assert time.monotonic() - began < 4
    assert served.app.seen == 0


def test_a_body_may_come_slowly_but_not_too_slowly(served: Running) -> None:
    body = b"x" * 200_000
    with served.connected(HEAD + b"Content-Length: %d\r\n\r\n" % len(body)) as client:
        for start in range(0, len(body), 10_000):  # 100 kB a second, of which 40 kB are asked
            client.sendall(body[start : start + 10_000])
            time.sleep(0.1)
        assert client.recv(12) == b"HTTP/1.1 200"
    with served.connected(HEAD + b"Content-Length: %d\r\n\r\n" % len(body)) as client:
        with suppress(OSError):
            for _ in range(40):
                client.sendall(b"x")
                time.sleep(0.1)
        with suppress(OSError):
            assert client.recv(12) == b"HTTP/1.1 408"
    assert served.app.seen == 1


def test_an_answer_that_nobody_reads_is_thrown_away(served: Running) -> None:
    served.app.large = 20_000_000
    with served.connected(request(b"{}")) as client:
        wait_for(lambda: served.app.seen == 1, 5)
        time.sleep(3)
        assert len(read_all(client)) < 20_000_000
    wait_for(lambda: not served.server.server_state.connections, 5)
    # Who reads, however slowly, gets all of it.
    with served.connected(request(b"{}")) as client:
        received = 0
        while received < 20_000_000:
            received += len(client.recv(200_000))
            time.sleep(0.002)


def test_chunks_of_a_byte_and_pipelined_requests_are_answered_in_order(served: Running) -> None:
    body = b"abcdefgh" * 200
    chunked = (
        HEAD
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        + b"0\r\n\r\n"
    )
    with served.connected(chunked + request(b"second") + request(b"third")) as client:
        answers = b""
        while not answers.endswith(b"third"):
            answers += client.recv(65_536)
    assert answers.index(body) < answers.index(b"second") < answers.index(b"third")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1_000,
        b"GET / HTTP/1.1\r\na: " + b"b" * 100_000,
    ],
)
def test_a_head_has_an_end(served: Running, head: bytes) -> None:
    with served.connected() as client:
        with suppress(OSError):
            client.sendall(head)
        assert client.recv(12) in (b"HTTP/1.1 431", b"HTTP/1.1 400")
    assert served.app.seen == 0


def test_at_the_limit_of_connections_the_longest_idle_makes_way(served: Running) -> None:
    served.server.server_state.most = 5
    idle = [socket.create_connection(("127.0.0.1", served.port), timeout=10) for _ in range(9)]
    try:
        with served.connected(request(b"here")) as client:
            assert client.recv(12) == b"HTTP/1.1 200"
        assert read_all(idle[0]) == b""
        idle[-1].sendall(request(b"here"))
        assert idle[-1].recv(12) == b"HTTP/1.1 200"
    finally:
        for one in idle:
            one.close()


def test_who_closed_one_side_is_answered_and_who_left_is_not_waited_for(served: Running) -> None:
    served.app.pause = 1.0
    with served.connected(request(b"half")) as client:
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"half")
    served.app.pause = 30.0
    with served.connected(request(b"gone")):
        wait_for(lambda: served.app.seen == 2, 5)
    began = time.monotonic()
    wait_for(lambda: served.app.left == 1, 5)
    assert time.monotonic() - began < 3


def test_the_real_server_answers_a_half_closed_client_and_drops_the_work_of_one_that_left() -> None:
    with running() as server:
        server.wait_until_ready()
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            client.sendall(request(BODY))
            client.shutdown(socket.SHUT_WR)
            answer = read_all(client)
        assert b"HTTP/1.1 200 OK" in answer
        assert b"relevance_score" in answer
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(request(LONG))
            wait_for(lambda: "sagerank_queued_tokens 0.0" not in server.call("GET", "/metrics")[1])
        wait_for(lambda: "sagerank_queued_tokens 0.0" in server.call("GET", "/metrics")[1], 4)
        assert 499 in [entry.get("status") for entry in server.stop()]


def test_clients_that_leave_in_any_phase_leave_no_trace_in_the_log() -> None:
    echo = json.dumps(
        {"query": "q", "documents": ["word " * 400 + str(number) for number in range(30)]}
    ).encode()

    def come_and_go(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(40):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                data = request(chance.choice((BODY, echo))) * chance.choice((1, 1, 3))
                client.sendall(data[: chance.choice((len(data), chance.randrange(len(data))))])
                client.settimeout(chance.random() / 10 + 0.001)
                with suppress(OSError):
                    client.recv(100)
                match chance.randrange(3):
                    case 0:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    case 1:
                        with suppress(OSError):
                            client.shutdown(socket.SHUT_WR)

    with running() as server:
        server.wait_until_ready()
        threads = [threading.Thread(target=come_and_go, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.post()[0] == 200
        log = server.stop()
        assert server.process.returncode == 0
    assert {entry["event"] for entry in log} == {"ready", "request"}
    assert {entry["status"] for entry in log if entry["event"] == "request"} <= {200, 499}


@pytest.mark.parametrize("round", range(3))
def test_what_was_accepted_before_sigterm_is_answered(round: int) -> None:
    """On kept and new connections, and on those that were made and have not been used."""
    seen = collections.Counter[str]()

    def call(kind: int) -> None:
        connection: http.client.HTTPConnection | None = None
        while True:
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
                    connection.connect()
                    time.sleep(0.005 * kind)
                connection.request("POST", "/invocations", BODY, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                seen[str(answer.status)] += 1
                if kind % 2 or answer.getheader("connection") == "close":
                    connection.close()
                    connection = None
            except ConnectionRefusedError:
                return
            except (OSError, http.client.HTTPException) as error:
                seen[type(error).__name__] += 1
                connection = None

    with running() as server:
        server.wait_until_ready()
        threads = [threading.Thread(target=call, args=(kind,)) for kind in range(12)]
        for thread in threads:
            thread.start()
        time.sleep(0.5 + 0.1 * round)
        began = time.monotonic()
        server.stop()
        assert server.process.returncode == 0
        assert time.monotonic() - began < 10
        for thread in threads:
            thread.join()
    assert set(seen) == {"200"}
    assert seen["200"] > 100


def test_half_a_request_does_not_hold_up_the_end() -> None:
    with running() as server:
        server.wait_until_ready()
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=20) as half,
            socket.create_connection(("127.0.0.1", server.port), timeout=20) as idle,
        ):
            half.sendall(HEAD + b"Content-Length: 9\r\n\r\n{")
            began = time.monotonic()
            server.stop()
            assert time.monotonic() - began < 10
            assert server.process.returncode == 0
            assert read_all(half).startswith(b"HTTP/1.1 503 ")
            assert read_all(idle) == b""


def test_ping_says_that_the_server_drains() -> None:
    with running() as server:
        server.wait_until_ready()
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            client.sendall(request(LONG))
            wait_for(lambda: "sagerank_queued_tokens 0.0" not in server.call("GET", "/metrics")[1])
            server.process.terminate()
            seen: list[tuple[int, Any]] = []
            with suppress(OSError):
                while not seen or seen[-1][0] == 200:
                    seen.append(server.call("GET", "/ping")[:2])
            assert seen[-1] == (503, {"status": "draining", "model": "sagerank-micro"})
            assert b" 200 OK" in client.recv(20)
        server.process.communicate(timeout=30)
