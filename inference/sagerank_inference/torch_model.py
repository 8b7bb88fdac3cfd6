"""forward on CUDA, and on CPU where PyTorch is the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from . import jina_bert
from .artefact import MANIFEST, Manifest


class TorchModel:
    lanes = 1

    def __init__(self, model_dir: Path, *, device: str, threads: int) -> None:
        # bfloat16 has float32's range, so that no weights overflow it. float16 is nearer to float32 and held on every model tried,
        # but it ends at 65,504, and how near trained weights come to that was not measured. A GPU before Ampere (T4, V100)
        # only emulates bfloat16, slower than float32. On CPU, PyTorch is here to be exact.
        fast = device.startswith("cuda") and torch.cuda.get_device_capability(device)[0] >= 8
        dtype = torch.bfloat16 if fast else torch.float32
        self.tolerance = 1e-3
        if fast and (model_dir / MANIFEST).is_file():
            self.tolerance = Manifest.read(model_dir).bfloat16_tolerance
        if device == "cpu":
            torch.set_num_threads(threads)
        self._device = torch.device(device)
        self._model = jina_bert.load(model_dir, dtype).to(self._device)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
        """Return the logits of pairs of token ids, none of them empty."""
        lengths = torch.tensor([len(pair) for pair in batch])
        ids = torch.zeros(len(batch), int(lengths.max()), dtype=torch.int64)
        for row, pair in zip(ids, batch, strict=True):
            row[: len(pair)] = torch.tensor(pair)
        logits: list[float] = self._model(ids.to(self._device), lengths.to(self._device)).tolist()
        return logits
