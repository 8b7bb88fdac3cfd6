"""model.onnx whose large products may run in bfloat16: the graph of `graph`, with a product that ONNX Runtime has in bfloat16 on Arm.

`mlas.enable_gemm_fastmath_arm64_bfloat16` rounds both factors of a product to bfloat16 and sums in float32, where the processor has
bfloat16's matrix product (Graviton3 and later); elsewhere the same graph is computed in float32. ONNX Runtime has it for MatMul, not for
Gemm, so the weights are transposed as the graph is loaded. The weights that are stored are the model's own.

What the last layer computes for token 0 stays float32, as in int8. It has to: where the right factor of a MatMul is no matrix that
is known when the graph is loaded, ONNX Runtime 1.32 gives wrong products in bfloat16, of sums over more than 256 terms with at most 64
columns for a thread (docs/benchmarks.md, "bfloat16 on Arm"). So a MatMul here always has such a matrix.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnx import TensorProto

from sagerank_inference.artefact import Manifest, sha256
from sagerank_inference.checkpoint import JinaBertConfig

from . import graph
from .graph_attention import Attention
from .graph_int8 import products


class Float32Attention(Attention):
    """Attention whose last layer has no MatMul, and is not computed in bfloat16."""

    def _by_weight(self, x: str, weight: str) -> str:
        # ONNX Runtime does not take bfloat16 where the right factor is given transposed.
        transposed = self.nodes.op("Transpose", [weight], perm=[0, 2, 1])
        return self.nodes.op("FusedMatMul", [x, transposed], domain="com.microsoft", transB=1)

    def _mix(self, folded: str, x: str) -> str:
        """As attention whose heads share x as their keys and their values."""
        op, n, h = self.nodes.op, self.config.num_attention_heads, self.config.hidden_size
        query = op("Reshape", [folded, self.nodes.integers(-1, 1, n * h)])
        bias = op(
            "Unsqueeze", [op("Mul", [self._slopes(n, 1), "place"]), self.nodes.integers(0, 2)]
        )  # [1, n, 1, P]
        inputs = [query, x, x, bias, "", "", "lengths"]
        mixed = op("Attention", inputs, q_num_heads=n, kv_num_heads=1, scale=1.0)
        return op("Reshape", [mixed, self.nodes.integers(-1, n, h)])


class Bf16Graph(graph.Graph):
    def __init__(self, config: JinaBertConfig, weights: graph.Weights) -> None:
        super().__init__(config, weights)
        self.attention = Float32Attention(self, config)
        self._bf16 = frozenset(products(config))

    def _product(
        self, x: str, stored: str, rows: slice = slice(None), part: str = "", *, bias: str | None = None
    ) -> str:
        if stored not in self._bf16:
            return super()._product(x, stored, rows, part, bias=bias)
        result = self.op("MatMul", [x, self.weight(stored, rows, part, transposed=True)])
        return result if bias is None else self.op("Add", [result, self.weight(bias)])


class RoundedGraph(Bf16Graph):
    """What `Bf16Graph` gives on a processor with bfloat16, computed on any: factors are rounded by the graph itself.

    Slower than float32, and never served: the gate's error is that of this graph, so that a model passes or fails alike on all machines.
    """

    def op(
        self, op: str, inputs: list[str], output: str | None = None, *, domain: str = "", **attributes: Any
    ) -> str:
        if op == "MatMul":
            inputs = [self._rounded(name) for name in inputs]
        return super().op(op, inputs, output, domain=domain, **attributes)

    def _rounded(self, value: str) -> str:
        return self.op("Cast", [self.op("Cast", [value], to=TensorProto.BFLOAT16)], to=TensorProto.FLOAT)


def convert(reference: Path, folder: Path, arithmetic: type[graph.Graph] = Bf16Graph) -> Manifest:
    """Write the bfloat16 form of a float32 artefact into an existing folder, all but its manifest, which is returned.

    The manifest keeps the golden logits of the reference; its tolerance is still that of float32.
    """
    manifest = Manifest.read(reference)
    for name in manifest.files.keys() - {"model.onnx"}:
        shutil.copyfile(reference / name, folder / name)
    graph.write(folder, arithmetic)
    return replace(manifest, files={name: sha256(folder / name) for name in manifest.files}, precision="bf16")
