"""The model's process ends, by a signal or by the container's memory: the server goes on, and everybody is told something."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sagerank.models.build import MICRO

from ..servers import wait_for
from . import groups
from .running import MODEL, Limits, running

pytestmark = pytest.mark.container

# Nothing that a process may do beyond any other.
BARE = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
LONG = json.dumps({"query": "q", "documents": ["long " * 8100]}).encode()


def test_a_killed_model_is_replaced_and_nobody_goes_without_an_answer(image: str) -> None:
    with (
        running(
            image, user="54321", more=BARE, mounts={MICRO: MODEL}, limits=Limits(cpus=1, memory_mb=1024)
        ) as container,
        ThreadPoolExecutor(4) as pool,
    ):
        container.ready()
        first = container.worker
        under_way = [pool.submit(container.post, LONG) for _ in range(4)]
        wait_for(lambda: "sagerank_queued_tokens 0.0" not in container.call("GET", "/metrics")[1])
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: container.ping() == 503)
        # One that was computed twice when its process died would be refused; this one died once.
        assert {each.result()[0] for each in under_way} == {200}
        wait_for(lambda: container.ping() == 200)
        assert container.worker != first
        assert container.post()[0] == 200


@pytest.mark.parametrize("user", ["0", "54321"])
def test_where_the_memory_is_too_small_the_model_goes_first_and_comes_back(
    image: str, artefact: Callable[[str, str], Path], user: str
) -> None:
    """A limit that holds the model and short texts, and no pair of 8,192 tokens: `fit` would refuse it."""
    limits = Limits(cpus=1, memory_mb=240)
    with running(
        image, user=user, more=BARE, mounts={artefact("tiny", "fp32"): MODEL}, limits=limits
    ) as container:
        container.ready()
        assert Path(f"/proc/{container.worker}/oom_score_adj").read_text() == "1000\n"
        with ThreadPoolExecutor(2) as pool:
            too_long = pool.submit(container.post, LONG)
            wait_for(lambda: container.ping() == 503)
            short = pool.submit(container.post)
            code, answer = too_long.result()
            assert code == 503
            assert "died 2 times under this request: send shorter or fewer documents." in str(answer)
            assert short.result()[0] == 200, "the next one got it"
        wait_for(lambda: container.ping() == 200)
        assert container.post()[0] == 200
        assert groups.killed(container.pid) == 2
        reasons = [entry.get("reason", "") for entry in container.events()]
        assert reasons.count("the model's process ended: signal SIGKILL") == 2
        assert container.stop() == 0
