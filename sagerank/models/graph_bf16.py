"""model.onnx whose large products may run in bfloat16: the graph of `graph`, with a product that ONNX Runtime has in bfloat16 on Arm.

`mlas.enable_gemm_fastmath_arm64_bfloat16` rounds both factors of a product to bfloat16 and sums in float32, where the processor has
bfloat16's matrix product (Graviton3 and later); elsewhere the same graph is computed in float32. ONNX Runtime has it for MatMul, not for
Gemm, so the weights are transposed as the graph is loaded. The weights that are stored are the model's own.
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
from .graph_int8 import products


class Bf16Graph(graph.Graph):
    def __init__(self, config: JinaBertConfig, weights: graph.Weights) -> None:
        super().__init__(config, weights)
        self._bf16 = frozenset(products(config))

    def _product(
        self, x: str, stored: str, rows: slice = slice(None), part: str = "", *, bias: str | None = None
    ) -> str:
        if stored not in self._bf16:
            return super()._product(x, stored, rows, part, bias=bias)
        weight = self.op("Transpose", [self.weight(stored, rows, part)], perm=[1, 0])
        result = self.op("MatMul", [x, weight])
        return result if bias is None else self.op("Add", [result, self.weight(bias)])


class RoundedGraph(Bf16Graph):
    """What `Bf16Graph` gives on a processor with bfloat16, computed on any: factors are rounded by the graph itself.

    Slower than float32, and never served: the gate's error is that of this graph, so that a model passes or fails alike on all machines.
    Every MatMul rounds, the few of the last layer's attention too, as ONNX Runtime does.
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
