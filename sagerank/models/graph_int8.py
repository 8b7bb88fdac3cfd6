"""model.onnx whose large products run in int8: the graph of `graph`, with another product.

Weights are int8 with a float32 scale for each output, made once by `quantise`. Activations are uint8 around
128 with a scale for each token, computed at run time: a pair's score does not depend on the rest of its batch (but for float32's own rounding, see
`sagerank_inference.onnx_model`), no text is needed to calibrate, and the outliers that GEGLU gives to some tokens cost the others nothing. Embeddings,
attention, LayerNorm and GELU stay float32, as does what only token 0 takes part in: the last layer, the pooler and
the classifier are under 1 % of the arithmetic and next to the score.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sagerank_inference.checkpoint import SCALE, JinaBertConfig

from .graph import Graph, Weights

# Below it a row of activations counts as zero: its scale must not be 0.
_SMALLEST = 1e-30


def products(config: JinaBertConfig) -> Iterator[str]:
    """Names of the weights whose products are computed in int8."""
    for index in range(config.num_hidden_layers - 1):
        layer = f"bert.encoder.layer.{index}"
        for name in ("query", "key", "value"):
            yield f"{layer}.attention.self.{name}.weight"
        yield f"{layer}.attention.output.dense.weight"
        yield f"{layer}.mlp.gated_layers.weight"
        yield f"{layer}.mlp.wo.weight"


def quantise(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Split weight [out, in] into integers [out, in] and scale [out]: nearly integers * scale[:, None].

    x86 without VNNI multiplies bytes by vpmaddubsw, which adds the products of two neighbours in 16 bits and
    saturates: 255 * (127 + 127) would be wrong by half. The usual remedy is 7-bit weights. Only neighbours of
    equal sign can overflow, so the scale is chosen such that no two of them sum to more than 128: 255 * 128
    fits, sums are exact on every machine, and the steps are about a third finer than with 7 bits.
    """
    out, size = weight.shape
    pairs = np.pad(weight, ((0, 0), (0, size % 2))).reshape(out, -1, 2)
    reach = np.maximum(np.maximum(pairs, 0).sum(2), np.maximum(-pairs, 0).sum(2)).max(1)
    scale = np.maximum(reach, _SMALLEST) / np.float32(127)  # rounding adds at most 1/2 to each of the two
    return np.rint(weight / scale[:, None]).astype(np.int8), scale.astype(np.float32)


class Int8Graph(Graph):
    """x is quantised once for all products that read it. A scale of rows is [T], a column of it [T, 1]."""

    def __init__(self, config: JinaBertConfig, weights: Weights) -> None:
        super().__init__(config, weights)
        self._int8 = frozenset(products(config))
        self._rows: dict[str, tuple[str, str]] = {}  # value -> its integers and their scale
        self._owed: dict[str, str] = {}  # value -> scale [T] of its rows that is still to be applied

    def _product(
        self, x: str, stored: str, rows: slice = slice(None), part: str = "", *, bias: str | None = None
    ) -> str:
        if stored not in self._int8:
            return super()._product(x, stored, rows, part, bias=bias)
        result = self.op("Mul", [self._unscaled(x, stored, rows, part), self._column(x)])
        return result if bias is None else self.op("Add", [result, self.weight(bias)])

    def _geglu(self, x: str, layer: str) -> str:
        f, gated = self.config.intermediate_size, f"{layer}.mlp.gated_layers.weight"
        if gated not in self._int8:
            return super()._geglu(x, layer)
        gate = self._product(x, gated, slice(0, f), ".gate")
        up = self._unscaled(x, gated, slice(f, 2 * f), ".up")
        result = self.op("Mul", [self.op("Gelu", [gate]), up])
        # The rows are quantised next, each with a scale of its own: up's goes into that, a pass less.
        self._owed[result] = self._rows[x][1]
        return result

    def _unscaled(self, x: str, stored: str, rows: slice, part: str) -> str:
        """The product without the scale of x's rows."""
        integers, _ = self._quantised(x)
        name = stored + part
        self._initializer(name, stored, rows)
        self._initializer(name + SCALE, stored + SCALE, rows)
        return self.op(
            "MatMulIntegerToFloat",
            [
                integers,
                self.op("Transpose", [name], perm=[1, 0]),  # folded when the graph is loaded, still int8
                self.constant("one", np.array(1, np.float32)),
                name + SCALE,
                self.constant("zero_point", np.array(128, np.uint8)),
            ],
            domain="com.microsoft",
        )

    def _quantised(self, x: str) -> tuple[str, str]:
        """Quantise x [T, k] to uint8 around 128, with the scale [T] of its rows."""
        if x not in self._rows:
            largest = self.op("ReduceMax", [self.op("Abs", [x]), self.integers(-1)], keepdims=0)
            step = self.op("Mul", [largest, self.constant("step", np.array(1 / 127, np.float32))])
            step = self.op("Max", [step, self.constant("smallest", np.array(_SMALLEST, np.float32))])
            zero_points = self.op(
                "Expand", [self.constant("zero_point", np.array(128, np.uint8)), self.op("Shape", [step])]
            )
            integers = self.op("QuantizeLinear", [x, step, zero_points], axis=0)
            scale = self.op("Mul", [step, self._owed[x]]) if x in self._owed else step
            self._rows[x] = integers, scale
        return self._rows[x]

    def _column(self, x: str) -> str:
        return self.op("Unsqueeze", [self._quantised(x)[1], self.integers(1)])
