"""`sagerank bench memory`: the peak resident memory of one pair of so many tokens, measured in a process of
its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from inference.settings import Settings


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    """Megabytes are 10^6 bytes, of the whole process: interpreter, runtime, weights, activations."""

    model: str
    backend: str
    tokens: int
    threads: int
    loaded_rss_mb: float  # peak until the artefact is loaded
    peak_rss_mb: float
    seconds: float  # of the forward


def measure(folder: Path, model: str, tokens: int, settings: Settings) -> MemoryPoint:
    """Run the child; what this process has loaded (PyTorch, to build a model) does not count."""
    arguments = [
        sys.executable,
        "-m",
        __name__,
        str(folder),
        model,
        str(tokens),
        settings.backend,
        str(settings.threads),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise RuntimeError(f"The measured process failed: {reason[0]}")
    return MemoryPoint(**json.loads(done.stdout))


def main() -> None:
    folder, model, tokens, backend, threads = (
        Path(sys.argv[1]),
        sys.argv[2],
        int(sys.argv[3]),
        sys.argv[4],
        int(sys.argv[5]),
    )
    from inference.engine import load_forward

    forward = load_forward(folder, Settings(model_dir=folder, backend=backend, threads=threads))
    forward([[5] * 8])
    loaded = _peak()
    start = time.perf_counter()
    forward([[5 + index % 1000 for index in range(tokens)]])
    point = MemoryPoint(
        model, backend, tokens, threads, loaded, _peak(), round(time.perf_counter() - start, 3)
    )
    sys.stdout.write(json.dumps(asdict(point)))


def _peak() -> float:
    # Not getrusage: across exec, its maximum is that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    kilobytes = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    return round(kilobytes * 1024 / 1e6, 1)


if __name__ == "__main__":
    main()
