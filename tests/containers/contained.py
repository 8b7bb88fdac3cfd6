"""The server of a test in a container: `TEST_IMAGE=localhost/sagerank:cpu-amd64 pytest tests/inference/test_server.py`."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from containers.engine import options, podman
from sagerank.models.build import MICRO

from .running import MODEL, Limits, fenced

# As much as an ml.c7i.large has.
_LIMITS = Limits(cpus=2, memory_mb=4096)
# What a test may say of a process and a container has, too.
_SAME = {"stdout", "stderr", "encoding"}


class Contained(subprocess.Popen[str]):
    """`podman run`, attached: its output and exit status are the container's. Signals go to the server itself.

    The network is this machine's, so that connections are the server's own ends and no forwarder's; all else is shut off as for
    SageMaker. Micro is mounted where SageMaker puts a model, and another model where its variable says.
    """

    def __init__(self, image: str, variables: Mapping[str, str], word: str, **process: Any) -> None:
        if other := process.keys() - _SAME:
            pytest.skip(f"{', '.join(sorted(other))} of a process here: in a container there is none")
        folder = variables.get("SAGERANK_MODEL_DIR", "")
        volumes = [f"{folder}:{folder}:ro" if folder else f"{MICRO}:{MODEL}:ro"]
        self._scratch = tempfile.TemporaryDirectory(prefix="sagerank-container-")
        self._pid_file = Path(self._scratch.name, "pid")
        engine = podman()
        super().__init__(
            [
                *(engine.name, "run", "--rm", "--network", "host", "--pidfile", str(self._pid_file)),
                *fenced(_LIMITS),
                *options("--env", variables),
                *options("--volume", [] if folder and not Path(folder).exists() else volumes),
                *(image, word),
            ],
            env={**os.environ, **engine.environ},
            cwd=self._scratch.name,
            **process,
        )

    @property
    def server(self) -> int:
        """The container's first process, by this machine's numbers. Waits until there is one; 0 where none will be."""
        while self.poll() is None:
            if self._pid_file.exists() and (text := self._pid_file.read_text(encoding="ascii")):
                return int(text)
            time.sleep(0.01)
        return 0

    def send_signal(self, sig: int) -> None:
        if server := self.server:
            os.kill(server, sig)
