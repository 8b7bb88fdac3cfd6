"""forward of PyTorch: on CUDA, and on a CPU the same over pairs that are padded, in float32.

On a GPU from Ampere on (compute capability 8), attention is one compiled kernel over packed tokens. Older ones have no such kernel
(Triton's products left their matrix units in 3.3), and neither has a machine where it cannot be compiled: there attention is PyTorch's
own over padded pairs, more slowly and with the same scores. Which arithmetic a device gets is `torch_precision`'s to say.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from . import jina_bert
from .packed_bert import QUERY_ROWS, Batch, PackedJinaBert, layer
from .packing import Packed, pack
from .plan import plan
from .settings import SettingsError
from .torch_precision import AMPERE, TYPES, choose

# Of the device's memory that is free beside the weights; the rest is the allocator's to lose between shapes.
_SHARE = 0.6
_MOST_KERNELS = 64

log = logging.getLogger("sagerank")


class TorchModel:
    """The model on one device. `packed` says whether attention is FlexAttention's compiled kernel."""

    def __init__(
        self,
        model_dir: Path,
        *,
        device: str,
        threads: int,
        precision: str = "auto",
        packed: bool | None = None,
    ) -> None:
        """Load, choose an arithmetic, and compile where that is of use.

        precision: auto, fp32, bf16 or fp16. packed: compile attention, also on a CPU, or do not; None: as the device is best used.
        """
        cuda = device.startswith("cuda")
        if device == "cpu":
            torch.set_num_threads(threads)
        self._device = torch.device(device)
        if cuda and (self._device.index or 0) >= torch.cuda.device_count():
            raise SettingsError(
                f"The device is {device}, and PyTorch {torch.__version__} sees {torch.cuda.device_count()} GPUs here: look at "
                "`nvidia-smi`, install PyTorch's build for CUDA, start a container with `--gpus all`, or take the device cpu."
            )
        capability = torch.cuda.get_device_capability(device) if cuda else None
        # A batch is packed and copied while the device computes the one before.
        self.lanes = 2 if cuda else 1
        # CUDA's calls all come from one thread, and a compiler's state is a thread's own.
        self._launcher = ThreadPoolExecutor(1, "launcher")
        self._most_tokens = 0
        self._model: PackedJinaBert
        self.packed = False
        source = jina_bert.load(model_dir)

        def logits(name: str, pairs: Sequence[Sequence[int]]) -> list[float]:
            self._model = PackedJinaBert(source, TYPES[name]).eval().to(self._device)
            return self(pairs)

        self.precision, self.tolerance = choose(model_dir, precision, capability, logits)
        self._model = PackedJinaBert(source, TYPES[self.precision]).eval().to(self._device)
        if packed is None:
            packed = capability is not None and capability[0] >= AMPERE
        if packed:
            self._compile()
        if cuda:
            self._most_tokens = self._bound()
            log.warning(
                "%s: %s, attention %s, at most %d tokens at once",
                torch.cuda.get_device_name(device),
                self.precision,
                "packed" if self.packed else "padded",
                self._most_tokens,
            )

    def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
        """Return the logits of pairs of token ids, none of them empty. Up to `lanes` calls may run at once.

        A batch that would not fit the device's memory runs in parts. A pair beyond float16's range is computed again in float32.
        """
        if not batch:
            return []
        parts = (
            plan([len(pair) for pair in batch], max_tokens=self._most_tokens)
            if self._most_tokens
            else [range(len(batch))]
        )
        logits = [0.0] * len(batch)
        for part in parts:
            found = self._run([batch[index] for index in part])
            for index, logit in zip(part, found, strict=True):
                logits[index] = logit
        if self._model.dtype is torch.float16:
            # First by itself: what is infinite in one pair reaches others of its tiles as 0 x infinity.
            for dtype in (None, torch.float32):
                for index, logit in enumerate(logits):
                    if not math.isfinite(logit):
                        (logits[index],) = self._run([batch[index]], dtype)
        return logits

    def _run(self, batch: Sequence[Sequence[int]], dtype: torch.dtype | None = None) -> list[float]:
        config = self._model.config
        arrays = pack(batch, vocabulary=config.vocab_size, separator=config.segment_separator_id)
        result, done = self._launcher.submit(self._launch, arrays, dtype).result()
        if done is not None:
            done.synchronize()  # of this batch alone, and other threads run meanwhile
        logits: list[float] = result.tolist()
        return logits

    @torch.inference_mode()
    def _launch(self, arrays: Packed, dtype: torch.dtype | None) -> tuple[Tensor, torch.cuda.Event | None]:
        """Begin a batch: its logits in the host's memory, once the event has come to pass."""
        batch = Batch.of(arrays, self._device)
        packed = self.packed and dtype is None
        try:
            logits = self._model(batch, packed=packed, dtype=dtype)
        except torch.OutOfMemoryError:
            raise  # the batcher asks again for less
        except Exception as error:
            if not packed:
                raise
            self._give_up(error)
            logits = self._model(batch, packed=False)
        if self._device.type != "cuda":
            return logits, None
        host = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
        host.copy_(logits, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        return host, done

    def _compile(self) -> None:
        """Compile the layer for all sizes, and try it; where that fails, say so, and go on with padded pairs."""
        import torch._dynamo.config
        import torch._inductor.config

        torch._inductor.config.compile_threads = 1  # a handful of kernels needs no processes beside this one
        # Two kernels for each model of this process, the first layer's and the others'; sizes add none.
        torch._dynamo.config.recompile_limit = _MOST_KERNELS
        self._model.layer = torch.compile(layer, dynamic=True, fullgraph=True)
        self.packed = True
        # Of several tiles, and with fewer distinct tokens: sizes that are equal by chance would be compiled as equal.
        self._run([[1] * 300, [2] * 40, [1, 2, 3] * 90])

    def _give_up(self, error: Exception) -> None:
        self.packed = False
        self._model.layer = layer
        first = str(error).strip().partition("\n")[0][:200]
        log.warning(
            "FlexAttention cannot be used here, and pairs are padded instead, which is slower: %s: %s",
            type(error).__name__,
            first,
        )

    def _bound(self) -> int:
        """The tokens, padding included, that the device's free memory holds at once. An estimate from above."""
        config, (free, _) = self._model.config, torch.cuda.mem_get_info(self._device)
        h, f, size = config.hidden_size, config.intermediate_size, self._model.dtype.itemsize
        token = size * (4 * h + 3 * f) + 4 * 4 * h
        if not self.packed:  # queries, keys, values and context in float32, and ALiBi of a block of rows
            token += 4 * (5 * h + 2 * config.num_attention_heads * QUERY_ROWS)
        return max(1, int(_SHARE * free / token))
