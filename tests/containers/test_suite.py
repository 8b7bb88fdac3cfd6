"""The server's own tests, with the image in place of a process of this checkout: what they ask, they ask through the container's port."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import ROOT

pytestmark = pytest.mark.container

# By hand, with the same variable: `make clients`, `make fuzz`, `make chaos` and `make soak`.
FILES = [f"tests/inference/test_{name}.py" for name in ("server", "routes", "connections")]
# What is about a process that is started otherwise than a container's: its folder, its user, signals that it ignores, its limits.
# tests/containers has the container's own.
PROCESSES = 4


def asked(image: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={folder}", *FILES, *more],
        cwd=ROOT,
        env={**os.environ, "TEST_IMAGE": image},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_image_passes_the_servers_tests(image: str, tmp_path: Path) -> None:
    done = last = asked(image, tmp_path)
    if "no logs from conmon" in done.stdout:  # podman made no container, as happens on a busy machine
        last = asked(image, tmp_path, "--last-failed")
    assert last.returncode == 0, last.stdout[-10_000:] + last.stderr[-2000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 100
    skipped = re.findall(r"^SKIPPED \[(\d+)\] (.*)", done.stdout, re.M)
    assert sum(int(count) for count, why in skipped if "of a process here" in why) == PROCESSES
    assert not [why for _, why in skipped if not re.search("of a process here|IPv6", why)]
