"""The proxy in a process of its own, before a real server, a scripted one, or a local AWS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ...conftest import free_port
from ...servers import Server, running

KEY = "a-key-for-the-proxy-1"
BEARER = {"Authorization": f"Bearer {KEY}"}


class Proxied(Server):
    """`sagerank proxy` on a free port of loopback."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.port, self.host = free_port(), "127.0.0.1"
        own = {name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "SAGERANK_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sagerank", "proxy", "--port", str(self.port), *arguments],
            env={**own, "AWS_ACCESS_KEY_ID": "AKIDlocal", "AWS_SECRET_ACCESS_KEY": "local", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """POST a body with the key, or GET."""
        return self.call("GET" if body is None else "POST", path, body, **{**BEARER, **headers})


@contextmanager
def proxied(*arguments: str, **variables: str) -> Iterator[Proxied]:
    """A proxy that answers; it has KEY unless the variables give another, or an empty one for none."""
    given = {"SAGERANK_PROXY_KEY": KEY, **variables}
    proxy = Proxied(*arguments, **{name: value for name, value in given.items() if value})
    try:
        proxy.wait_until_ready()
        yield proxy
    finally:
        if proxy.process.poll() is None:
            proxy.process.kill()
        proxy.process.communicate()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server of micro."""
    with running() as started:
        started.wait_until_ready()
        yield started


@pytest.fixture(scope="session")
def proxy(server: Server) -> Iterator[Proxied]:
    """A proxy before it."""
    with proxied("--url", f"http://127.0.0.1:{server.port}") as started:
        yield started
