"""The ceiling: what the fastest float32 matrix product at hand reaches here, with the same number of threads.

The products have the shapes of the family's linear layers over a thousand tokens. ONNX Runtime's
own Gemm, numpy's BLAS and PyTorch (where it is installed) are tried; the fastest pair of library and shape is the
ceiling, and is measured again in each round of a benchmark.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .process import Remote

# Rows, inner, columns: projections and MLP of Tiny and Turbo, and MLP of Base.
SHAPES = ((1024, 384, 384), (1024, 384, 1536), (1024, 1536, 384), (1024, 768, 3072), (1024, 3072, 768))
SEARCH_SECONDS = 0.1
ROUND_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product of one library, ready to run."""

    library: str
    shape: tuple[int, int, int]
    run: Callable[[], object]

    def rate(self, seconds: float) -> float:
        """GFLOP/s over at least so many seconds, after one product that warms up; a multiply-add counts two."""
        self.run()
        count, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            self.run()
            count += 1
        rows, inner, columns = self.shape
        return 2e-9 * count * rows * inner * columns / spent


class Sgemm:
    """The fastest product at hand, in the process that measures it."""

    def __init__(self, threads: int, device: str, precision: str) -> None:
        if device.startswith("cuda"):
            products = [_cuda(shape, device, precision) for shape in SHAPES]
        else:
            products = [
                product for shape in SHAPES for make in _LIBRARIES for product in make(shape, threads)
            ]
        self._best = max(products, key=lambda product: product.rate(SEARCH_SECONDS))

    def describe(self) -> str:
        return f"{self._best.library}, {' x '.join(map(str, self._best.shape))}"

    def rate(self) -> float:
        return self._best.rate(ROUND_SECONDS)


class Ceiling(Remote):
    """The fastest product in a process of its own. rates: GFLOP/s, one for each call of `measure`."""

    def __init__(self, threads: int, device: str = "", precision: str = "fp32") -> None:
        """precision: of the product on CUDA; on a CPU it is float32's whatever the precision."""
        # OpenBLAS and MKL read the number of their threads when they are loaded.
        names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
        super().__init__(Sgemm, threads, device, precision, environment=dict.fromkeys(names, str(threads)))
        self.what: str = self.call("describe")
        self.rates: list[float] = []

    def measure(self) -> None:
        """Add to `rates` what the product reaches now."""
        self.rates.append(self.call("rate"))


def _onnxruntime(shape: tuple[int, int, int], threads: int) -> Iterator[Product]:
    """The engine's linear layer: the weight is a constant, stored as PyTorch does."""
    if importlib.util.find_spec("onnx") is None:
        return
    from onnx import TensorProto, helper, numpy_helper

    from sagerank_inference.onnx_runtime import onnxruntime

    rows, inner, columns = shape
    weight = numpy_helper.from_array(_random(columns, inner), "weight")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight"], ["y"], transB=1)],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, inner])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, columns])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {"x": _random(rows, inner)}
    yield Product(f"ONNX Runtime {onnxruntime.__version__} Gemm", shape, lambda: session.run(None, feed))


def _numpy(shape: tuple[int, int, int], _threads: int) -> Iterator[Product]:
    import numpy as np

    rows, inner, columns = shape
    a, b = _random(rows, inner), _random(inner, columns)
    out = np.empty((rows, columns), np.float32)
    blas: Any = np.show_config(mode="dicts")
    name = blas["Build Dependencies"]["blas"]["name"]
    yield Product(f"numpy {np.__version__} with {name}", shape, lambda: np.matmul(a, b, out=out))


def _torch(shape: tuple[int, int, int], threads: int) -> Iterator[Product]:
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    torch.set_num_threads(threads)
    rows, inner, columns = shape
    a, weight = torch.rand(rows, inner), torch.rand(columns, inner)
    with torch.inference_mode():
        yield Product(
            f"PyTorch {torch.__version__} linear", shape, lambda: torch.nn.functional.linear(a, weight)
        )


def _cuda(shape: tuple[int, int, int], device: str, precision: str) -> Product:
    """A linear layer over sixteen times as many rows, as a GPU's batches have; a call ends when the device has."""
    import torch

    from sagerank_inference.torch_precision import TYPES

    rows, inner, columns = 16 * shape[0], *shape[1:]
    options: Any = {"device": device, "dtype": TYPES[precision]}
    a, weight = torch.rand(rows, inner, **options), torch.rand(columns, inner, **options)

    def run() -> None:
        for _ in range(16):
            torch.nn.functional.linear(a, weight)
        torch.cuda.synchronize(device)

    return Product(
        f"PyTorch {torch.__version__} linear in {precision} on {torch.cuda.get_device_name(device)}, 16 times",
        (16 * rows, inner, columns),
        run,
    )


def _random(rows: int, columns: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).random((rows, columns), np.float32)


_LIBRARIES = (_onnxruntime, _numpy, _torch)
