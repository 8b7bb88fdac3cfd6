"""forward on CPU: ONNX Runtime over model.onnx."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime


class OnnxModel:
    tolerance = 1e-3  # of a logit, against the float32 reference

    def __init__(self, model_dir: Path, *, threads: int, company: bool = False) -> None:
        """company: other models compute in this process, in turn with this one."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # A memory pattern is kept for every shape ever seen, and shapes never repeat here: memory would grow
        # with traffic.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        if company:
            # One arena for all, as large as the largest needs, and no thread that spins while another model works.
            _share_arena()
            options.add_session_config_entry("session.use_env_allocators", "1")
            options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(
            str(model_dir / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
        """Token ids of each pair, none empty -> logits."""
        lengths = np.fromiter(map(len, batch), np.int64, len(batch))
        ids = np.concatenate(
            [np.asarray(pair, np.int64) for pair in batch]
        )  # packed arrays without a loop over tokens
        logits = self._session.run(["logits"], {"input_ids": ids, "lengths": lengths})[0]
        return logits.tolist()  # type: ignore[no-any-return]


@cache
def _share_arena() -> None:
    """Once a process: sessions that ask for it take their activations from one arena."""
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(place, None)
