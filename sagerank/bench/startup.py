"""`sagerank bench startup`: from the start of a process to its first score, and of a server to its first /ping 200."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ..evaluation import EvaluationError
from ..evaluation.progress import Progress


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds since the parent asked for the process."""

    imported: float  # interpreter, numpy and the runtime are there
    loaded: float  # hashes verified, graph loaded, golden pairs checked, one full batch run
    scored: float  # one pair more
    ready: float  # of a server's process: its first /ping 200


@dataclass(frozen=True, slots=True)
class Row:
    model: str
    repeats: int
    median: Start
    longest: Start


def measure(
    models: dict[str, Path],
    *,
    repeats: int,
    threads: int,
    progress: Progress = lambda step, done, total: None,
) -> list[Row]:
    """models: name -> artefact folder. After one start that is not counted, files are in the page cache."""
    rows = []
    for name, folder in models.items():
        _start(folder, threads)
        starts = []
        for repeat in range(repeats):
            starts.append(_start(folder, threads))
            progress(name, repeat + 1, repeats)
        rows.append(Row(name, repeats, _each(starts, longest=False), _each(starts, longest=True)))
    return rows


def _each(starts: list[Start], *, longest: bool) -> Start:
    stages = {stage: [asdict(start)[stage] for start in starts] for stage in Start.__slots__}
    choose = max if longest else statistics.median
    return Start(**{stage: round(choose(seconds), 4) for stage, seconds in stages.items()})


def _start(folder: Path, threads: int) -> Start:
    from sagerank.models.local_server import serving

    # The monotonic clock is one for all processes of the machine.
    arguments = [sys.executable, "-m", __name__, str(folder), str(threads), str(time.monotonic())]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise EvaluationError(f"The measured process failed: {reason[0]}")
    with serving(folder, {"SAGERANK_THREADS": str(threads)}) as server:
        return Start(**json.loads(done.stdout), ready=server.start_seconds)


def main() -> None:
    folder, threads, began = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    from sagerank_inference.engine import Engine
    from sagerank_inference.onnx_model import OnnxModel  # noqa: F401 - the runtime, which loading would import
    from sagerank_inference.settings import Settings

    stages = {"imported": time.monotonic() - began}
    engine = Engine.load(folder, Settings(model_dir=folder, threads=threads))
    stages["loaded"] = time.monotonic() - began
    engine.score(
        "how do glaciers shape valleys", ["Alpine glaciers carve valleys and leave moraines of debris."]
    )
    stages["scored"] = time.monotonic() - began
    sys.stdout.write(json.dumps(stages))


if __name__ == "__main__":
    main()
