"""A BERT in plain PyTorch, by its published names: what a student is cut out of, and whose hidden states it learns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sagerank_inference.jina_bert import segment_ids

from . import DistillationError

State = Mapping[str, Tensor]


def read_bert(folder: Path) -> dict[str, Tensor]:
    """Weights of a BERT folder under Hugging Face's names, from model.safetensors or from an (int8) model.onnx.

    Raises DistillationError where neither holds a BERT with 2-D word embeddings.
    """
    path = folder / "model.safetensors"
    if path.exists():
        from safetensors.torch import load_file

        state = {name: tensor.float() for name, tensor in load_file(path).items()}
    elif (folder / "model.onnx").exists():
        state = _from_onnx(folder / "model.onnx")
    else:
        raise DistillationError(f"{folder} holds neither model.safetensors nor model.onnx.")
    state = {
        name.replace(".gamma", ".weight").replace(".beta", ".bias"): tensor for name, tensor in state.items()
    }
    if not any(name.startswith("bert.") for name in state):
        state = {f"bert.{name}": tensor for name, tensor in state.items()}
    if "bert.embeddings.word_embeddings.weight" not in state:
        raise DistillationError(f"{folder} is not a BERT: it has no word embeddings.")
    return state


def _from_onnx(path: Path) -> dict[str, Tensor]:
    """Named initializers as they are; what the exporter renamed (transposed MatMul weights) by its node's name."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    values = {item.name: numpy_helper.to_array(item) for item in graph.initializer}

    def dequantised(name: str) -> np.ndarray[Any, Any]:
        if not name.endswith("_quantized"):
            return values[name]
        stem = name.removesuffix("_quantized")
        zero = values[f"{stem}_zero_point"].astype(np.float32)
        scaled: np.ndarray[Any, Any] = (values[name].astype(np.float32) - zero) * values[f"{stem}_scale"]
        return scaled

    state = {name: value for name, value in values.items() if name.endswith((".weight", ".bias"))}
    for node in graph.node:
        weight = next((name for name in node.input if name in values and values[name].ndim == 2), None)
        if weight is None:
            continue
        if node.op_type == "Gather" and weight.endswith(".weight_quantized"):
            state[weight.removesuffix("_quantized")] = dequantised(weight)
        elif node.op_type in ("MatMul", "MatMulInteger"):
            name = node.name.strip("/").rsplit("/", 1)[0].replace("/", ".")
            name = name if name.startswith(("bert.", "classifier")) else f"bert.{name}"
            # A Gemm keeps [out, in] with transB, which quantisation turns into a transposed MatMul.
            state[f"{name}.weight"] = dequantised(weight).T
    return {name: torch.from_numpy(np.array(value, np.float32)) for name, value in state.items()}


@dataclass(frozen=True, slots=True)
class Inside:
    """What a layer does to B pairs of S tokens: attention [B, n, S, S], neurons after GELU [B, S, f], and what comes out, [B, S, h]."""

    attention: Tensor
    neurons: Tensor
    states: Tensor


def layers(
    donor: State, ids: Tensor, segments: Tensor, lengths: Tensor, *, heads: int, depth: int
) -> Iterator[Inside]:
    """The first `depth` layers on right-padded pairs: ids and segments [B, S], of which `lengths` [B] are real."""

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, donor[f"{name}.weight"], donor[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], donor[f"{name}.weight"], donor[f"{name}.bias"], 1e-12)

    embeddings, count = "bert.embeddings", ids.shape[1]
    x = donor[f"{embeddings}.word_embeddings.weight"][ids]
    x = x + donor[f"{embeddings}.token_type_embeddings.weight"][segments]
    x = norm(x + donor[f"{embeddings}.position_embeddings.weight"][:count], f"{embeddings}.LayerNorm")
    real = torch.arange(count, device=ids.device) < lengths[:, None]
    padding = torch.zeros(real.shape, device=ids.device).masked_fill(~real, float("-inf"))[:, None, None]
    for index in range(depth):
        layer = f"bert.encoder.layer.{index}"
        query, key, value = (
            linear(x, f"{layer}.attention.self.{name}").view(*x.shape[:2], heads, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attention = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5 + padding).softmax(-1)
        context = (attention @ value).transpose(1, 2).flatten(2)
        dense = f"{layer}.attention.output"
        x = norm(linear(context, f"{dense}.dense") + x, f"{dense}.LayerNorm")
        neurons = F.gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(linear(neurons, f"{layer}.output.dense") + x, f"{layer}.output.LayerNorm")
        yield Inside(attention, neurons, x)


def segments(ids: Tensor, separator: int | None) -> Tensor:
    """Segment of each token of ids [B, S]; all 0 without a separator."""
    return torch.zeros_like(ids) if separator is None else segment_ids(ids, separator)


def depth(donor: State) -> int:
    """How many layers the donor has."""
    return 1 + max(int(name.split(".")[3]) for name in donor if name.startswith("bert.encoder.layer."))
