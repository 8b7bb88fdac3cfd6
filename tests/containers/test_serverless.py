"""A stand-in for a serverless endpoint: no /sys, no /dev/shm, an unprivileged user, and /tmp alone to write to.

What AWS runs there is not known in detail; each of these was missing on some platform that runs containers as functions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from . import golden
from .places import PLACES
from .running import MODEL, running

pytestmark = pytest.mark.container

BARE = [
    *("--security-opt", "mask=/sys:/dev/shm"),
    *("--security-opt", "no-new-privileges", "--cap-drop", "ALL"),
    *("--tmpfs", "/tmp"),
]


@pytest.mark.parametrize(
    ("model", "precision", "place"),
    [
        ("micro", "fp32", "serverless 1 GB"),
        ("tiny", "fp32", "serverless 1 GB"),
        ("tiny", "int8", "serverless 3 GB"),
    ],
)
def test_it_serves(
    image: str, artefact: Callable[[str, str], Path], model: str, precision: str, place: str
) -> None:
    folder = artefact(model, precision)
    with running(
        image, user="54321:54321", more=BARE, mounts={folder: MODEL}, limits=PLACES[place]
    ) as container:
        container.ready()
        assert golden.worst(container, folder) < (1e-3 if precision == "fp32" else 0.1)
        found = container.execute(
            "python", "-c", "import os; print(os.listdir('/sys'), os.listdir('/dev/shm'))", user="54321"
        )
        assert found.split() == ["[]", "[]"]
        assert container.writes("/tmp")
        assert not any(map(container.writes, ("/", "/dev/shm", "/var/tmp", "/run", "/home/sagerank")))
        assert container.stop() == 0
