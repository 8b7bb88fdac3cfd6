"""The servers that are measured: our own, and AWS's toolkit with the same handler. Each is a tree of processes."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sagerank.models.build import archive
from sagerank.models.local_server import Server, ServerError, running, serving
from sagerank_inference.archive import unpack

from ..evaluation import EvaluationError
from .process import PYTHON

_PROC = Path("/proc")
# AWS's launcher, but with its configuration beside the model and not in /etc, and on loopback alone.
_LAUNCHER = """
import sys, warnings
warnings.filterwarnings("ignore")
import sagemaker_inference.model_server as server
server.MMS_CONFIG_FILE = sys.argv[1]
real = server._generate_mms_config_properties
server._generate_mms_config_properties = lambda *a, **k: real(*a, **k).replace("http://0.0.0.0", "http://127.0.0.1")
server.start_model_server()
"""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that is ready, with its name in the tables."""

    name: str
    server: Server

    def processes(self) -> list[int]:
        """Its process ids; none on a system without /proc.

        Children may outlive the process that started them, as multi-model-server's Java does, but stay in its session.
        """
        pids = [int(path.name) for path in _PROC.glob("[0-9]*")]
        return [pid for pid in pids if (stat := _stat(pid)) and int(stat[3]) == self.server.pid]

    def counter(self, metric: str) -> float:
        """What its /metrics say of one without labels."""
        lines = [line.split() for line in self.server.read("/metrics").splitlines()]
        return next(float(line[1]) for line in lines if line and line[0] == metric)

    def cpu_seconds(self) -> float | None:
        """What all its processes have used since they started; None where the system does not say."""
        times = [int(stat[11]) + int(stat[12]) for pid in self.processes() if (stat := _stat(pid))]
        return sum(times) / os.sysconf("SC_CLK_TCK") if times else None  # user and system

    def memory_mb(self) -> float | None:
        """What all its processes hold, in 10^6 bytes; None where the system does not say.

        A page that several of them share counts once (proportional set size).
        """
        lines = [
            line.split()
            for pid in self.processes()
            for line in _read(_PROC / f"{pid}/smaps_rollup").splitlines()
        ]
        kilobytes = [int(fields[1]) for fields in lines if fields[0] == "Pss:"]
        return sum(kilobytes) * 1024 / 1e6 if kilobytes else None


def ours(
    model_dir: Path, *, threads: int = 0, request_seconds: float = 55.0, cache_mb: int = 0
) -> AbstractContextManager[Served]:
    """Our own server, as the container starts it. Raises EvaluationError where it does not start.

    cache_mb: of scores of pairs seen before. Without, requests may be sent again and again.
    """
    settings = {
        "SAGERANK_THREADS": str(threads),
        "SAGERANK_REQUEST_SECONDS": str(request_seconds),
        "SAGERANK_CACHE_MB": str(cache_mb),
    }
    return _served(
        f"sagerank, cache of {cache_mb} MB" if cache_mb else "sagerank", serving(model_dir, settings)
    )


@contextmanager
def toolkit(model_dir: Path, *, workers: int, threads: int) -> Iterator[Served]:
    """Multi-model-server of the SageMaker inference toolkit with sagerank_inference.handler: so many copies of the model, no batching.

    Raises EvaluationError where it cannot run here.
    """
    if shutil.which("java") is None:
        raise EvaluationError("multi-model-server needs Java, and there is no `java` here: install a JRE.")
    # The launcher looks for the `multi-model-server` command, which starts its workers' `python`.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    if shutil.which("multi-model-server", path=path) is None:
        raise EvaluationError(
            "The toolkit is not installed: pip install multi-model-server==1.1.11 sagemaker-inference==1.10.1 'setuptools<81'."
        )
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        packed = base / "model.tar.gz"
        archive(str(model_dir), packed, code=True)
        unpack(packed, base / "model", code=True)
        # Its workers read these settings alone: ours would be unknown to the copy of the code that they load.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SAGERANK_")}
        environment.pop("PYTHONPATH", None)
        environment |= {
            "PATH": path,
            "SAGEMAKER_PROGRAM": "sagerank_inference.handler",
            "SAGEMAKER_BASE_DIR": str(base),
            "SAGEMAKER_BIND_TO_PORT": str(port := _free_port()),
            "SAGEMAKER_MODEL_SERVER_WORKERS": str(workers),
            "SAGERANK_THREADS": str(max(1, threads // workers)),
            "TEMP": str(base),
        }
        command = [*PYTHON, "-c", _LAUNCHER, str(base / "mms.properties")]
        name = f"sagemaker-toolkit, {workers} {'copy' if workers == 1 else 'copies'}"
        with _served(name, running(name, command, environment, port=port, folder=base)) as served:
            yield served


@contextmanager
def _served(name: str, starting: AbstractContextManager[Server]) -> Iterator[Served]:
    try:
        with starting as server:
            yield Served(name, server)
    except ServerError as error:
        raise EvaluationError(str(error)) from None


def _free_port() -> int:
    """A free port below 32,768, where multi-model-server wants it."""
    for port in range(18_200, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise EvaluationError("No port of 18200 to 32000 is free on 127.0.0.1: stop a server.")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat, from the state on (the name before it may hold blanks); none where it has ended."""
    return _read(_PROC / f"{pid}/stat").rpartition(")")[2].split()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
