"""What a container prints, in the local CloudWatch Logs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from botocore.exceptions import ClientError

from containers.engine import Engine

from .place import Place
from .resources import client


class Stream:
    """A log stream of one container; made, with its group, when there is something to write."""

    def __init__(self, region: str, place: Place) -> None:
        self._logs, self._group = client("logs", region), place.log_group
        self._name = f"{place.name}/i-{uuid.uuid4().hex[:17]}"
        self._made = False

    def write(self, *lines: str) -> None:
        if not self._made:
            for make, more in (
                (self._logs.create_log_group, {}),
                (self._logs.create_log_stream, {"logStreamName": self._name}),
            ):
                with suppress(ClientError):  # it is there already
                    make(logGroupName=self._group, **more)
            self._made = True
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": line} for line in lines if line]
        self._logs.put_log_events(logGroupName=self._group, logStreamName=self._name, logEvents=events)

    def follow(self, engine: Engine, container: str) -> Callable[[], None]:
        """Write what a container prints from now on; call what is returned when it has ended."""
        reader = subprocess.Popen(
            [engine.name, "logs", "--follow", container],
            env={**os.environ, **engine.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

        def copy() -> None:
            assert reader.stdout is not None
            for line in reader.stdout:
                sys.stderr.write(line)
                if text := line.rstrip():
                    self.write(text)

        thread = threading.Thread(target=copy, daemon=True)
        thread.start()

        def end() -> None:
            with suppress(subprocess.TimeoutExpired):
                reader.wait(5)
            reader.kill()
            reader.wait()
            thread.join(5)

        return end
