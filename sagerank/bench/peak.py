"""The process that `sagerank bench memory` measures: it loads a model, runs a batch on each core, and prints its own peak.

It runs as the engine does: a batch that is larger than the engine's runs alone.
Only the engine is imported here: whatever else this process held would count.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sagerank_inference.settings import Settings

STATUS = Path("/proc/self/status")


def main() -> None:
    folder, tokens, pairs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    backend, threads = sys.argv[4], int(sys.argv[5])
    from sagerank_inference.engine import load_forward

    settings = Settings(model_dir=folder, backend=backend, threads=threads)
    forward = load_forward(folder, settings)
    forward([[5] * 8])
    loaded = resident()
    lanes = forward.lanes if pairs * tokens <= settings.batch_tokens else 1
    batch = [[5 + index % 1000 for index in range(tokens)]] * pairs
    start = time.perf_counter()
    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(forward, [batch] * lanes))
    seconds = round(time.perf_counter() - start, 3)
    sys.stdout.write(json.dumps({"loaded_rss_mb": loaded, "peak_rss_mb": resident(), "seconds": seconds}))


def resident() -> float:
    """The peak of this process so far, in MB."""
    # Not getrusage: across exec, its maximum is that of the process that started this one.
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    kilobytes = int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    return round(kilobytes * 1024 / 1e6, 1)


if __name__ == "__main__":
    main()
