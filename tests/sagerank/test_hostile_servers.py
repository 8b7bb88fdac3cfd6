"""The client against servers that mean it harm, or are broken: real sockets that send whatever bytes a test says."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import gzip
import ipaddress
import itertools
import json
import logging
import os
import socket
import ssl
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sagerank import AsyncRerankClient, RerankClient
from sagerank.cli import main
from sagerank.client import Retry, Split
from sagerank.errors import (
    AccessDenied,
    BadAnswer,
    DeadlineExceeded,
    EndpointNotFound,
    InvalidRequest,
    Overloaded,
    RerankError,
    Unavailable,
)
from sagerank.transport import HttpTransport

from ..conftest import run_python
from ..servers import running, wait_for

ONCE = Retry(tries=1)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SECRET = "hunter2-token"
BASIC = base64.b64encode(f"user:{SECRET}".encode()).decode()
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
Play = Callable[[], Iterable[bytes]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the machine's proxies and certificates, nor its AWS account."""
    for name in (*NAMES, *map(str.lower, NAMES), "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")


def answer(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def ranking(*scores: str) -> bytes:
    results = ",".join(f'{{"index":{n},"relevance_score":{score}}}' for n, score in enumerate(scores))
    return b'{"model":"m","usage":{"total_tokens":1},"results":[' + results.encode() + b"]}"


GOOD = answer(ranking("0.5"))


class Hostile:
    """Reads a request on each connection and sends what `play` yields, or is, for as long as the client takes it."""

    def __init__(
        self,
        play: Play | bytes,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        hangs_up: bool = False,
    ) -> None:
        self.play, self.tls, self.hangs_up = play, tls, hangs_up
        self.heads: list[str] = []
        self._lock = threading.Lock()
        self.sent = 0
        self.open = 0
        self.reads = True
        self.linger = b""
        self._ends: list[socket.socket] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=100)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._ends.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self.open += 1
        try:
            if self.linger:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, self.linger)
            if self.reads:
                connection = self._listen(connection)
                for part in [self.play] if isinstance(self.play, bytes) else self.play():
                    connection.sendall(part)
                    self.sent += len(part)
            while not self.hangs_up and connection.recv(65_536):  # until the client goes
                pass
        except OSError:
            pass
        finally:
            connection.close()
            with self._lock:
                self.open -= 1

    def _listen(self, connection: socket.socket) -> socket.socket:
        """Read a request, where this server speaks TLS in a tunnel or at once, and return what to answer on."""
        if self.tls:
            if connection.recv(1, socket.MSG_PEEK) == b"C":
                self._read(connection)
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            connection = self.tls.wrap_socket(connection, server_side=True)
        self._read(connection)
        return connection

    def _read(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65_536) or self._gone()
        head, _, body = received.partition(b"\r\n\r\n")
        lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        while len(body) < int(lengths[0] if lengths else 0):
            body += connection.recv(65_536) or self._gone()
        self.heads.append(head.decode("latin-1"))

    def _gone(self) -> bytes:
        raise ConnectionError

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        wait_for(lambda: self.open == 0, 5)


@contextmanager
def hostile(play: Play | bytes, **options: Any) -> Iterator[Hostile]:
    server = Hostile(play, **options)
    try:
        yield server
    finally:
        server.close()


def made(kind: str, url: str, client: Any = RerankClient, **options: Any) -> Any:
    """A client of either kind over either transport."""
    if kind == "sagemaker":
        return client.sagemaker("ranker", region="eu-west-1", endpoint_url=url, **options)
    return client.http(url, **options)


def ask(kind: str, url: str, *, timeout: float = 20.0, **options: Any) -> RerankError:
    """The error that one try ends in."""
    with made(kind, url, retry=ONCE, **options) as client, pytest.raises(RerankError) as caught:
        client.rerank("q", ["a"], timeout=timeout)
    return caught.value


KINDS = pytest.mark.parametrize("kind", ["http", "sagemaker"])


def drip(start: bytes, piece: bytes = b"x") -> Play:
    def play() -> Iterator[bytes]:
        yield start
        while True:
            yield piece
            time.sleep(0.02)

    return play


def endless(start: bytes, piece: bytes) -> Play:
    return lambda: itertools.chain([start], itertools.repeat(piece * (65_536 // len(piece) + 1)))


DRIPS: dict[str, Play | bytes] = {
    "status line": drip(b"HTTP/1.1 200 "),
    "header": drip(HEAD + b"X-Slow: "),
    "headers": drip(HEAD, b"A: b\r\n"),
    "body": drip(HEAD + b"Content-Length: 1000\r\n\r\n", b" "),
    "chunks": drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "other answers first": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "an error": drip(b"HTTP/1.1 500 No\r\n\r\n", b" "),
    "nothing": b"",
}


@pytest.mark.parametrize("play", DRIPS.values(), ids=DRIPS.keys())
def test_a_deadline_holds_whatever_drips(play: Play | bytes) -> None:
    """Both clients, both transports, at once."""

    async def call(kind: str, url: str) -> None:
        async with made(kind, url, AsyncRerankClient) as client:
            await client.rerank("q", ["a"], timeout=0.3)

    def seconds(kind: str, asynchronous: bool, url: str) -> float:
        start = time.monotonic()
        if asynchronous:
            with pytest.raises(DeadlineExceeded, match="No answer in time"):
                asyncio.run(call(kind, url))
        else:
            with made(kind, url) as client, pytest.raises(DeadlineExceeded, match="No answer in time"):
                client.rerank("q", ["a"], timeout=0.3)
        return time.monotonic() - start

    with hostile(play) as server, ThreadPoolExecutor(4) as threads:
        both = [(kind, asynchronous) for kind in ("http", "sagemaker") for asynchronous in (True, False)]
        took = list(threads.map(lambda each: seconds(each[0], each[1], server.url), both))
        assert max(took) < 8, "not the seconds that the server would take"
        wait_for(lambda: server.open == 0, 5)  # each call closed its connection


def test_a_deadline_holds_against_one_who_does_not_read() -> None:
    with hostile(b"") as server:
        server.reads = False
        with RerankClient.http(server.url) as client, pytest.raises(DeadlineExceeded):
            client.rerank("q", ["a" * 5_000_000], timeout=0.3)


@pytest.mark.parametrize("stage", ["handshake", "tunnel", "handshake in a tunnel"])
def test_a_deadline_holds_before_there_is_a_connection(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves none open."""
    play = drip(b"HTTP/1.1 200 ") if stage == "tunnel" else b"HTTP/1.1 200 Opened\r\n\r\n"
    with hostile(play) as server:
        url = f"https://127.0.0.1:{server.port}"
        if stage == "handshake":
            server.reads = False
        else:
            monkeypatch.setenv("HTTPS_PROXY", server.url)
            url = "https://reranker.invalid"
        with RerankClient.http(url) as client:
            for _ in range(3):
                with pytest.raises(DeadlineExceeded):
                    client.rerank("q", ["a"], timeout=0.2)
            wait_for(lambda: server.open == 0, 5)


@pytest.mark.skipif(os.name == "nt", reason="its process is a shell's")
def test_credentials_that_do_not_come_hold_up_neither_the_call_nor_the_end(tmp_path: Path) -> None:
    """Twenty calls share one lookup, and the program ends without it."""
    started = tmp_path / "started"
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = sh -c 'echo >> {started}; exec sleep 30'\n")
    code = (
        "import asyncio, sys, time\n"
        "from sagerank import AsyncRerankClient\n"
        "from sagerank.errors import DeadlineExceeded\n"
        "async def main():\n"
        "    async with AsyncRerankClient.sagemaker('r', region='eu-west-1', endpoint_url='http://127.0.0.1:9') as client:\n"
        "        calls = [client.rerank('q', ['a'], timeout=0.3) for _ in range(20)]\n"
        "        errors = await asyncio.gather(*calls, return_exceptions=True)\n"
        "        assert {type(error) for error in errors} == {DeadlineExceeded}, errors\n"
        "        assert await asyncio.to_thread(lambda: 1) == 1, 'the loop has threads left'\n"
        "start = time.monotonic()\n"
        "asyncio.run(main())\n"
        "assert time.monotonic() - start < 15\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = run_python(
        code, env={**clean, "AWS_CONFIG_FILE": str(config), "AWS_EC2_METADATA_DISABLED": "true"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert started.read_text() == "\n"


def test_an_error_of_the_credentials_does_not_tell_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = sh -c 'echo {SECRET} >&2; exit 1'\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    error = ask("sagemaker", "http://127.0.0.1:9")
    assert isinstance(error, AccessDenied)
    assert SECRET not in told(error)


ENDLESS = {
    "body": endless(HEAD + b"\r\n", b" "),
    "chunks": endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"[" * 1024 + b"\r\n"),
    "length": endless(HEAD + b"Content-Length: 99999999999999\r\n\r\n", b"1"),
    "headers": endless(HEAD, b"A: b\r\n"),
    "one header": endless(HEAD + b"A: ", b"b"),
    "status line": endless(b"HTTP/1.1 200 ", b"b"),
    "no HTTP": endless(b"", b"\0\1\2"),
    "compressed": endless(HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b" " * 10_000_000)),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_an_answer_is_bounded_by_what_was_asked(name: str) -> None:
    kind = "sagemaker" if name in ("body", "headers") else "http"  # whose connections are the same
    with hostile(ENDLESS[name]) as server:
        error = ask(kind, server.url)
        assert isinstance(error, BadAnswer), error
        assert server.sent < 20_000_000, "the bound, and what the system's buffers hold"


def test_a_bomb_is_not_unpacked() -> None:
    body = gzip.compress(ranking("0.5"))
    with hostile(answer(body, Content_Encoding="gzip")) as server:
        assert "compressed, which was not asked for" in str(ask("http", server.url))


def test_an_error_without_end_is_that_error() -> None:
    with hostile(endless(b"HTTP/1.1 502 Bad gateway\r\n\r\n", b"<br>")) as server:
        error = ask("http", server.url)
        assert (type(error), str(error)) == (Unavailable, "The server answered with status 502.")
        assert server.sent < 20_000_000


def test_many_small_documents_may_have_a_large_answer() -> None:
    """An honest server that sends the texts again, each letter escaped, is within the bound."""
    documents = ["\x01" * 40] * 20_000
    item = {"index": 0, "relevance_score": 0.12345678901234567, "document": {"text": documents[0]}}
    results = [{**item, "index": n} for n in range(len(documents))]
    body = json.dumps({"model": "m", "usage": {"total_tokens": 1}, "results": results}, indent=1).encode()
    with (
        hostile(answer(body)) as server,
        RerankClient.http(server.url, split=Split(max_documents=20_000)) as client,
    ):
        assert len(client.rerank("q", documents).results) == 20_000


DIGITS = "1" * 5_000
BAD = {
    "a logit": (ranking("1.5"), "no number from 0 to 1"),
    "below": (ranking("-0.1"), "no number from 0 to 1"),
    "NaN": (ranking("NaN"), "no number from 0 to 1"),
    "infinite": (ranking("Infinity"), "no number from 0 to 1"),
    "1e999": (ranking("1e999"), "no number from 0 to 1"),
    "4,000 digits": (ranking("1" * 4_000), "no number from 0 to 1"),
    "5,000 digits": (ranking(DIGITS), "not that of a reranker"),
    "text": (ranking('"0.5"'), "no number from 0 to 1"),
    "true": (ranking("true"), "no number from 0 to 1"),
    "null": (ranking("null"), "no number from 0 to 1"),
    "surplus": (ranking("0.5", "0.5"), "ranks other documents"),
    "missing": (ranking(), "ranks other documents"),
    "index true": (ranking("0.5").replace(b'"index":0', b'"index":false'), "not that of a reranker"),
    "index 0.0": (ranking("0.5").replace(b'"index":0', b'"index":0.0'), "not that of a reranker"),
    "index of 5,000 digits": (
        ranking("0.5").replace(b":0,", f":{DIGITS},".encode()),
        "not that of a reranker",
    ),
    "index a list": (ranking("0.5").replace(b":0,", b":[],"), "not that of a reranker"),
    "duplicate": (ranking("0.5", "0.5").replace(b'"index":1', b'"index":0'), "not that of a reranker"),
    "deep": (ranking("[" * 100_000), "not that of a reranker"),
    "deep beside": (ranking("0.5")[:-1] + b',"x":' + b'{"a":' * 100_000 + b"}", "not that of a reranker"),
    "results an object": (
        ranking("0.5").replace(b"[", b'{"a":').replace(b"]", b"}"),
        "not that of a reranker",
    ),
    "results null": (b'{"model":"m","usage":{"total_tokens":1},"results":null}', "not that of a reranker"),
    "results text": (b'{"model":"m","usage":{"total_tokens":1},"results":"ab"}', "not that of a reranker"),
    "tokens 1e999": (ranking("0.5").replace(b'tokens":1', b'tokens":1e999'), "not that of a reranker"),
    "tokens true": (ranking("0.5").replace(b'tokens":1', b'tokens":true'), "not that of a reranker"),
    "tokens of 4,000 digits": (
        ranking("0.5").replace(b":1}", b":" + b"1" * 4_000 + b"}"),
        "not that of a reranker",
    ),
    "model half a pair": (ranking("0.5").replace(b'"m"', b'"\\ud800"'), "not that of a reranker"),
    "model a list": (ranking("0.5").replace(b'"m"', b"[]"), "not that of a reranker"),
    "a list": (b"[1]", "not that of a reranker"),
    "nothing": (b"", "not that of a reranker"),
    "no UTF-8": (b"\xff\xfe{", "not that of a reranker"),
}


@pytest.mark.parametrize(("body", "sentence"), BAD.values(), ids=BAD.keys())
def test_what_is_no_ranking_is_a_bad_answer(body: bytes, sentence: str) -> None:
    with hostile(answer(body)) as server:
        error = ask("http", server.url)
        assert isinstance(error, BadAnswer)
        assert sentence in str(error)


@pytest.mark.parametrize(
    ("kind", "status"), [("http", "204 None"), ("http", "206 Part"), ("sagemaker", "299 Odd")]
)
def test_a_status_that_no_reranker_sends_is_a_bad_answer(kind: str, status: str) -> None:
    with hostile(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as server:
        assert isinstance(ask(kind, server.url), BadAnswer)


LONG = "no\x1b[2J\n" + "x" * 1_000_000


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ValidationException", 400),
        ("ValidationError", 404),
        ("ThrottlingException", 400),
        ("AccessDeniedException", 403),
        ("IncompleteSignatureException", 400),
        ("InternalFailure", 500),
        ("Made" + "Up" * 20_000, 400),
        ("", 400),
        ("", 418),
    ],
)
def test_every_error_of_aws_is_one_short_line(code: str, status: int) -> None:
    content = {"message": LONG, "__type": f"com.amazonaws#{code}"} if code else {"message": LONG}
    with hostile(answer(json.dumps(content).encode(), f"{status} No")) as server:
        text = str(ask("sagemaker", server.url))
        assert len(text) < 1_200
        assert text.isprintable()


@pytest.mark.parametrize("answered", [10**4_000, -1, 200, True, "x", None])
def test_a_containers_status_may_be_anything(answered: Any) -> None:
    inner = json.dumps({"detail": {"message": LONG}})
    content = {"OriginalMessage": inner, "OriginalStatusCode": answered}
    with hostile(answer(json.dumps(content).encode(), "424 No", x_amzn_errortype="ModelError")) as server:
        error = ask("sagemaker", server.url)
        assert isinstance(error, Unavailable)
        assert len(str(error)) == 500


@pytest.mark.parametrize("given", ["nan", "inf", "1e999", "-5", "Wed, 21 Oct 2026 07:28:00 GMT", "soon"])
def test_a_wait_that_is_no_number_of_seconds_is_one(given: str) -> None:
    with hostile(answer(b"{}", "429 Many", Retry_After=given)) as server:
        error = ask("http", server.url)
        assert isinstance(error, Overloaded)
        assert error.retry_after == 1.0


def told(error: BaseException) -> str:
    """All that an error says to whoever prints, logs or walks it."""
    texts, rest = traceback.format_exception(error), [error]
    seen: list[BaseException] = []
    while rest:
        each = rest.pop()
        if not any(each is other for other in seen):
            seen.append(each)
            texts += [str(each), repr(each), str(vars(each))]
            rest += filter(None, (each.__cause__, each.__context__, *getattr(each, "exceptions", ())))
    return "\n".join(texts)


def echoes() -> dict[str, bytes]:
    """Answers that repeat what the client sent."""
    words = f"{SECRET} Bearer {SECRET} key={SECRET} {BASIC}"
    said = json.dumps({"detail": {"message": f"You sent {words}"}}).encode()
    place = f"/login?key={SECRET}&next=http://user:{SECRET}@h/"
    return {
        "400": answer(said, "400 No", Set_Cookie=f"key={SECRET}", WWW_Authenticate=words),
        "401": answer(said, "401 No"),
        "500": answer(said, "500 No"),
        "429": answer(said, "429 No", Retry_After=words),
        "reason": answer(b"{}", f"503 {words}"),
        "redirect": answer(said, "302 Found", Location=place),
        "redirect with a password": answer(
            b"", "301 Moved", Location=f"http://user:{SECRET}@other.invalid/a?{words}"
        ),
        "redirect of no kind": answer(b"", "308 Moved", Location=f"http://user:{SECRET}@h:x/"),
        "status line": f"{words}\r\n\r\n".encode(),
        "header": f"HTTP/1.1 200 OK\r\n{words} \0: x\r\n\r\n".encode(),
        "chunk": HEAD + f"Transfer-Encoding: chunked\r\n\r\n{words}\r\n".encode(),
        "body": answer(said),
        "model": answer(ranking("2").replace(b'"m"', json.dumps(words).encode())),
        "AWS's": answer(said, "400 No", x_amzn_errortype="ValidationException"),
        "AWS's own": answer(
            json.dumps({"message": words}).encode(), "400 No", x_amzn_errortype="InvalidSomething"
        ),
        "container's": answer(
            json.dumps({"OriginalMessage": said.decode(), "OriginalStatusCode": 400}).encode(),
            "424 No",
            x_amzn_errortype="ModelError",
        ),
        "cut short": HEAD + b"Content-Length: 100\r\n\r\n" + words.encode(),
        "good": answer(ranking("0.5"), Set_Cookie=f"key={SECRET}"),
    }


@pytest.mark.parametrize("name", echoes())
def test_credentials_are_in_no_error_and_no_log(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the URL and the headers, on AWS those of the session, also where the server sends them back."""
    for logger in (
        "httpx2",
        "httpcore2.connection",
        "httpcore2.http11",
        "httpcore2.proxy",
        "asyncio",
        "sagerank",
    ):
        caplog.set_level(logging.DEBUG, logger)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET)
    with hostile(echoes()[name], hangs_up=True) as server:
        address = server.url.replace("//", f"//user:{SECRET}@") + f"/v1/rerank?key={SECRET}"
        headers = {"authorization": f"Bearer {SECRET}", "X-Key": SECRET}
        for client, secrets in (
            (RerankClient.http(address, retry=ONCE), (SECRET, BASIC)),
            (RerankClient.http(server.url, headers=headers, retry=ONCE), (SECRET,)),
            (made("sagemaker", server.url, retry=ONCE), (SECRET,)),
        ):
            caplog.clear()
            with client:
                shown = [repr(client), repr(client.transport)]
                try:
                    client.rerank("q", ["a"])
                except RerankError as error:
                    shown.append(told(error))
            assert "receive_response_headers" in caplog.text
            assert not [text for text in [caplog.text, *shown] if any(secret in text for secret in secrets)]
        in_url, in_headers, in_session = server.heads
    assert f"Basic {BASIC}" in in_url  # all were sent
    assert f"?key={SECRET} " in in_url
    assert f"Bearer {SECRET}" in in_headers
    assert SECRET in in_session


@pytest.mark.parametrize(
    "make",
    [
        lambda: RerankClient.http(f"http://user:{SECRET}/x@h"),
        lambda: RerankClient.http(f"ftp://user:{SECRET}@h"),
        lambda: RerankClient.http("http://h", headers={"Authorization": f"Bearer {SECRET} "}),
        lambda: RerankClient.http("http://h", headers={"Authorization": f"Bearer {SECRET}\n"}),
        lambda: RerankClient.http("http://h", headers={f"{SECRET}: x": "y"}),
        lambda: made("sagemaker", f"http://user:{SECRET}@h:x"),
        lambda: made("sagemaker", SECRET),
        lambda: made("sagemaker", f"http://127.0.0.1:1/?key={SECRET}"),
    ],
)
def test_what_cannot_be_used_is_refused_without_its_secrets(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make()
    assert SECRET not in told(caught.value)


def test_headers_that_http_sets_itself_are_refused_and_ours_are_sent_once() -> None:
    for name in ("Content-Length", "transfer-encoding"):
        with pytest.raises(InvalidRequest, match=f"{name} is not yours"):
            HttpTransport("http://h", headers={name: "1"})
    headers = {"content-type": "application/json; charset=utf-8", "accept-encoding": "gzip"}
    with hostile(GOOD) as server, RerankClient.http(server.url, headers=headers) as client:
        client.rerank("q", ["a"])
    lines = server.heads[0].lower().split("\r\n")
    assert [line for line in lines if line.startswith(("content-type", "accept-encoding"))] == [
        "content-type: application/json; charset=utf-8",
        "accept-encoding: identity",
    ]


@KINDS
@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("https://other.invalid/v1/rerank?a=b#c", "https://other.invalid/v1/rerank"),
        ("/elsewhere", "http://127.0.0.1:PORT/elsewhere"),
        ("//other.invalid/x", "http://other.invalid/x"),
    ],
)
def test_a_redirect_is_not_followed_and_says_where_it_points(kind: str, place: str, shown: str) -> None:
    with hostile(answer(b"", "307 Moved", Location=place)) as server:
        error = ask(kind, server.url)
        assert isinstance(error, EndpointNotFound)
        assert f"redirects to {shown.replace('PORT', str(server.port))}, and redirects are not" in str(error)
        assert len(server.heads) == 1


@pytest.mark.parametrize(
    "place",
    [
        "",
        "ftp://x",
        "http://[",
        "http://h:99999/",
        "javascript:alert(1)",
        "\xff\xfe",
        "http://h/" + "x" * 90_000,
    ],
)
def test_a_redirect_may_point_anywhere(place: str) -> None:
    with hostile(
        f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {place}\r\n\r\n".encode("latin-1")
    ) as server:
        error = ask("http", server.url)
        assert len(str(error)) < 700
        assert str(error).isprintable()


def test_cookies_are_not_kept() -> None:
    with (
        hostile(answer(ranking("0.5"), Set_Cookie="a=b; Path=/", Connection="close")) as server,
        RerankClient.http(server.url) as client,
    ):
        for _ in range(2):
            client.rerank("q", ["a"])
    assert not any("cookie" in head.lower() for head in server.heads)


@KINDS
def test_cancelling_twenty_calls_leaves_nothing(kind: str) -> None:
    """No request goes out, no connection stays, no task waits, and nobody complains. Some wait for a connection."""
    complaints: list[dict[str, Any]] = []

    async def test(server: Hostile) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        loop.set_debug(True)
        options: dict[str, Any] = {"split": Split(max_documents=1), "connections": 6}
        async with asyncio.timeout(20), made(kind, server.url, AsyncRerankClient, **options) as client:
            calls = [asyncio.create_task(client.rerank("q", ["a"] * 8)) for _ in range(20)]
            while len(server.heads) < 6:
                await asyncio.sleep(0.01)
            for call in calls:
                call.cancel()
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(end) for end in ends} == {asyncio.CancelledError}
            assert asyncio.all_tasks() == {asyncio.current_task()}
            while server.open:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert len(server.heads) == 6

    with hostile(b"") as server:
        asyncio.run(test(server))
    assert not complaints


def test_a_call_that_is_interrupted_closes_its_connection() -> None:
    with hostile(b"") as server, RerankClient.http(server.url) as client, ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.rerank, "q", ["a"])
        wait_for(lambda: server.heads != [], 5)
        client.close()
        with pytest.raises(Unavailable, match="was closed"):
            call.result(5)
        wait_for(lambda: server.open == 0, 5)


def test_forty_threads_share_a_client_that_has_as_many_connections() -> None:
    def play() -> Iterator[bytes]:
        time.sleep(0.1)
        yield answer(ranking("0.5"), Connection="close")

    def call(client: RerankClient, seconds: float) -> str:
        try:
            return str(client.rerank("q", ["a"], timeout=seconds).requests)
        except DeadlineExceeded as error:
            return str(error)

    with hostile(play) as server, ThreadPoolExecutor(40) as threads:
        for connections, seconds in ((40, 20), (1, 1)):
            with RerankClient.http(server.url, connections=connections) as client:
                ends = list(threads.map(call, [client] * 40, [seconds] * 40))
            if connections == 40:
                assert ends == ["1"] * 40
            else:  # 4 seconds of work, one after the other
                assert any("more connections where many calls share this client" in end for end in ends)
    with pytest.raises(InvalidRequest, match="connections is 0"):
        RerankClient.http("http://h", connections=0)


def reset() -> Iterator[bytes]:
    yield HEAD + b"Content-Length: 100\r\n\r\n{"
    raise OSError  # which closes the connection


@KINDS
def test_a_connection_that_breaks_is_tried_again(kind: str) -> None:
    """In the middle of an answer, reset and not closed, then one that is closed while idle."""
    plays: Iterator[Play] = iter([reset, reset, lambda: [GOOD]])
    with hostile(lambda: next(plays)()) as server, made(kind, server.url, retry=Retry(first=0.01)) as client:
        server.linger = struct.pack("ii", 1, 0)
        assert client.rerank("q", ["a"]).requests == 1
    assert len(server.heads) == 3


def certificate(folder: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate authority's file, and what a server of these names shows."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    today = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), today - day, today + day
        )
        .add_extension(x509.SubjectAlternativeName([*map(x509.DNSName, names), *addresses]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority, both = folder / "authority.pem", folder / "both.pem"
    authority.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both.write_bytes(private + authority.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return authority, context


@pytest.mark.parametrize(
    ("kind", "variable", "works"),
    [
        ("http", "SSL_CERT_FILE", True),
        ("http", "REQUESTS_CA_BUNDLE", True),
        ("http", "AWS_CA_BUNDLE", False),
        ("sagemaker", "SSL_CERT_FILE", True),
        ("sagemaker", "REQUESTS_CA_BUNDLE", True),
        ("sagemaker", "AWS_CA_BUNDLE", True),
    ],
)
def test_certificates_are_those_that_the_environment_names(
    kind: str, variable: str, works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, tls = certificate(tmp_path)
    with hostile(GOOD, tls=tls) as server:
        url = f"https://127.0.0.1:{server.port}"
        assert "a certificate that is not trusted: name your authority's file in SSL_CERT_FILE" in str(
            ask(kind, url)
        )
        monkeypatch.setenv(variable, str(authority))
        if works:
            with made(kind, url) as client:
                assert client.rerank("q", ["a"]).requests == 1
            monkeypatch.setenv(variable, str(tmp_path / "nowhere"))
            with pytest.raises(InvalidRequest, match="certificates cannot be read"):
                made(kind, url)
        else:
            assert "not trusted" in str(ask(kind, url))


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_forwards(
    variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with hostile(GOOD) as proxy:
        monkeypatch.setenv(variable, proxy.url.replace("//", f"//user:{SECRET}@"))
        with RerankClient.http(f"http://u:pass-word@reranker.invalid/?key={SECRET}") as client:
            assert client.rerank("q", ["a"]).requests == 1
    first, *rest = proxy.heads[0].split("\r\n")
    assert first == f"POST http://reranker.invalid/v1/rerank?key={SECRET} HTTP/1.1"
    assert f"Proxy-Authorization: Basic {BASIC}" in rest
    assert "Authorization: Basic dTpwYXNzLXdvcmQ=" in rest
    assert SECRET not in caplog.text


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
@KINDS
def test_a_proxy_tunnels(
    kind: str,
    variable: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "httpcore2")
    authority, tls = certificate(tmp_path, "reranker.invalid")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with hostile(GOOD, tls=tls) as proxy:
        monkeypatch.setenv(variable, proxy.url.replace("//", f"//user:{SECRET}@"))
        with made(kind, "https://reranker.invalid") as client:
            assert client.rerank("q", ["a"]).requests == 1
        tunnel, inside = proxy.heads
        assert tunnel.startswith("CONNECT reranker.invalid:443 ")
        assert f"Proxy-Authorization: Basic {BASIC}" in tunnel
        assert "Proxy-Authorization" not in inside
        assert SECRET not in inside + caplog.text
        # What NO_PROXY names is asked directly.
        monkeypatch.setenv(variable.replace("HTTPS", "NO").replace("https", "no"), "reranker.invalid")
        assert isinstance(ask(kind, "https://reranker.invalid"), Unavailable)
        assert len(proxy.heads) == 2


@pytest.mark.parametrize("url", ["http://reranker.invalid", "https://reranker.invalid"])
def test_a_proxy_that_refuses_says_what_to_change(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = answer(b"", f"407 {SECRET}", Connection="close")
    with hostile(refusal) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url.replace("//", f"//user:{SECRET}@"))
        error = ask("http", url)
        assert isinstance(error, AccessDenied)
        assert "The proxy asks for credentials" in str(error)
        assert SECRET not in told(error)


@pytest.mark.parametrize(
    "proxy", [f"http://user:{SECRET}/x@h", f"nonsense://{SECRET}@h", f"socks5://{SECRET}@h:1"]
)
def test_a_proxy_that_is_none_is_refused_without_its_secrets(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    error = ask("http", "http://reranker.invalid")
    assert isinstance(error, InvalidRequest)
    assert SECRET not in told(error)


@KINDS
def test_an_ipv6_address(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # which loopback is not behind
    try:
        server = Hostile(GOOD, host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    try:
        with made(kind, f"http://[::1]:{server.port}") as client:
            assert client.rerank("q", ["a"]).requests == 1
        assert f"Host: [::1]:{server.port}" in server.heads[0]
    finally:
        server.close()
    with pytest.raises(InvalidRequest, match="address with a zone"):
        made(kind, "http://[fe80::1%25eth0]:8080")


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("", "/v1/rerank"),
        ("/", "/v1/rerank"),
        ("?a=b", "/v1/rerank?a=b"),
        ("/base/", "/base/v1/rerank"),
        ("/a%2Fb/?c=%20d", "/a%2Fb/v1/rerank?c=%20d"),
        ("/rerank", "/rerank"),
        ("/base/v2/rerank?x", "/base/v2/rerank?x"),
    ],
)
def test_a_path_that_ends_in_a_slash_is_a_base(given: str, target: str) -> None:
    with hostile(GOOD) as server, RerankClient.http(server.url + given) as client:
        client.rerank("q", ["a"])
    assert server.heads[0].split()[1] == target


@pytest.mark.parametrize(
    "url", [f"http://{'a' * 70}.invalid", "http://..", "http://xn--", "http://%00", "http://a%20b"]
)
def test_a_host_that_is_none_is_an_error_of_ours(url: str) -> None:
    with pytest.raises((InvalidRequest, Unavailable)), RerankClient.http(url, retry=ONCE) as client:
        client.rerank("q", ["a"])


@pytest.mark.parametrize("timeout", [float("nan"), None, "1", True])
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    with (
        RerankClient.http("http://h") as client,
        pytest.raises(InvalidRequest, match="give a number of seconds"),
    ):
        client.rerank("q", ["a"], timeout=timeout)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(tries=0),
        lambda: Retry(first=float("nan")),
        lambda: Retry(longest=-1),
        lambda: Split(max_documents=0),
        lambda: Split(max_tokens=0),
    ],
)
def test_a_plan_that_sends_nothing_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidRequest, match="give at least 1"):
        make()


def test_the_server_of_this_repository_is_not_hostile() -> None:
    """Bodies of many sizes, by both clients, over few connections, to the server as it is deployed."""
    documents = [f"Passage {n} is about rain. " * (n % 7) + "x" for n in range(200)]
    with running() as server:
        server.wait_until_ready()
        url = f"http://127.0.0.1:{server.port}"
        with RerankClient.http(f"{url}/", split=Split(max_documents=30), connections=3) as client:
            one = client.rerank("what causes rain", documents)

        async def test() -> None:
            async with AsyncRerankClient.http(f"{url}/v1/rerank") as client:
                other = await client.rerank("what causes rain", documents)
            assert [item.score for item in other.results] == pytest.approx(
                [item.score for item in one.results], abs=1e-5
            )

        asyncio.run(test())
        error = ask("http", f"{url}/nowhere")
        assert isinstance(error, EndpointNotFound)
        assert "a path that does not end in / is taken as it is" in str(error)
    assert one.requests == 7


def test_documents_of_any_depth_are_printed_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `sagerank rerank --json`: none ends in a traceback."""
    with hostile(answer(ranking("0.5"), Connection="close")) as server:
        for depth in (10, 400, *range(800, 1_000, 12)):
            (tmp_path / "given").write_text('{"text": "a", "x": ' + "[" * depth + "]" * depth + "}\n")
            code = main(["rerank", "q", str(tmp_path / "given"), "--url", server.url, "--json"])
            printed = capsys.readouterr()
            if code == 0:
                assert len(json.loads(printed.out)["results"]) == 1
            else:
                assert code == 2
                assert printed.err.startswith(f"sagerank: {tmp_path}/given, line 1: ")
