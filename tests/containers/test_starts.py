"""It starts under every place's limits, as any user, with nothing to write to and nobody to reach, and scores as it should."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sagerank.models.build import MICRO

from . import golden
from .places import PLACES
from .running import MODEL, Running, running

pytestmark = pytest.mark.container

# SageMaker's, the image's other, and one that the image does not know.
USERS = ("0", "1000", "54321")
FOLDERS = ("/", "/tmp", "/run", "/var/tmp", "/home/sagerank", "/opt/program", MODEL)


def wrong(container: Running) -> list[str]:
    """What the container has that it should not: interfaces beside loopback, and folders that its user can write to."""
    lines = Path(f"/proc/{container.pid}/net/dev").read_text(encoding="ascii").splitlines()[2:]
    found = [name for line in lines if (name := line.split(":")[0].strip()) != "lo"]
    return [*found, *filter(container.writes, FOLDERS)]


@pytest.mark.parametrize(
    ("place", "user"),
    [
        *(("ml.c7i.large", user) for user in USERS),
        *((place, USERS[number % 3]) for number, place in enumerate(PLACES) if place != "ml.c7i.large"),
    ],
)
def test_it_starts_and_scores_the_golden_pairs(image: str, place: str, user: str) -> None:
    with running(image, limits=PLACES[place], user=user, mounts={MICRO: MODEL}) as container:
        container.ready()
        uid = Path(f"/proc/{container.worker}/status").read_text(encoding="ascii").split("Uid:\t")[1]
        assert uid.startswith(f"{user}\t")
        assert golden.worst(container, MICRO) < 1e-3
        assert not wrong(container)
        assert container.stop() == 0
        assert {entry["event"] for entry in container.events()} == {"ready", "request"}


def test_it_leaves_no_file_where_it_could(image: str) -> None:
    with running(image, mounts={MICRO: MODEL}, read_only=False) as container:
        container.ready()
        assert container.post()[0] == 200
        # What podman itself puts there to mount on, and nothing else.
        changed = set(container.engine.run("diff", container.id).stdout.decode().splitlines())
        assert changed <= {"C /etc", "C /opt", "A /opt/ml", f"A {MODEL}"}


def test_a_place_without_a_model_says_so(image: str) -> None:
    with running(image) as container, pytest.raises(RuntimeError) as caught:
        container.ready()
    assert "is /opt/ml/model, which cannot be opened (No such file or directory)" in str(caught.value)
    assert "'ExitCode': 2" in str(caught.value)


def test_what_is_looked_for_is_found(image: str) -> None:
    """Of the tests above: a folder that can be written to, and a network, would be seen."""
    with running(image, mounts={MICRO: MODEL}, read_only=False, network="host") as container:
        container.ready()
        assert set(wrong(container)) >= {"/tmp", "/run"} | set(os.listdir("/sys/class/net")) - {"lo"}
