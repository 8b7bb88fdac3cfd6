"""Start and memory of the models' sizes in the image: what docs/benchmarks.md has, and what the cost module promises.

python -m tests.containers.sizes [micro tiny base]
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sagerank_cost import memory
from sagerank_cost.models import choice

from ..servers import Door
from ..trials.monitor import megabytes, status_fields
from . import groups
from .conftest import make
from .running import MODEL, Limits, built_image, running

LONGEST = 8192  # tokens of a pair
# Nobody waits so long in production; on a slow machine the largest model has to.
PATIENT = {"SAGERANK_REQUEST_SECONDS": "600", "SAGERANK_BATCH_SECONDS": "600"}


def promised_mb(model: str, precision: str, cpus: int, tokens: int = LONGEST) -> float:
    """MB that `fit` counts for one copy and its server."""
    return memory.promised_mb(choice(model), precision, tokens, cores=cpus) + memory.SERVER_MB


@dataclass(frozen=True, slots=True)
class Served:
    """What a container of a size did. Megabytes are 10^6 bytes resident, at most so far; `killed` counts processes."""

    seconds: float  # from `podman run` to /ping's 200
    server_mb: float
    model_mb: float
    statuses: set[int]
    killed: int


def serve(image: str, folder: Path, limits: Limits, *, batches: int = 24, tokens: int = LONGEST) -> Served:
    """Start a model under limits, score a pair of so many tokens, the longest, then requests at once with batches as large as there are."""
    told = {**PATIENT, "SAGERANK_MAX_TOKENS": str(tokens), "SAGERANK_QUERY_TOKENS": "64"}
    with running(image, limits=limits, mounts={folder: MODEL}, environ=told) as container:
        seconds = container.ready(300)
        first = container.worker
        statuses = {_ask(container, ["word " * tokens])}
        # 512 and 128 tokens: what a batch of 1,024 holds two and eight of.
        documents = ["word " * 500] * 2 + ["word " * 120] * 8
        with ThreadPoolExecutor(8) as pool:
            statuses |= set(pool.map(lambda _: _ask(container, documents), range(batches)))
        assert container.worker == first, container.logs()[-2000:]
        server, model = (megabytes(status_fields(pid), "VmHWM") for pid in (container.pid, first))
        killed = groups.killed(container.pid)
    return Served(seconds, server, model, statuses, killed)


def _ask(door: Door, documents: list[str]) -> int:
    body = json.dumps({"query": "what causes rain", "documents": documents}).encode()
    return door.post(body)[0]


def main(models: list[str]) -> None:
    image = built_image()
    sys.stdout.write(
        "| model | CPUs | start | server | model's process | promised |\n|---|---|---|---|---|---|\n"
    )
    for model in models:
        for precision in ("fp32",) if model == "micro" else ("fp32", "int8"):
            for cpus in (1, 2):
                promise = promised_mb(model, precision, cpus)
                limits = Limits(cpus=cpus, memory_mb=round(promise / 1.048576))
                served = serve(image, make(model, precision), limits)
                assert (served.statuses, served.killed) == ({200}, 0), served
                sys.stdout.write(
                    f"| {model} {precision} | {cpus} | {served.seconds:.1f} s | {served.server_mb:.0f} MB | {served.model_mb:.0f} MB "
                    f"| {memory.SERVER_MB:.0f} + {promise - memory.SERVER_MB:.0f} MB |\n"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:] or ["micro", "tiny", "base"])
