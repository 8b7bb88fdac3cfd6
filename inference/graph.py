"""Writes model.onnx: the JinaBERT arithmetic for ONNX Runtime on CPU, over the bytes of model.safetensors.

The graph is written, not traced, because three things that make it fast and flat do not come out of an
exporter:

* Tokens are packed. Every linear layer, LayerNorm and GEGLU runs on [T, h], the real tokens of the batch one
  after the other; pairs are laid out as [B, P, h] for attention alone. Padding costs attention only, about 5
  % of the arithmetic at 150 tokens.
* Attention is a Loop over blocks of query rows, whose ALiBi bias is made from positions and slopes inside the
  loop. No tensor has the size heads x P x P, so an 8,192-token pair is an ordinary request.
* The last layer computes row 0 of each pair only, the one the head reads.

Weights are external data that points into model.safetensors: one copy on disk serves CPU and GPU, 16-bit
checkpoints stay 16-bit there, and the embedding table stays 16-bit and memory-mapped in the process too.

Inputs: input_ids [T] int64, lengths [B] int64 (sum T). Output: logits [B] float32.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .checkpoint import SCALE, CheckpointError, JinaBertConfig, alibi_slopes, check_tensors

# Attention cells (pairs x rows x columns) per block: 12 heads of float32 make 25 MB of scores, whatever the
# length.
BLOCK_CELLS = 1 << 19
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
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)],
        ir_version=10,
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
        kind, width = _TYPES[entry["dtype"]]
        first, last, _ = rows.indices(entry["shape"][0])
        row = width * math.prod(entry["shape"][1:])
        result = TensorProto(name=name, data_type=kind, dims=[last - first, *entry["shape"][1:]])
        result.data_location = TensorProto.EXTERNAL
        place = {
            "location": self._name,
            "offset": self._start + entry["data_offsets"][0] + first * row,
            "length": (last - first) * row,
        }
        for key, value in place.items():
            result.external_data.add(key=key, value=str(value))
        return result


class Graph:
    """Collects nodes in the order of the computation. A method returns the name of the value it made."""

    def __init__(self, config: JinaBertConfig, weights: Weights) -> None:
        self.config, self.weights = config, weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._count = 0

    def build(self) -> onnx.GraphProto:
        self._layout()
        x = self._embed()
        for index in range(self.config.num_hidden_layers):
            x = self._layer(index, x, last=index == self.config.num_hidden_layers - 1)
        pooled = self.op("Tanh", [self._linear(x, "bert.pooler.dense")])
        logits = self._linear(pooled, "classifier")
        self.op("Reshape", [logits, self.constant("every", np.array([-1], np.int64))], "logits")
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

    # -- pieces of a graph
    # ------------------------------------------------------------------------------------------

    def op(
        self, kind: str, inputs: list[str], output: str | None = None, *, domain: str = "", **attributes: Any
    ) -> str:
        if output is None:
            self._count += 1
            output = f"{kind}_{self._count}"
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        if all(existing.name != name for existing in self.initializers):
            self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant("i_" + "_".join(map(str, values)), np.array(values, np.int64))

    def integer(self, value: int) -> str:
        return self.constant(f"n_{value}", np.array(value, np.int64))

    def weight(self, stored: str, rows: slice = slice(None), part: str = "") -> str:
        """The tensor as float32. ONNX Runtime folds what is done to a constant when it loads the graph."""
        name = stored + part
        kind = self._initializer(name, stored, rows)
        if kind == TensorProto.FLOAT:
            return name
        value = self.op("Cast", [name], to=TensorProto.FLOAT)
        if kind == TensorProto.INT8:
            self._initializer(name + SCALE, stored + SCALE, rows)
            value = self.op("Mul", [value, self.op("Unsqueeze", [name + SCALE, self.integers(1)])])
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
        """x [T, in] times (some rows of) a stored weight [out, in], transposed, plus bias -> [T, out]."""
        # Gemm takes the weight as PyTorch stores it; MatMul would need a transposed copy.
        inputs = [x, self.weight(stored, rows, part)]
        return self.op("Gemm", inputs if bias is None else [*inputs, self.weight(bias)], transB=1)

    def _geglu(self, x: str, layer: str) -> str:
        f, gated = self.config.intermediate_size, f"{layer}.mlp.gated_layers.weight"
        # Two products over the two halves of one tensor: cheaper than one product and a split of its result.
        gate = self._product(x, gated, slice(0, f), ".gate")
        up = self._product(x, gated, slice(f, 2 * f), ".up")
        return self.op("Mul", [self.op("Gelu", [gate]), up])  # exact erf

    def _norm(self, x: str, name: str) -> str:
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", [x, scale, shift], axis=-1, epsilon=self.config.layer_norm_eps)

    # -- the model, top to bottom
    # -----------------------------------------------------------------------------------

    def _layout(self) -> None:
        """Indices between the packed [T] and the padded [B, P] form, made once for all layers.

        P is the longest length S rounded up so that it splits into equal blocks: at most blocks - 1 rows
        more.
        """
        op = self.op
        pairs = op("Shape", ["lengths"], "pairs")  # [1]
        size = op("ReduceMax", ["lengths"], keepdims=0)  # S
        cells = op("Mul", [op("Mul", [size, size]), op("Squeeze", [pairs])])
        one = self.integer(1)
        blocks = op("Div", [op("Add", [cells, self.integer(BLOCK_CELLS - 1)]), self.integer(BLOCK_CELLS)])
        # A block is at least one row, so there are never more blocks than rows.
        op("Min", [blocks, size], "blocks")
        op("Div", [op("Sub", [op("Add", [size, "blocks"]), one]), "blocks"], "rows")
        op("Mul", ["rows", "blocks"], "padded")  # P
        op("Unsqueeze", ["rows", self.integers(0)], "rows_1d")
        position = op("Range", [self.integer(0), "padded", one], "position")  # [P]
        op("Cast", [position], "column", to=TensorProto.FLOAT)
        length = op("Unsqueeze", ["lengths", self.integers(1)])  # [B, 1]
        real = op("Less", [position, length])  # [B, P]
        first = op(
            "Sub", [op("CumSum", ["lengths", self.integer(0)]), "lengths"], "first"
        )  # [B] row of each pair's token 0
        padded_rows = op("Add", [op("Unsqueeze", [first, self.integers(1)]), position])  # [B, P]
        # A padding cell may read any real row: the mask removes it as a key, and nothing reads it as a query.
        tokens = op("Squeeze", [op("Shape", ["input_ids"])])
        op("Min", [padded_rows, op("Sub", [tokens, one])], "pad")
        # Row-major order over [B, P] is the packed order again.
        flat = op("Reshape", [real, self.integers(-1)])
        op("Squeeze", [op("NonZero", [flat]), self.integers(0)], "pack")  # [T]
        op("Cast", ["lengths"], "lengths_int32", to=TensorProto.INT32)

    def _embed(self) -> str:
        table = "bert.embeddings.word_embeddings.weight"
        kind = self._initializer(table, table)
        x = self.op("Gather", [table, "input_ids"])
        if kind != TensorProto.FLOAT:
            x = self.op("Cast", [x], to=TensorProto.FLOAT)  # the rows that are read, not the table
        if kind == TensorProto.INT8:
            self._initializer(table + SCALE, table + SCALE)
            scale = self.op("Gather", [table + SCALE, "input_ids"])
            x = self.op("Mul", [x, self.op("Unsqueeze", [scale, self.integers(1)])])
        return self._norm(self.op("Add", [x, self._segments()]), "bert.embeddings.LayerNorm")

    def _segments(self) -> str:
        """Segment embeddings, [1, h] or [T, h]."""
        table, separator = "bert.embeddings.token_type_embeddings.weight", self.config.segment_separator_id
        if separator is None:
            return self.weight(table, slice(0, 1))
        here = self.op(
            "Cast", [self.op("Equal", ["input_ids", self.integer(separator)])], to=TensorProto.INT64
        )
        before = self.op(
            "CumSum", [here, self.integer(0)], exclusive=1
        )  # [T] separators so far, in all pairs
        pair = self.op("Div", ["pack", "padded"])  # [T]
        earlier = self.op("Gather", [self.op("Gather", [before, "first"]), pair])  # those of earlier pairs
        segment = self.op("Min", [self.op("Sub", [before, earlier]), self.integer(1)])
        return self.op("Gather", [self.weight(table), segment])

    def _layer(self, index: int, x: str, *, last: bool) -> str:
        """x [T, h] -> [T, h], or [B, h] (row 0 of each pair) in the last layer."""
        layer = f"bert.encoder.layer.{index}"
        attention = f"{layer}.attention"
        top = self.op("Gather", [x, "first"]) if last else x
        query = self._linear(top, f"{attention}.self.query")
        key, value = (
            self.op("Gather", [self._linear(x, f"{attention}.self.{name}"), "pad"])
            for name in ("key", "value")
        )  # [B, P, h]
        if last:
            rows = self.op("Unsqueeze", [query, self.integers(1)])  # [B, 1, h]
            context = self._attend(
                self.nodes, f"last_{index}", rows, key, value, self.op("Cast", [self.integers(0)], to=1)
            )
            context = self.op("Squeeze", [context, self.integers(1)])
        else:
            context = self._blocks(index, self.op("Gather", [query, "pad"]), key, value)
        dense = self._linear(context, f"{attention}.output.dense")
        top = self._norm(self.op("Add", [dense, top]), f"{attention}.output.LayerNorm")
        down = self._linear(self._geglu(top, layer), f"{layer}.mlp.wo")
        return self._norm(self.op("Add", [down, top]), f"{layer}.mlp.layernorm")

    def _blocks(self, index: int, query: str, key: str, value: str) -> str:
        """Loop over blocks of R query rows: [B, P, h] each -> context [T, h]."""
        name = f"layer_{index}"
        body: list[onnx.NodeProto] = []

        def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
            body.append(helper.make_node(kind, inputs, [f"{name}_{output}"], **attributes))
            return f"{name}_{output}"

        start = node("Mul", [f"{name}_step", "rows_1d"], "start")
        stop = node("Add", [start, "rows_1d"], "stop")
        block = node("Slice", [query, start, stop, self.integers(1)], "query")
        row = node("Slice", ["column", start, stop, self.integers(0)], "row")
        self._attend(body, name, block, key, value, row)
        body.append(helper.make_node("Identity", [f"{name}_go"], [f"{name}_go_on"]))
        step = helper.make_tensor_value_info(f"{name}_step", TensorProto.INT64, [])
        go = helper.make_tensor_value_info(f"{name}_go", TensorProto.BOOL, [])
        go_on = helper.make_tensor_value_info(f"{name}_go_on", TensorProto.BOOL, [])
        h = self.config.hidden_size
        out = helper.make_tensor_value_info(f"{name}_context", TensorProto.FLOAT, [None, None, h])
        loop = helper.make_graph(body, name, [step, go], [go_on, out])
        stacked = self.op("Loop", ["blocks", ""], f"{name}_blocks", body=loop)  # [blocks, B, R, h]
        padded = self.op("Transpose", [stacked], perm=[1, 0, 2, 3])
        return self.op("Gather", [self.op("Reshape", [padded, self.integers(-1, h)]), "pack"])

    def _attend(
        self, nodes: list[onnx.NodeProto], name: str, query: str, key: str, value: str, row: str
    ) -> str:
        """Attention of query rows [B, R, h], at positions row [R], over key and value [B, P, h] -> [B, R, h]."""
        n = self.config.num_attention_heads
        slopes = self.constant("slopes", -np.array(alibi_slopes(n), np.float32).reshape(1, n, 1, 1))

        def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
            nodes.append(helper.make_node(kind, inputs, [f"{name}_{output}"], **attributes))
            return f"{name}_{output}"

        across = node("Unsqueeze", [row, self.integers(1)], "across")
        distance = node("Abs", [node("Sub", [across, "column"], "difference")], "distance")  # [R, P]
        bias = node("Mul", [slopes, distance], "bias")  # [1, n, R, P], added after scaling
        return node(
            "MultiHeadAttention",
            [query, key, value, "", "lengths_int32", bias],
            "context",
            domain="com.microsoft",
            num_heads=n,
            mask_filter_value=float(np.finfo(np.float32).min),
        )
