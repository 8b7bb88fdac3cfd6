"""A proxy before a real server, for the tests that need nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ...servers import Proxied, Server, proxied


@pytest.fixture(scope="session")
def proxy(server: Server) -> Iterator[Proxied]:
    """A proxy before it."""
    with proxied("--url", f"http://127.0.0.1:{server.port}") as started:
        yield started
