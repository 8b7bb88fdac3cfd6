"""SIGTERM, as SageMaker ends a container: what is under way is answered, within the 30 seconds that it waits."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sagerank.models.build import MICRO

from ..servers import wait_for
from .running import MODEL, Limits, running

pytestmark = pytest.mark.container


def body(documents: int) -> bytes:
    return json.dumps({"query": "q", "documents": ["long " * 4000] * documents}).encode()


@pytest.mark.parametrize("user", ["0", "54321"])
def test_what_is_under_way_is_answered(image: str, user: str) -> None:
    limits = Limits(cpus=1, memory_mb=1024)
    with running(image, user=user, mounts={MICRO: MODEL}, limits=limits) as container:
        container.ready()
        with ThreadPoolExecutor(4) as pool:
            under_way = [pool.submit(container.post, body(1)) for _ in range(4)]
            wait_for(lambda: "sagerank_queued_tokens 0.0" not in container.call("GET", "/metrics")[1])
            assert container.stop() == 0
            assert {each.result()[0] for each in under_way} == {200}


def test_what_takes_longer_than_the_drain_is_told_so_in_time(image: str) -> None:
    limits = Limits(cpus=0.5, memory_mb=1024)
    told = {"SAGERANK_DRAIN_SECONDS": "2"}
    with running(image, environ=told, mounts={MICRO: MODEL}, limits=limits) as container:
        container.ready()
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(container.post, body(60))
            wait_for(lambda: "sagerank_queued_tokens 0.0" not in container.call("GET", "/metrics")[1])
            began = time.monotonic()
            status = container.stop()
            assert time.monotonic() - began < 20, "and not by SIGKILL after 30"
            assert status == 0
            assert under_way.result()[0] == 503
