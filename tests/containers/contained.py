"""The server of a test in a container: `TEST_IMAGE=localhost/sagerank:cpu-amd64 pytest tests/inference/test_server.py`."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from containers.engine import options, podman
from sagerank.models.build import MICRO

from ..conftest import ROOT
from .running import MODEL, Limits, fenced

_FOLDER = ROOT / "build" / "containers" / "contained"
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
        _FOLDER.mkdir(parents=True, exist_ok=True)
        self._pid, self._pid_file = 0, _FOLDER / secrets.token_hex(6)
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
            cwd=_FOLDER,  # podman's monitor leaves a file where memory runs out
            **process,
        )

    @property
    def server(self) -> int:
        """The container's first process, by this machine's numbers. Waits until there is one; 0 where none will be."""
        while not self._pid and self.poll() is None:
            with suppress(OSError, ValueError):
                self._pid = int(self._pid_file.read_text(encoding="ascii"))
                self._pid_file.unlink()
            time.sleep(0.01)
        return self._pid

    def send_signal(self, sig: int) -> None:
        if self.poll() is None and (server := self.server):
            with suppress(ProcessLookupError):  # it has ended, and podman is about to
                os.kill(server, sig)
