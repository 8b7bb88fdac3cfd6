"""The real server in a process of its own, and a batcher before a scripted model, for the tests of every room."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sagerank.models.build import MICRO
from sagerank_inference.batcher import Batcher, Work
from sagerank_inference.contract import InternalError
from sagerank_inference.windows import Windows

from .conftest import free_port

BODY = json.dumps(
    {"query": "what causes rain", "documents": ["Clouds cool and drop water.", "A cat sleeps."]}
).encode()
POISON = 13


class Door:
    """Where a server listens: `host` and `port`. timeout: seconds that an answer is waited for."""

    host: str
    port: int
    timeout = 60

    def call(
        self, method: str, path: str, body: Any = None, *, host: str = "", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection(host or self.host, self.port, timeout=self.timeout)
        try:
            connection.request(
                method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
            )
            answer = connection.getresponse()
            text = answer.read()
            kind = answer.getheader("content-type") or ""
            parsed: Any = text.decode()
            if "jsonlines" in kind:
                parsed = [json.loads(line) for line in text.splitlines()]
            elif "json" in kind:
                parsed = json.loads(text)
            return answer.status, parsed, {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def post(
        self, body: bytes = BODY, path: str = "/invocations", content_type: str = "application/json"
    ) -> tuple[int, Any]:
        return self.call("POST", path, body, Content_Type=content_type)[:2]

    def ping(self, host: str = "") -> int:
        """The status of /ping; 0 while nobody listens."""
        try:
            return self.call("GET", "/ping", host=host)[0]
        except OSError:
            return 0


def children(pid: int) -> list[int]:
    """The processes that a process has started; none where it has ended."""
    with suppress(OSError):
        return [
            int(child)
            for path in Path(f"/proc/{pid}/task").glob("*/children")
            for child in path.read_text().split()
        ]
    return []


class Server(Door):
    """`python -m sagerank_inference.server` on a free port of loopback, with micro unless the variables say otherwise.

    Where the environment has TEST_IMAGE, the server is a container of that image: what tests it here tests it there. `pid` is the
    server's own process, `process` what was started for it.
    """

    def __init__(self, variables: dict[str, str], *, word: str = "serve", **process: Any) -> None:
        self.port = free_port()
        self.host = variables.get("SAGERANK_HOST", "127.0.0.1")
        given = {"SAGERANK_HOST": self.host, "SAGERANK_PORT": str(self.port), **variables}
        output = {"stdout": subprocess.PIPE, "encoding": "utf-8"}
        self.process: subprocess.Popen[str]
        if image := os.environ.get("TEST_IMAGE"):
            from .containers.contained import Contained

            self.process = Contained(image, given, word, **{**output, **process})
            return
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sagerank_inference.server", word],
            env={**process.pop("env", os.environ), "SAGERANK_MODEL_DIR": str(MICRO), **given},
            **{**output, **process},
        )

    @property
    def pid(self) -> int:
        return int(getattr(self.process, "server", self.process.pid))

    def wait_until_ready(self) -> None:
        wait_for(lambda: self.ping() == 200 or self.process.poll() is not None)
        assert self.process.poll() is None, "the server ended"

    def children(self) -> list[int]:
        return children(self.pid)

    def worker(self) -> int:
        """The model's process: the only child."""
        return self.children()[0]

    def stop(self) -> list[dict[str, Any]]:
        """End it by SIGTERM and return its log."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=60)
        return [json.loads(line) for line in output.splitlines()]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


@contextmanager
def running(
    *, word: str = "serve", process: dict[str, Any] | None = None, **variables: str
) -> Iterator[Server]:
    """A server that is starting, and is killed at the end. word: its argument. process: arguments of subprocess.Popen."""
    server = Server(variables, word=word, **(process or {}))
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()


KEY = "a-key-for-the-proxy-1"
BEARER = {"Authorization": f"Bearer {KEY}"}


class Proxied(Server):
    """`sagerank proxy` on a free port of loopback."""

    def __init__(self, *arguments: str, process: dict[str, Any], **variables: str) -> None:
        self.port, self.host = free_port(), "127.0.0.1"
        own = {name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "SAGERANK_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sagerank", "proxy", "--port", str(self.port), *arguments],
            env={**own, "AWS_ACCESS_KEY_ID": "AKIDlocal", "AWS_SECRET_ACCESS_KEY": "local", **variables},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", **process},
        )

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """POST a body with the key, or GET."""
        return self.call("GET" if body is None else "POST", path, body, **{**BEARER, **headers})


@contextmanager
def proxied(*arguments: str, process: dict[str, Any] | None = None, **variables: str) -> Iterator[Proxied]:
    """A proxy that answers; it has KEY unless the variables give another, or an empty one for none."""
    given = {"SAGERANK_PROXY_KEY": KEY, **variables}
    given = {name: value for name, value in given.items() if value}
    proxy = Proxied(*arguments, process=process or {}, **given)
    try:
        proxy.wait_until_ready()
        yield proxy
    finally:
        if proxy.process.poll() is None:
            proxy.process.kill()
        proxy.process.communicate()


def windows(*lengths: int, token: int = 1) -> Windows:
    return Windows(
        ids=[[token] * length for length in lengths],
        document=list(range(len(lengths))),
        place=[None] * len(lengths),
        query_tokens=1,
        document_tokens=list(lengths),
    )


class ScriptedWorker:
    """Scores a pair by its length. Answers at once, or when `gate` is set."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None
        if not held:
            self.gate.set()

    async def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
        self.batches.append([len(pair) for pair in batch])
        await self.gate.wait()
        if self.error:
            raise self.error
        if any(POISON in pair for pair in batch):
            raise InternalError("poisoned")
        return [float(len(pair)) for pair in batch]


class OneModel(Batcher):
    """A batcher whose requests are all for one worker, unless they say otherwise."""

    def __init__(self, worker: ScriptedWorker, *, batch_tokens: int, max_queue_tokens: int) -> None:
        super().__init__(batch_tokens=batch_tokens, max_queue_tokens=max_queue_tokens)
        self._worker = worker

    async def score(  # type: ignore[override]  # what tests have at hand
        self, windows: Windows, *, timeout: float, **options: Any
    ) -> tuple[list[float], float]:
        work = Work(list(windows.ids))
        return await super().score(work, timeout=timeout, **{"run": self._worker, **options})


def batcher(worker: ScriptedWorker, *, batch_tokens: int = 100, max_queue_tokens: int = 100_000) -> OneModel:
    result = OneModel(worker, batch_tokens=batch_tokens, max_queue_tokens=max_queue_tokens)
    result.resume()
    return result


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))
