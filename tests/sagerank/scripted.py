"""A real HTTP server that speaks Jina's API, and misbehaves as told."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import deque
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Failure = tuple[int, bytes, dict[str, str]] | str


def score(text: str) -> float:
    return round((len(text) * 37 + sum(map(ord, text))) % 1000 / 1000, 8)


class Handler(BaseHTTPRequestHandler):
    """Scores deterministically from the text, after the failures that are queued."""

    protocol_version = "HTTP/1.1"
    server: Script

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.heads.append(self.headers)
            failure = self.server.failures.popleft() if self.server.failures else None
        if failure == "drop":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            self.close_connection = True
        elif failure == "slow":
            time.sleep(1.5)
            self._answer(200, b"{}", {})
        elif failure == "held":
            self.server.release.wait(60)
            self._rank(body)
        elif failure == "late":
            time.sleep(1.0)
            self._rank(body)
        elif failure == "drip":
            with contextlib.suppress(OSError):
                for byte in b"HTTP/1.1 200 OK" + b" " * 200:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.02)
            self.close_connection = True
        elif failure == "watch":  # answer nothing, and see whether the client goes
            with contextlib.suppress(OSError):
                if self.connection.recv(1) == b"":
                    self.server.closed.set()
            self.close_connection = True
        elif failure == "garbage":
            self._answer(200, b'{"hello":1}', {})
        elif isinstance(failure, tuple):
            self._answer(*failure)
        else:
            self._rank(body)

    def _rank(self, body: bytes) -> None:
        texts = json.loads(body)["documents"]
        results = [{"index": i, "relevance_score": score(text)} for i, text in enumerate(texts)]
        results.sort(key=lambda item: -item["relevance_score"])
        payload = {"model": "scripted", "usage": {"total_tokens": len(texts)}, "results": results}
        self._answer(200, json.dumps(payload).encode(), {})

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Script(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.failures: deque[Failure] = deque()
        self.bodies: list[bytes] = []
        self.heads: list[Message] = []
        self.lock = threading.Lock()
        self.connections = 0
        self.closed, self.release = threading.Event(), threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client has left, as some tests want
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def model_error(status: int, message: str) -> Failure:
    inner = json.dumps({"detail": {"message": message}})
    body = {"Message": "Received an error", "OriginalMessage": inner, "OriginalStatusCode": status}
    return 424, json.dumps(body).encode(), {"x-amzn-errortype": "ModelError"}


def http_error(status: int, message: str, **headers: str) -> Failure:
    return status, json.dumps({"detail": {"message": message}}).encode(), headers
