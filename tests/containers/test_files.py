"""A container that may open few files: connections beyond them wait or are refused, and the server goes on."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress

import pytest

from sagerank.models.build import MICRO

from ..servers import wait_for
from .running import MODEL, Limits, running

pytestmark = pytest.mark.container


def test_more_connections_than_files_are_no_end(image: str) -> None:
    limits = Limits(cpus=1, memory_mb=1024, files=64)
    with running(image, mounts={MICRO: MODEL}, limits=limits) as container:
        container.ready()
        with ExitStack() as stack:
            for _ in range(200):
                idle = stack.enter_context(socket.create_connection((container.host, container.port)))
                with suppress(OSError):
                    idle.sendall(b"GET /ping HTTP/1.1\r\n")
        wait_for(lambda: container.ping() == 200)
        assert container.post()[0] == 200
        assert container.stop() == 0
