"""Threads of the model's process are for the CPUs that the container may use, not for those that the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sagerank.models.build import MICRO
from sagerank_inference.settings import physical_cores

from .groups import GROUPS, one_cpu
from .running import MODEL, Limits, Running, running

pytestmark = pytest.mark.container


def pools(cores: int) -> int:
    """Threads of the model's process, one pool after the other: itself and who watches its parent; the tokenizer's; ONNX Runtime's, in
    which the caller is one; lanes, of which it is one; and the golden pairs' at the start.
    """
    return 2 + cores + (cores - 1) + (cores - 1) + (cores - 1)


def threads(container: Running) -> int:
    container.ready()
    assert container.post()[0] == 200
    return len(os.listdir(f"/proc/{container.worker}/task"))


@pytest.mark.parametrize(
    ("cpus", "whole"),
    [(0.5, 1), (1, 1), (1.5, 1), (2, 2), (None, 64)],
)
def test_a_quota_of_cpus_decides(image: str, cpus: float | None, whole: int) -> None:
    with running(image, mounts={MICRO: MODEL}, limits=Limits(cpus=cpus)) as container:
        assert threads(container) == pools(min(whole, physical_cores()))


def test_affinity_decides(image: str) -> None:
    with running(image, mounts={MICRO: MODEL}, more=["--cpuset-cpus", "0"]) as container:
        assert threads(container) == pools(1)


@pytest.fixture
def outer() -> Iterator[str]:
    """A control group with a quota of one CPU, for others to be in."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(one_cpu("sagerank-test"))
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
        yield made


@pytest.mark.parametrize("shown", [True, False])
def test_a_quota_round_the_container_counts_where_it_is_shown(image: str, outer: str, shown: bool) -> None:
    """Runtimes show a container its own group alone: what is round that is not known, and has to be set."""
    mounts = {MICRO: MODEL} | ({GROUPS: str(GROUPS)} if shown else {})
    more = ["--cgroup-parent", outer, *(["--cgroupns", "host"] if shown else [])]
    with running(image, mounts=mounts, more=more) as container:
        assert threads(container) == pools(1 if shown else physical_cores())
    told = {"SAGERANK_THREADS": "1"}
    with running(image, mounts=mounts, more=more, environ=told) as container:
        assert threads(container) == pools(1)


def test_without_sys_the_affinity_is_all_that_is_known(image: str) -> None:
    hidden = ["--security-opt", "mask=/sys"]
    with running(image, mounts={MICRO: MODEL}, limits=Limits(cpus=1), more=hidden) as container:
        assert threads(container) == pools(len(os.sched_getaffinity(0)))
    with running(image, mounts={MICRO: MODEL}, more=[*hidden, "--cpuset-cpus", "0"]) as container:
        assert threads(container) == pools(1)
