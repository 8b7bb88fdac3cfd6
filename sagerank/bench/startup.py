"""`sagerank bench startup`: from the start of a process to its first score, and of a server to its first /ping 200."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ..evaluation.progress import Progress
from .process import printed


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the request for a process to each of its stages."""

    imported: float  # interpreter, numpy and the runtime are there
    loaded: float  # hashes verified, graph loaded, golden pairs checked, one full batch run
    scored: float  # one pair more
    ready: float  # of a server's process: its first /ping 200


@dataclass(frozen=True, slots=True)
class Row:
    """The starts of one model, stage by stage."""

    model: str
    repeats: int
    median: Start
    longest: Start


def measure(
    models: dict[str, Path], *, repeats: int, threads: int, progress: Progress = lambda *_: None
) -> list[Row]:
    """Start the engine and the server of each model (name -> artefact folder) `repeats` times.

    One start that is not counted comes first, so that files are in the page cache.
    """
    rows = []
    for name, folder in models.items():
        _start(folder, threads)
        starts = []
        for repeat in range(repeats):
            starts.append(_start(folder, threads))
            progress(name, repeat + 1, repeats)
        rows.append(Row(name, repeats, _by_stage(statistics.median, starts), _by_stage(max, starts)))
    return rows


def _by_stage(choose: Callable[[list[float]], float], starts: list[Start]) -> Start:
    stages = {stage: [asdict(start)[stage] for start in starts] for stage in Start.__slots__}
    return Start(**{stage: round(choose(seconds), 4) for stage, seconds in stages.items()})


def _start(folder: Path, threads: int) -> Start:
    from ..models.local_server import serving  # not above: the measured process would import it too

    # The monotonic clock is one for all processes of the machine.
    stages = printed(__name__, folder, threads, time.monotonic())
    with serving(folder, {"SAGERANK_THREADS": str(threads)}) as server:
        return Start(**stages, ready=server.start_seconds)


def main() -> None:
    """The measured process: print the seconds at each of its stages."""
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
