"""Writes model.onnx: the JinaBERT arithmetic for ONNX Runtime on CPU, over the bytes of model.safetensors.

The graph is written, not traced, because three things that make it fast and flat do not come out of an
exporter:

* Tokens are packed. Every linear layer, LayerNorm and GEGLU runs on [T, h], the real tokens of the batch one
  after the other; pairs are laid out as [B, P, h] for attention alone. Padding costs attention only, about 5
  % of the arithmetic at 150 tokens. Before the first attention each distinct token is computed once.
* Attention is that of `graph_attention`: long pairs in windows, so that no tensor has the size heads x P x P.
* The last layer computes row 0 of each pair only, the one the head reads, and no keys and values for it.

Weights are external data that points into model.safetensors: one copy on disk serves CPU and GPU, 16-bit
checkpoints stay 16-bit there, and the embedding table stays 16-bit and memory-mapped in the process too.

Inputs: input_ids [T] int64, lengths [B] int64 (sum T). Output: logits [B] float32.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from sagerank_inference.checkpoint import SCALE, CheckpointError, JinaBertConfig, check_tensors

from .graph_attention import Attention
from .graph_nodes import Nodes

_TYPES = {
    "F32": (TensorProto.FLOAT, 4),
    "F16": (TensorProto.FLOAT16, 2),
    "BF16": (TensorProto.BFLOAT16, 2),
    "I8": (TensorProto.INT8, 1),
}


def write(folder: Path, arithmetic: type[Graph] | None = None) -> None:
    """Write folder/model.onnx for folder/config.json and folder/model.safetensors (canonical names).

    arithmetic: the class of the graph; Graph, float32, by default. Raises CheckpointError where the tensors do
    not fit the configuration. Equal inputs give equal bytes.
    """
    config = JinaBertConfig.read(folder)
    graph = (arithmetic or Graph)(config, Weights(folder / "model.safetensors", config))
    model = helper.make_model(
        graph.build(),
        opset_imports=[helper.make_opsetid("", 24), helper.make_opsetid("com.microsoft", 1)],
        ir_version=11,
        producer_name="sagerank",
    )
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


class Weights:
    """Where each tensor lies in the safetensors file (8 bytes of header length, JSON header, data)."""

    def __init__(self, path: Path, config: JinaBertConfig) -> None:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(size))
        header.pop("__metadata__", None)
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items() if not name.endswith(SCALE)}
        check_tensors(config, shapes)
        self._name, self._start, self._entries = path.name, 8 + size, header

    def tensor(self, name: str, stored: str, rows: slice) -> TensorProto:
        """An initializer `name` over rows of the stored tensor; a slice of rows is a range of bytes."""
        entry = self._entries[stored]
        if entry["dtype"] not in _TYPES:
            raise CheckpointError(
                f"{stored} is stored as {entry['dtype']}; store weights as F32, F16, BF16, or I8 with scales."
            )
        stored_type, width = _TYPES[entry["dtype"]]
        first, last, _ = rows.indices(entry["shape"][0])
        row = width * math.prod(entry["shape"][1:])
        result = TensorProto(name=name, data_type=stored_type, dims=[last - first, *entry["shape"][1:]])
        result.data_location = TensorProto.EXTERNAL
        source = {
            "location": self._name,
            "offset": self._start + entry["data_offsets"][0] + first * row,
            "length": (last - first) * row,
        }
        for key, value in source.items():
            result.external_data.add(key=key, value=str(value))
        return result


class Graph(Nodes):
    """The nodes of a whole model, with its products in float32."""

    def __init__(self, config: JinaBertConfig, weights: Weights) -> None:
        super().__init__()
        self.config, self.weights = config, weights
        self.attention = Attention(self, config)

    def build(self) -> onnx.GraphProto:
        self.attention.layout()
        x = self._embed()
        for index in range(self.config.num_hidden_layers):
            x = self._layer(index, x)
        pooled = self.op("Tanh", [self._linear(x, "bert.pooler.dense")])
        logits = self._linear(pooled, "classifier")
        self.op("Reshape", [logits, self.integers(-1)], "logits")
        return helper.make_graph(
            self.nodes,
            "jina_bert",
            [
                helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["tokens"]),
                helper.make_tensor_value_info("lengths", TensorProto.INT64, ["pairs"]),
            ],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["pairs"])],
            self.initializers,
        )

    def weight(
        self, stored: str, rows: slice = slice(None), part: str = "", *, transposed: bool = False
    ) -> str:
        """The tensor as float32. ONNX Runtime folds what is done to a constant when it loads the graph."""
        name = value = stored + part
        stored_type = self._initializer(name, stored, rows)
        if transposed:  # as it is stored: all that is folded is held until the last constant is
            value = self.op("Transpose", [name], perm=[1, 0])
        if stored_type == TensorProto.FLOAT:
            return value
        value = self.op("Cast", [value], to=TensorProto.FLOAT)
        if stored_type == TensorProto.INT8:
            self._initializer(name + SCALE, stored + SCALE, rows)
            axis = self.integers(0 if transposed else 1)
            value = self.op("Mul", [value, self.op("Unsqueeze", [name + SCALE, axis])])
        return value

    def _initializer(self, name: str, stored: str, rows: slice = slice(None)) -> int:
        tensor = self.weights.tensor(name, stored, rows)
        self.initializers.append(tensor)
        return tensor.data_type

    def _linear(self, x: str, name: str) -> str:
        return self._product(x, f"{name}.weight", bias=f"{name}.bias")

    def _product(
        self, x: str, stored: str, rows: slice = slice(None), part: str = "", *, bias: str | None = None
    ) -> str:
        """Multiply x [T, in] by (rows of) a stored weight [out, in], transposed, add bias -> [T, out]."""
        # Gemm takes the weight as PyTorch stores it; MatMul would need a transposed copy.
        inputs = [x, self.weight(stored, rows, part)]
        return self.op("Gemm", inputs if bias is None else [*inputs, self.weight(bias)], transB=1)

    def _geglu(self, x: str, layer: str) -> str:
        f, gated = self.config.intermediate_size, f"{layer}.mlp.gated_layers.weight"
        # Two products over the two halves of one tensor: cheaper than one product and a split of its result.
        gate = self._product(x, gated, slice(0, f), ".gate")
        up = self._product(x, gated, slice(f, 2 * f), ".up")
        return self.op("Mul", [self.op("Gelu", [gate]), up])  # exact erf

    def _layer_norm(self, x: str, name: str) -> str:
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", [x, scale, shift], axis=-1, epsilon=self.config.layer_norm_eps)

    def _embed(self) -> str:
        """Embeddings [U, h] of the batch's distinct tokens, and "token" [T]: which of them each token is.

        ALiBi leaves no position in the embeddings: equal tokens are equal until the first attention, so all
        before it is computed once for each.
        """
        table = "bert.embeddings.word_embeddings.weight"
        vocabulary = self.integer(self.config.vocab_size)
        tokens, separator = "input_ids", self.config.segment_separator_id
        if separator is not None:
            tokens = self.op("Add", [tokens, self.op("Mul", [self._segments(separator), vocabulary])])
        self.nodes.append(helper.make_node("Unique", [tokens], ["distinct", "", "token"]))
        self.op("Gather", ["token", "pad"], "token_pad")  # [B, P]
        ids = self.op("Mod", ["distinct", vocabulary])
        stored_type = self._initializer(table, table)
        x = self.op("Gather", [table, ids])
        if stored_type != TensorProto.FLOAT:
            x = self.op("Cast", [x], to=TensorProto.FLOAT)  # the rows that are read, not the table
        if stored_type == TensorProto.INT8:
            self._initializer(table + SCALE, table + SCALE)
            scale = self.op("Gather", [table + SCALE, ids])
            x = self.op("Mul", [x, self.op("Unsqueeze", [scale, self.integers(1)])])
        segments = self.weight("bert.embeddings.token_type_embeddings.weight")
        segment = self.op("Gather", [segments, self.op("Div", ["distinct", vocabulary])])
        return self._layer_norm(self.op("Add", [x, segment]), "bert.embeddings.LayerNorm")

    def _segments(self, separator: int) -> str:
        """Segment 0 or 1 of each token [T]."""
        here = self.op("Equal", ["input_ids", self.integer(separator)])
        here = self.op("Cast", [here], to=TensorProto.INT64)
        # [T] separators so far, in all pairs
        before = self.op("CumSum", [here, self.integer(0)], exclusive=1)
        pair = self.op("Div", ["pack", "size"])  # [T]
        earlier = self.op("Gather", [self.op("Gather", [before, "first"]), pair])  # those of earlier pairs
        return self.op("Min", [self.op("Sub", [before, earlier]), self.integer(1)])

    def _layer(self, index: int, x: str) -> str:
        """Map x [T, h] (in the first layer [U, h]) to [T, h], in the last to [B, h], row 0 of each pair."""
        layer = f"bert.encoder.layer.{index}"
        if index == 0:
            every, pad = self.op("Gather", [x, "token"]), "token_pad"
        else:
            every, pad = x, "pad"
        if index == self.config.num_hidden_layers - 1:
            top = self.op("Gather", [every, "first"])
            projections = {
                f"{name}.{part}": self.weight(f"{layer}.attention.self.{name}.{part}")
                for name, part in itertools.product(("query", "key", "value"), ("weight", "bias"))
                if (name, part) != ("key", "bias")
            }
            context = self.attention.attend_first(top, self.op("Gather", [x, pad]), projections)
        else:
            top = every
            query, key, value = (
                self._linear(x, f"{layer}.attention.self.{name}") for name in ("query", "key", "value")
            )
            context = self.attention.attend_all(query, key, value, "token" if index == 0 else None, pad)
        dense = self._linear(context, f"{layer}.attention.output.dense")
        top = self._layer_norm(self.op("Add", [dense, top]), f"{layer}.attention.output.LayerNorm")
        down = self._linear(self._geglu(top, layer), f"{layer}.mlp.wo")
        return self._layer_norm(self.op("Add", [down, top]), f"{layer}.mlp.layernorm")
