"""The written graphs: equal bytes in float32, what the int8 products compute, and how the bfloat16 ones round."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from sagerank.models import graph, graph_bf16, graph_int8
from sagerank.models.build import MICRO
from sagerank.models.graph_nodes import Nodes


def multiply(integers: NDArray[np.uint8], weight: NDArray[np.int8]) -> NDArray[np.int32]:
    """[T, k] times [out, k] transposed, by the kernel that serves."""
    from sagerank_inference.onnx_runtime import onnxruntime

    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    given = helper.make_tensor_value_info("x", TensorProto.UINT8, ["t", weight.shape[1]])
    got = helper.make_tensor_value_info("y", TensorProto.INT32, ["t", weight.shape[0]])
    constant = onnx.numpy_helper.from_array(np.ascontiguousarray(weight.T), "w")
    model = helper.make_model(
        helper.make_graph([node], "product", [given], [got], [constant]),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"x": integers})
    return np.asarray(product)


@pytest.mark.parametrize("size", [64, 384, 49])
@pytest.mark.parametrize("rows", [1, 5, 64])
def test_the_worst_activations_do_not_saturate_the_kernel(size: int, rows: int) -> None:
    generator = np.random.default_rng(size)
    worst = [
        np.ones(size),  # the largest equal neighbours there are
        -np.ones(size),
        np.where(np.arange(size) % 2, 1.0, -1.0),  # neighbours of opposite sign keep all 8 bits
        np.eye(1, size)[0],
        *generator.standard_normal((12, size)),
    ]
    weight, scale = graph_int8.quantise(np.array(worst, np.float32))
    x = np.full((rows, size), 255, np.uint8)
    x[:, generator.random(size) < 0.1] = 0
    assert (multiply(x, weight) == x.astype(np.int64) @ weight.astype(np.int64).T).all()
    assert np.abs(weight[2:4]).max(1).tolist() == [127, 127]
    error = np.abs(weight * scale[:, None] - np.array(worst, np.float32))
    assert (error <= scale[:, None] * 0.501).all()


def test_neighbours_of_equal_sign_leave_room_for_any_activation() -> None:
    weight = np.random.default_rng(0).standard_normal((500, 96)).astype(np.float32)
    integers, scale = graph_int8.quantise(weight)
    pairs = integers.astype(np.int64).reshape(500, -1, 2)
    assert np.maximum(pairs, 0).sum(2).max() <= 128
    assert np.minimum(pairs, 0).sum(2).min() >= -128
    seven_bits = np.abs(weight).max(1) / 64
    assert (scale / seven_bits).mean() < 0.8


def test_a_row_of_zeros_stays_zero() -> None:
    integers, scale = graph_int8.quantise(np.zeros((2, 8), np.float32))
    assert not integers.any()
    assert np.isfinite(scale).all()


def test_the_float32_graph_is_as_it_was(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(MICRO / name)
    graph.write(tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == (MICRO / "model.onnx").read_bytes()


def rounded(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The nearest numbers of eight bits, to even where two are as near."""
    fraction, exponent = np.frexp(values.astype(np.float64))
    nearest: NDArray[np.float64] = np.ldexp(np.rint(fraction * 256), exponent - 8)
    return nearest


def test_the_gates_graph_rounds_both_factors_of_a_product_to_bfloat16() -> None:
    """Nor does ONNX Runtime optimise the rounding away."""
    from sagerank_inference.onnx_runtime import onnxruntime

    generator = np.random.default_rng(0)
    x, weight = (generator.standard_normal(shape, np.float32) for shape in ((5, 64), (64, 48)))
    nodes = graph_bf16.RoundedGraph.__new__(graph_bf16.RoundedGraph)
    Nodes.__init__(nodes)
    nodes.op("MatMul", ["x", nodes.constant("weight", weight)], "y")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["t", 64])
    got = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["t", 48])
    model = helper.make_model(
        helper.make_graph(nodes.nodes, "product", [given], [got], nodes.initializers),
        opset_imports=[helper.make_opsetid("", 24)],
        ir_version=11,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"x": x})
    expected = rounded(x) @ rounded(weight)
    assert np.abs(product - expected).max() < 1e-4 < 1e-2 < np.abs(product - x @ weight).max()


def test_bf16_multiplies_by_the_large_weights_alone_where_onnx_runtime_computes_in_it(tmp_path: Path) -> None:
    """Of factors that are not known when the graph is loaded it gives wrong products."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(MICRO / name)
    found = []
    for arithmetic in (graph.Graph, graph_bf16.Bf16Graph):
        graph.write(tmp_path, arithmetic)
        nodes = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph.node
        made_by = {name: node for node in nodes for name in node.output}
        factors = [made_by[node.input[1]] for node in nodes if node.op_type == "MatMul"]
        found.append(([node.op_type for node in nodes].count("Gemm"), factors))
    (gemms, _), (fewer, factors) = found
    # The first layer in full: query, key, value, output, gate, up, down. Each by a matrix, transposed in the bytes that are stored.
    assert len(factors) == gemms - fewer == 7
    for factor in factors:
        scaled, transposed = (made_by[made_by[name].input[0]] for name in (factor.output[0], factor.input[0]))
        assert (factor.op_type, scaled.op_type, transposed.op_type) == ("Mul", "Cast", "Transpose")
        assert transposed.input[0] not in made_by


def test_bf16_computes_what_float32_does_on_a_processor_without_it(tmp_path: Path) -> None:
    """Pairs of several lengths in a batch, and long ones, whose attention is in windows."""
    from sagerank_inference.onnx_model import OnnxModel, has_bfloat16

    if has_bfloat16():
        pytest.skip("this processor has bfloat16")
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(MICRO / name, tmp_path / name)
    graph.write(tmp_path, graph_bf16.Bf16Graph)
    generator = np.random.default_rng(0)
    short, long = (
        [generator.integers(1000, 30_000, size).tolist() for size in sizes]
        for sizes in ((9, 40, 3), (700, 1500))
    )
    models = [OnnxModel(MICRO, threads=1), OnnxModel(tmp_path, threads=1, bfloat16=True)]
    for batch in (short, long):
        exact, other = (model(batch) for model in models)
        assert np.abs(np.subtract(exact, other)).max() < 1e-4
