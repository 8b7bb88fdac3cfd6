"""forward on CPU: ONNX Runtime over model.onnx.

A batch to each core is faster than each batch on all cores: the short operations of a layer are over before a second
thread has come to help. Both must be had, since a request may be one pair, and the weights must not be held twice. So
of the calls that run at once, one is ONNX Runtime's ordinary run, whose operations may use every thread that idles,
and the others run inside its threads, where there is then nobody left to share with.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .onnx_runtime import onnxruntime
from .plan import apart

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of Linux: where it says what an Arm processor can do, and the bit of bfloat16's matrix product.
_AT_HWCAP2 = 26
_HWCAP2_BF16 = 1 << 14


class OnnxModel:
    tolerance = 1e-3  # of a logit, against the float32 reference

    def __init__(
        self, model_dir: Path, *, threads: int, shared_arena: bool = False, bfloat16: bool = False
    ) -> None:
        """Compute up to `threads` batches at once.

        shared_arena: memory is shared with other models of this process. bfloat16: products of MatMul may be computed in it, where
        `has_bfloat16`.
        """
        self.lanes = threads
        self._ordinary = threading.Lock()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # A memory pattern is kept for every shape ever seen, and shapes never repeat here: memory would grow
        # with traffic.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        # Threads wait actively for their next work. By default for so many rounds, which are 3 to 500 ms by the
        # processor, at the cost of whatever else wants the cores: the server, another model, the next call.
        options.add_session_config_entry("session.intra_op.spin_duration_us", "200")
        unwanted = []
        if bfloat16:
            options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "1")
            unwanted = ["MatMulAddFusion"]  # into Gemm, which has no such arithmetic
        if shared_arena:  # as large as the largest model needs
            _share_arena()
            options.add_session_config_entry("session.use_env_allocators", "1")
        self._session = onnxruntime.InferenceSession(
            os.fsencode(model_dir / "model.onnx").decode(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=unwanted,
        )

    def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
        """Return the logits of pairs of token ids, none of them empty. Up to `lanes` calls may run at once.

        Long pairs run one by one: windows that fit a whole batch round attention's last digits otherwise than a pair's own, and what an
        int8 model rounds next may then move by a whole step. So only the last layer, which is float32, depends on the company, by
        some 3e-6 of a logit.
        """
        logits = [0.0] * len(batch)
        for part in apart([len(pair) for pair in batch]):
            for index, logit in zip(part, self._run([batch[index] for index in part]), strict=True):
                logits[index] = logit
        return logits

    def _run(self, batch: Sequence[Sequence[int]]) -> list[float]:
        inputs = feed(batch)
        if self._ordinary.acquire(blocking=self.lanes == 1):
            try:
                logits = self._session.run(["logits"], inputs)[0]
            finally:
                self._ordinary.release()
        else:
            answer: Future[Any] = Future()
            self._session.run_async(["logits"], inputs, _settle, answer)
            logits = answer.result()[0]
        return logits.tolist()  # type: ignore[no-any-return]


def feed(batch: Sequence[Sequence[int]]) -> dict[str, NDArray[np.int64]]:
    """Return a batch of pairs of token ids as the graph takes it: all ids one after the other, and the length of each pair."""
    return {
        # Without a loop over tokens.
        "input_ids": np.concatenate([np.asarray(pair, np.int64) for pair in batch]),
        "lengths": np.fromiter(map(len, batch), np.int64, len(batch)),
    }


def has_bfloat16() -> bool:
    """Whether ONNX Runtime has products in bfloat16 here: on Linux for Arm whose processor has them; elsewhere it computes float32."""
    if sys.platform != "linux" or platform.machine() != "aarch64":
        return False
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    return bool(getauxval(_AT_HWCAP2) & _HWCAP2_BF16)


def _settle(outputs: Any, answer: Future[Any], error: str) -> None:
    """Hand over the outputs or the error of a run; ONNX Runtime calls it in one of its threads."""
    if error:
        answer.set_exception(RuntimeError(error))
    else:
        answer.set_result(outputs)


@cache
def _share_arena() -> None:
    """Make the arena from which sessions take their activations where they ask for it; once in a process."""
    arena = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", arena, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(memory, None)
