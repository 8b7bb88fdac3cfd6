"""Clients that are slow, rude or gone, over real sockets: before a small application, and before the real server."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sagerank_inference import connections
from sagerank_inference.connections import DrainedResponse, Server
from sagerank_inference.listening import listen

from ..servers import BODY, running, wait_for

LARGE = 8_000_000
PING = b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"
WAIT = b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"


class Front:
    """The server under test, in a thread, before an application that shows what it got."""

    def __init__(self, *, drain_seconds: float = 10) -> None:
        self.released = threading.Event()
        self.ended: list[str] = []
        routes = [
            Route("/ping", self._ping),
            Route("/wait", self._wait, methods=["GET", "POST"]),
            Route("/parts", self._parts, methods=["POST"]),
            Route("/refuse", self._refuse, methods=["POST"]),
            Route("/large", self._large),
        ]
        self.sockets = listen("127.0.0.1", 0)
        self.port = self.sockets[0].getsockname()[1]
        self.server = Server(Starlette(routes=routes), drain_seconds=drain_seconds)
        self.state = self.server.server_state
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(self.sockets)))
        self.thread.start()
        wait_for(lambda: self.server.started)

    async def _ping(self, request: Request) -> Response:
        return Response(b"draining" if request.scope["state"].get("draining") else b"pong")

    async def _wait(self, request: Request) -> Response:
        """Answer when the test says so, or end when the client leaves."""
        await request.body()
        while not self.released.is_set():
            try:
                message = await asyncio.wait_for(request.receive(), 0.02)
            except TimeoutError:
                continue
            if message["type"] == "http.disconnect":
                self.ended.append("left")
                return Response(status_code=499)
        self.ended.append("answered")
        return Response(b"waited")

    async def _parts(self, request: Request) -> Response:
        """Answer with the size of the body, and of the largest part in which it came."""
        try:
            parts = [len(part) async for part in request.stream()]
        except ClientDisconnect:
            return Response(status_code=499)
        return Response(f"{sum(parts)} {max(parts)}")

    async def _refuse(self, _request: Request) -> Response:
        return Response(b"refused", 413)

    async def _large(self, _request: Request) -> Response:
        return DrainedResponse(b"x" * LARGE)

    def connect(self, sent: bytes = b"", *, buffer: int = 0) -> socket.socket:
        client = socket.socket()
        client.settimeout(20)
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        try:
            client.connect(("127.0.0.1", self.port))
            client.sendall(sent)
        except OSError:
            client.close()
            raise
        return client

    def answers(self, sent: bytes, *, half_close: bool = False) -> bytes:
        """All that comes back until the server closes."""
        with self.connect(sent) as client:
            if half_close:
                client.shutdown(socket.SHUT_WR)
            return everything(client)

    def stop(self) -> float:
        """Have it drain, as a signal does, and return the seconds that took."""
        began = time.monotonic()
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()
        return time.monotonic() - began


def everything(client: socket.socket) -> bytes:
    received = bytearray()
    while part := client.recv(1 << 16):
        received += part
    return bytes(received)


def post(path: str, body: bytes = b"", headers: bytes = b"") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n".encode()
    return head + headers + b"\r\n" + body


def chunked(*chunks: bytes, path: str = "/parts", headers: bytes = b"") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n".encode() + headers
    return head + b"\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


@pytest.fixture
def front() -> Iterator[Front]:
    front = Front()
    yield front
    front.released.set()
    front.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds in place of minutes."""
    monkeypatch.setattr(connections, "PATIENCE", 1.0)
    monkeypatch.setattr(connections, "_LEAST", 20_000)
    monkeypatch.setattr(connections, "IDLE", 2.0)


def test_slow_clients_are_given_up_on_and_steady_ones_are_not(
    impatient: None, front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    started = post("/parts", b"x" * 100)[:-1]
    silent = {
        "nothing": (front.connect(), b""),
        "line ends": (front.connect(b"\r\n" * 50), b""),
        "half a head": (front.connect(PING[:20]), b"HTTP/1.1 408 "),
        "half a body": (front.connect(started), b"HTTP/1.1 408 "),
        "half a chunk": (front.connect(chunked(b"one")), b"HTTP/1.1 408 "),
        "kept alive": (front.connect(PING), b"HTTP/1.1 200 "),
        "refused before its body came": (front.connect(post("/refuse", b"x" * 100)[:-1]), b"HTTP/1.1 413 "),
    }
    deaf = front.connect(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n", buffer=1 << 16)
    reader = front.connect(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n", buffer=1 << 16)
    writer = front.connect(post("/parts", b"x" * 120_000)[:-120_000])
    with closing(deaf), closing(reader), closing(writer):
        wait_for(lambda: len(front.state.connections) == 10)
        # What waits for a client that does not read is a piece or two of its answer.
        largest = max(each.transport.get_write_buffer_size() for each in front.state.connections)
        assert 0 < largest < 300_000
        read = 0
        for _ in range(30):
            writer.sendall(b"x" * 4000)
            read += len(reader.recv(20_000, socket.MSG_WAITALL))
            time.sleep(0.1)
        assert writer.recv(1000).startswith(b"HTTP/1.1 200 ")
        while read < LARGE:
            assert (part := reader.recv(1 << 16))
            read += len(part)
        for name, (client, expected) in silent.items():
            with client:
                answer = everything(client)
            assert answer.startswith(expected), name
            assert bool(answer) == bool(expected), name
        wait_for(lambda: len(front.state.connections) <= 2)
    lines = [json.loads(record.message) for record in caplog.records if record.name == "sagerank"]
    assert sum(line["slow"] for line in lines) >= 4
    wait_for(lambda: not front.state.connections and not front.state.waiting)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01 no HTTP\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (post("/parts", b"abc", b"Transfer-Encoding: chunked\r\n"), 400),
        (chunked() + b"x\r\n", 400),
        (b"GET /ping HTTP/1.1\r\n" + b"a: b\r\n" * 300, 431),
        (b"GET /ping HTTP/1.1\r\na: " + b"b" * 1_000_000, 431),
        (b"GET /" + b"b" * 1_000_000, 431),
        (chunked(b"abc") + b"0\r\na: " + b"b" * 1_000_000, 431),
        (chunked(b"abc") + b"3;" + b"b" * 1_000_000, 431),
    ],
)
def test_what_is_no_request_or_has_no_end_is_refused(front: Front, sent: bytes, status: int) -> None:
    answer = front.answers(sent)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"\r\nconnection: close\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["detail"]["message"]


def test_a_body_of_tiny_chunks_is_read_by_small_parts(front: Front) -> None:
    """A read of 64 KiB would be 11,000 chunks, and a call into Python for each of them."""
    body = chunked(*[b"x"] * 50_000, headers=b"Connection: close\r\n") + b"0\r\nSome: trailer\r\n\r\n"
    size, largest = map(int, front.answers(body).partition(b"\r\n\r\n")[2].split())
    assert size == 50_000
    assert largest < 4096  # 64 KiB at once would be 11,000


def test_an_upgrade_is_declined_and_the_body_read(front: Front) -> None:
    """Java's own client asks for HTTP/2 beside its body."""
    upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    requests = post("/parts", b"abc", upgrade) + chunked(b"abcd", headers=upgrade) + b"0\r\n\r\n"
    requests += PING[:-2] + upgrade + b"\r\n" + post("/parts", b"ab", b"Connection: close\r\n")
    for split in (len(requests), 7):
        with front.connect() as client:
            for start in range(0, len(requests), split):
                client.sendall(requests[start : start + split])
                time.sleep(0.001)
            answers = everything(client)
        bodies = [part.partition(b"\r\n\r\n")[2] for part in answers.split(b"HTTP/1.1 200 OK")[1:]]
        assert bodies == [b"3 3", b"4 4", b"pong", b"2 2"]


def test_requests_in_a_row_are_answered_and_their_number_is_bounded(front: Front) -> None:
    assert front.answers(PING * 5 + PING[:-2] + b"Connection: close\r\n\r\n").count(b"200 OK") == 6
    # Garbage behind a request does not spoil its answer.
    threading.Timer(0.2, front.released.set).start()
    answer = front.answers(WAIT + b"\x00garbage" * 20)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"waited")
    front.released.clear()
    with front.connect(WAIT + PING * 1000) as client:
        wait_for(lambda: any(len(each.pipeline) for each in front.state.connections))
        assert max(len(each.pipeline) for each in front.state.connections) <= 8
        front.released.set()
        answer = everything(client)
    assert answer.count(b"200 OK") == 9
    assert answer.count(b"connection: close") == 1


def test_an_early_refusal_arrives_though_the_body_is_still_sent(front: Front) -> None:
    """An answer in front of unread bytes would end as a reset."""
    for headers in (b"", b"Connection: close\r\n"):
        with front.connect(post("/refuse", b"x" * 3_000_000, headers)) as client:
            client.shutdown(socket.SHUT_WR) if headers else client.sendall(
                PING[:-2] + b"Connection: close\r\n\r\n"
            )
            answers = everything(client)
            assert answers.startswith(b"HTTP/1.1 413 ")
            assert (b"HTTP/1.1 200 OK" in answers) == (not headers)


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_client_that_closes_its_own_side_gets_its_answer(front: Front, version: bytes) -> None:
    threading.Timer(0.4, front.released.set).start()
    answer = front.answers(WAIT.replace(b"1.1", version), half_close=True)
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" if version == b"1.1" else b""
    assert answer.startswith(interim + b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"waited")
    assert front.ended == ["answered"]


def test_common_clients_take_the_interim_answer(front: Front) -> None:
    threading.Timer(0.3, front.released.set).start()
    client = http.client.HTTPConnection("127.0.0.1", front.port, timeout=20)
    with closing(client):
        client.request("POST", "/wait", b"body")
        client.sock.shutdown(socket.SHUT_WR)
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (200, b"waited")


@pytest.mark.parametrize("how", ["close", "reset", "half a body"])
def test_a_client_that_left_has_its_work_ended(front: Front, how: str) -> None:
    client = front.connect(post("/wait", b"x" * 100)[:-50] if how == "half a body" else WAIT)
    wait_for(lambda: bool(front.state.tasks))
    time.sleep(0.1)
    if how == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    wait_for(lambda: not front.state.tasks, 2)
    assert front.ended == (["left"] if how != "half a body" else [])
    assert not front.state.connections


def test_at_the_limit_the_longest_idle_makes_room(front: Front) -> None:
    front.state.most = 4
    busy = front.connect(WAIT)
    wait_for(lambda: bool(front.state.tasks))
    idle = [front.connect() for _ in range(3)]
    wait_for(lambda: len(front.state.connections) == 4)
    with front.connect(PING) as newest:
        assert newest.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert idle[0].recv(1) == b""
    front.released.set()
    assert busy.recv(1000).startswith(b"HTTP/1.1 200 ")
    for client in (busy, *idle):
        client.close()


def test_descriptors_are_raised_and_some_kept() -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))

    code = "import resource, sagerank_inference.connections as c; print(c._connections(), *resource.getrlimit(7))"
    output = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=limited, check=True, capture_output=True, text=True
    ).stdout
    assert output.split() == ["384", "512", "512"]


def test_draining_answers_all_that_was_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_HALF_SENT", 1.5)
    front = Front()
    idle, busy, half = front.connect(PING), front.connect(WAIT), front.connect(PING[:20])
    assert idle.recv(1000)
    wait_for(lambda: bool(front.state.tasks))
    stopping = threading.Thread(target=front.stop)
    stopping.start()
    wait_for(lambda: front.state.draining)
    new = front.connect()
    for client in (idle, new):
        client.sendall(PING)
        answer = everything(client)
        assert b"\r\nconnection: close\r\n" in answer
        assert answer.endswith(b"draining")
    silent = front.connect()
    assert everything(silent) == b""
    assert everything(half).startswith(b"HTTP/1.1 503 ")
    with pytest.raises(ConnectionRefusedError):
        front.connect()
    front.released.set()
    answer = everything(busy)
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"waited")
    stopping.join(20)
    for client in (idle, new, busy, half, silent):
        client.close()


def test_what_does_not_end_in_the_time_to_drain_is_told(caplog: pytest.LogCaptureFixture) -> None:
    front = Front(drain_seconds=0.3)
    with front.connect(WAIT) as client:
        wait_for(lambda: bool(front.state.tasks))
        assert front.stop() < 5
        assert everything(client).startswith(b"HTTP/1.1 503 ")
    assert front.ended == ["left"]
    assert not caplog.records


@pytest.mark.skipif(sys.platform != "linux", reason="a filter of Linux's")
@pytest.mark.skipif(sys.platform != "linux", reason="Linux's own")
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
@pytest.mark.parametrize(
    ("host", "client"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("*", "127.0.0.1"), ("*", "::1")]
)
def test_a_listener_about_to_close_makes_no_connection_but_keeps_its_own(host: str, client: str) -> None:
    (listening,) = listen(host, 0)
    address = client, listening.getsockname()[1]
    with listening, socket.create_connection(address) as before:
        connections._take_hops(listening, 255)
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.3)
        before.sendall(b"hello")
        with listening.accept()[0] as accepted:
            connections._take_hops(accepted, 0)
            assert accepted.recv(10) == b"hello"


def test_sigterm_under_load_resets_nobody_and_who_leaves_shows_nowhere_in_the_log() -> None:
    seen: list[str] = []
    with running() as server:
        server.wait_until_ready()

        def rude(number: int) -> None:
            sent = post("/invocations", BODY, b"Content-Type: application/json\r\n") * (1 + number % 2)
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(sent[: len(sent) - number * 37 % 200])
                time.sleep(number % 3 / 100)
                if number % 4 == 0:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if number % 4 == 1:
                    client.shutdown(socket.SHUT_WR)

        def polite(keep: bool) -> None:
            client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            with closing(client):
                while True:
                    try:
                        client.connect() if client.sock is None else None
                    except ConnectionRefusedError:
                        return
                    try:
                        client.request("GET", "/ping")
                        answer = client.getresponse()
                        answer.read()
                        seen.append(f"{answer.status}")
                        if not keep or answer.getheader("connection") == "close":
                            client.close()
                    except (OSError, http.client.HTTPException) as error:
                        seen.append(repr(error))
                        client.close()

        for number in range(60):
            rude(number)
        clients = [threading.Thread(target=polite, args=(number % 2 == 0,)) for number in range(8)]
        for client in clients:
            client.start()
        wait_for(lambda: len(seen) > 200)
        lines = server.stop()
        for client in clients:
            client.join()
        assert server.process.returncode == 0
    assert set(seen) <= {"200", "503"}
    assert {(line["event"], line["level"]) for line in lines} == {("ready", "info"), ("request", "info")}


def test_a_second_signal_ends_at_once() -> None:
    with running() as server:
        server.wait_until_ready()
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(PING[:20])
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert server.process.poll() is None  # it waits for the rest
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(2) == 128 + signal.SIGTERM


def test_at_the_limit_of_descriptors_ping_is_answered_and_the_worker_replaced() -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))

    with running(process={"preexec_fn": limited}) as server:
        server.wait_until_ready()
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(400)]
        assert server.ping() == 200
        os.kill(server.worker(), signal.SIGKILL)
        wait_for(lambda: server.ping() == 503)
        server.wait_until_ready()
        assert server.post()[0] == 200
        for client in clients:
            client.close()
        lines = [line for line in server.stop() if line["event"] == "connections"]
    assert sum(line["evicted"] for line in lines) > 200
    assert len(lines) < 10


def test_ping_says_that_the_server_drains() -> None:
    body = json.dumps({"query": "q", "documents": ["long " * 8000] * 8}).encode()
    with running() as server:
        server.wait_until_ready()
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            client.sendall(
                b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            wait_for(lambda: "sagerank_queued_tokens 0.0" not in server.call("GET", "/metrics")[1])
            server.process.terminate()
            seen: list[tuple[int, Any]] = []
            with suppress(OSError):
                while not seen or seen[-1][0] == 200:
                    seen.append(server.call("GET", "/ping")[:2])
            assert seen[-1] == (503, {"status": "draining", "model": "sagerank-micro"})
            assert b" 200 OK" in client.recv(20)
        server.process.communicate(timeout=30)


def test_many_that_leave_when_they_are_given_up_on_end_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer to who has left fails in many ways, and all are checked in one turn."""
    monkeypatch.setattr(connections, "PATIENCE", 0.5)
    front = Front()
    try:
        clients = [socket.create_connection(("127.0.0.1", front.port)) for _ in range(100)]
        for client in clients:
            client.sendall(b"POST /parts HTTP/1.1\r\n")
        clients[0].settimeout(10)
        assert clients[0].recv(12) == b"HTTP/1.1 408"
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        time.sleep(0.5)
        assert front.thread.is_alive()
        with socket.create_connection(("127.0.0.1", front.port), timeout=5) as client:
            client.sendall(PING)
            assert client.recv(12) == b"HTTP/1.1 200"
    finally:
        front.server.should_exit = True
        front.thread.join(20)
