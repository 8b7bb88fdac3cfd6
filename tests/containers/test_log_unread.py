"""Whoever collects the container's output may stall or be gone: the server does not wait for it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from sagerank.models.build import MICRO

from ..servers import wait_for
from ..trials.monitor import megabytes, status_fields
from .running import MODEL, Limits, Running, running

pytestmark = pytest.mark.container

LIMITS = Limits(cpus=1, memory_mb=1024)
REQUESTS = 600  # lines of some 400 bytes each, in a pipe of 64 KB


def collector(container: Running) -> int:
    """Who reads the container's output: podman's monitor, its parent."""
    return int(status_fields(container.pid)["PPid"])


def ask(container: Running, count: int = REQUESTS) -> None:
    for _ in range(count):
        assert container.post()[0] == 200


def test_output_that_nobody_reads_holds_nothing_up_and_comes_when_it_is_read(image: str) -> None:
    with running(image, mounts={MICRO: MODEL}, limits=LIMITS) as container:
        container.ready()
        reader = collector(container)
        os.kill(reader, signal.SIGSTOP)
        try:
            ask(container)
            assert megabytes(status_fields(container.pid), "VmRSS") < 100
        finally:
            os.kill(reader, signal.SIGCONT)
        wait_for(lambda: container.logs().count('"event": "request"') == REQUESTS)
        assert container.stop() == 0


def test_output_that_goes_nowhere_holds_nothing_up(image: str) -> None:
    with running(image, mounts={MICRO: MODEL}, limits=LIMITS) as container:
        container.ready()
        os.kill(collector(container), signal.SIGKILL)
        ask(container)
        os.kill(container.pid, signal.SIGTERM)
        wait_for(lambda: not status_fields(container.pid).get("State", "Z").startswith(("R", "S", "D")), 30)
        assert not Path(f"/proc/{container.pid}/fd/1").exists()
