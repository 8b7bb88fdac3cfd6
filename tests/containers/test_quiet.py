"""No packet leaves the container: not when it starts, serves, fails, replaces its model and ends. A network with a name server is there."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sagerank.models.build import MICRO

from ..servers import wait_for
from .running import MODEL, Running, running
from .wire import Wire, wire

pytestmark = pytest.mark.container

# Not only once the server is idle: what collects reports may send them after a while, ONNX Runtime 9 seconds after it was loaded.
QUIET_SECONDS = 12


@pytest.fixture
def network(image: str) -> Iterator[Wire]:
    with ExitStack() as stack:
        try:
            made = stack.enter_context(wire())
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no such network can be made here: {getattr(error, 'stderr', error)!r}")
        yield made


def live(container: Running) -> None:
    """What a server goes through, but for its end."""
    container.ready()
    for path in ("/ping", "/metrics", "/info", "/v1/models", "/openapi.json", "/nothing"):
        container.call("GET", path)
    assert container.post()[0] == 200
    assert container.post(b"{")[0] == 400
    os.kill(container.worker, signal.SIGKILL)
    wait_for(lambda: container.ping() == 503)
    wait_for(lambda: container.ping() == 200)
    assert container.post()[0] == 200
    time.sleep(QUIET_SECONDS)


@pytest.mark.parametrize("read_only", [True, False])
def test_no_packet_leaves(image: str, network: Wire, read_only: bool) -> None:
    with running(
        image, network=network.name, more=network.options, mounts={MICRO: MODEL}, read_only=read_only
    ) as container:
        live(container)
        assert container.stop() == 0
    assert not network.packets


def test_a_packet_would_be_seen(image: str, network: Wire) -> None:
    """A name that is looked up, and a machine that is called by its number."""
    with running(image, network=network.name, more=network.options, mounts={MICRO: MODEL}) as container:
        container.ready()
        for code in (
            "socket.getaddrinfo('example.org', 443)",
            "socket.create_connection(('198.51.100.7', 443), 1)",
        ):
            with pytest.raises(subprocess.CalledProcessError):
                container.execute("timeout", "3", "python", "-c", f"import socket; {code}")
        sent = b"".join(network.packets)
        assert b"\x07example\x03org\x00" in sent
        assert bytes([198, 51, 100, 7]) in sent


def test_what_onnx_runtime_would_report_would_be_seen(image: str, network: Wire) -> None:
    """The reason for these tests: its telemetry is on unless it is switched off."""
    with running(
        image,
        network=network.name,
        more=network.options,
        mounts={MICRO: MODEL},
        read_only=False,
        environ={"ORT_DISABLE_TELEMETRY": "0"},
    ) as container:
        container.ready()
        wait_for(lambda: b"microsoft" in b"".join(network.packets))
