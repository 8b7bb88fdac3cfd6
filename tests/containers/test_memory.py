"""What the cost module says that fits, fits: the memory that it promises a size is the container's limit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sagerank_cost.memory import SERVER_MB, SERVERLESS_SIZES, serverless_mb
from sagerank_cost.models import choice

from .places import PLACES
from .running import Limits
from .sizes import LONGEST, promised_mb, serve

pytestmark = pytest.mark.container
patient = pytest.mark.skipif(
    "SAGERANK_TEST_BASE" not in os.environ, reason="takes minutes: set SAGERANK_TEST_BASE=1"
)


@pytest.mark.parametrize(
    ("model", "precision", "cpus"),
    [
        ("micro", "fp32", 2),
        ("tiny", "fp32", 1),
        ("tiny", "fp32", 2),
        ("tiny", "int8", 2),
        ("tiny", "bf16", 2),
        ("base", "int8", 2),
        pytest.param("base", "fp32", 2, marks=patient),
    ],
)
def test_the_memory_that_is_promised_holds_the_longest_pair_and_full_batches(
    image: str, artefact: Callable[[str, str], Path], model: str, precision: str, cpus: int
) -> None:
    promise = promised_mb(model, precision, cpus)
    folder, batches = artefact(model, precision), 24 if model != "base" else 4
    served = serve(image, folder, Limits(cpus=cpus, memory_mb=round(promise / 1.048576)), batches=batches)
    assert (served.statuses, served.killed) == ({200}, 0)
    # Peaks differ by a few MB from run to run, and the kernel takes them from the file cache before it kills.
    assert served.model_mb <= 1.02 * (promise - SERVER_MB)
    assert served.server_mb <= SERVER_MB


@pytest.mark.parametrize(
    ("model", "precision", "tokens", "size"),
    [("base", "fp32", 512, 1024), ("base", "fp32", LONGEST, 2048), ("base", "int8", LONGEST, 2048)],
)
def test_the_serverless_size_that_is_taken_is_enough(
    image: str, artefact: Callable[[str, str], Path], model: str, precision: str, tokens: int, size: int
) -> None:
    assert serverless_mb(choice(model), precision, tokens) == size
    smaller = [other for other in SERVERLESS_SIZES if other < size]
    assert all(promised_mb(model, precision, 1, tokens) > other * 1.048576 for other in smaller), "refused"
    limits = PLACES[f"serverless {size // 1024} GB"]
    served = serve(image, artefact(model, precision), limits, batches=4, tokens=tokens)
    assert (served.statuses, served.killed) == ({200}, 0)
