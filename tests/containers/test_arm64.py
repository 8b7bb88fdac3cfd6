"""The image for Graviton, emulated by qemu: it starts, scores the golden pairs, and multiplies integers exactly. No speed is meant.

It takes minutes, and to make the stand-in for Arm some more: `make container-arm64`, which sets SAGERANK_TEST_ARM64, asks for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from containers import emulation
from containers.engine import options, podman
from sagerank.distillation.precision import build_gated
from sagerank_inference.artefact import Manifest

from . import golden, inside
from .running import MODEL, built_image, reason, running
from .sizes import PATIENT

pytestmark = pytest.mark.container

# Without dot products (Graviton), with them (Graviton2), with products of integers' and bfloat16's matrices too (Graviton3 on).
ABILITIES = {
    "cortex-a72": set[str](),
    "neoverse-n1": {"asimddp"},
    "max": {"asimddp", "sve", "i8mm", "bf16"},
}


@pytest.fixture(scope="session")
def arm() -> str:
    if why := reason() or emulation.reason("arm64"):
        pytest.skip(why)
    if not os.environ.get("SAGERANK_TEST_ARM64"):
        pytest.skip("emulation takes minutes: `make container-arm64` asks for it")
    return built_image(arch="arm64")


@pytest.fixture(scope="session")
def built(
    artefact: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """Make the artefact of micro or tiny in float32, or of micro in a precision that has to pass the gate."""

    @cache
    def make(model: str, precision: str) -> Path:
        if precision == "fp32":
            return artefact(model, precision)
        scratch = tmp_path_factory.mktemp(precision)
        build_gated(model, scratch / "model", precision, queries=60, cache=scratch)
        return scratch / "model"

    return make


def computed(
    arm: str, folder: Path, graph: onnx.GraphProto, processor: str, **inputs: NDArray[np.generic]
) -> tuple[set[str], NDArray[np.generic]]:
    """What a graph gives inside the image on such a processor, and what that can do."""
    sets = [helper.make_opsetid("", 24), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=11), folder / "graph.onnx")
    np.savez(folder / "inputs.npz", **inputs)  # type: ignore[arg-type]
    seen = {Path(inside.__file__): "/inside.py"} | emulation.mounts("arm64")
    volumes = [f"{folder}:/x", *(f"{file}:{where}:ro" for file, where in seen.items())]
    engine = podman()
    done = engine.run(
        *("run", "--rm", "--network", "none", "--platform", "linux/arm64", "--env", f"QEMU_CPU={processor}"),
        # As process 1 a program that crashed would outlive the signal by which qemu ends it, and hang.
        *("--pid", "host"),
        *options("--volume", volumes),
        *("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=1000:1000"),
        *("--entrypoint", "python", arm, "-P", "/inside.py", "/x"),
        seconds=900,
    )
    found = {name for name, there in json.loads(done.stdout).items() if there}
    return found, np.load(folder / "outputs.npy")


def test_its_manifest_is_of_arm64(arm: str) -> None:
    [image] = json.loads(podman().run("image", "inspect", arm).stdout)
    assert (image["Os"], image["Architecture"]) == ("linux", "arm64")
    assert image["ManifestType"] == "application/vnd.docker.distribution.manifest.v2+json"


@pytest.mark.parametrize(
    ("model", "precision", "processor"),
    [
        ("micro", "fp32", "neoverse-n1"),
        ("micro", "int8", "neoverse-n1"),
        ("micro", "int8", "max"),
        ("micro", "bf16", "neoverse-n1"),
        ("micro", "bf16", "max"),
        ("tiny", "fp32", "max"),
    ],
)
def test_it_starts_and_scores_the_golden_pairs(
    arm: str, built: Callable[[str, str], Path], model: str, precision: str, processor: str
) -> None:
    folder = built(model, precision)
    seen = {folder: MODEL} | emulation.mounts("arm64")
    # The warm-up computes batches of full size, which takes minutes under emulation.
    # Two threads divide a product's columns: ONNX Runtime's bfloat16 has been wrong with fewer than 65 (docs/benchmarks.md).
    environ = {"QEMU_CPU": processor, "SAGERANK_BATCH_TOKENS": "512", "SAGERANK_THREADS": "2", **PATIENT}
    with running(arm, mounts=seen, environ=environ, more=("--platform", "linux/arm64")) as container:
        container.ready(400)
        assert container.execute("uname", "-m").strip() == "aarch64"
        worst = golden.worst(container, folder)
        assert worst <= max(1e-3, Manifest.read(folder).tolerance)
        if precision == "bf16":  # it was computed in it, or in float32 where the processor lacks it
            assert (worst > 1e-3) == (processor == "max")
        assert container.stop() == 0


@pytest.mark.parametrize("processor", ABILITIES)
def test_products_of_integers_are_exact(arm: str, tmp_path: Path, processor: str) -> None:
    """The operator of the int8 graph against the whole numbers, for one row and for several, at the range's ends too."""
    generator = np.random.default_rng(0)
    rows, size, out = 37, 1024, 48
    left = generator.integers(0, 256, (rows, size), np.uint8)
    right = generator.integers(-127, 128, (size, out), np.int8)
    left[0], left[1], right[:, 0], right[:, 1] = 255, 0, 127, -127
    exact = (left.astype(np.int64) - 128) @ right.astype(np.int64)
    assert np.abs(exact).max() == 128 * 127 * size < 1 << 24  # a float32 holds each
    constants = {
        "right": right,
        "one": np.array(1, np.float32),
        "scales": np.ones(out, np.float32),
        "zero": np.array(128, np.uint8),
    }
    graph = helper.make_graph(
        [
            helper.make_node(
                "MatMulIntegerToFloat",
                ["left", "right", "one", "scales", "zero"],
                ["product"],
                domain="com.microsoft",
            )
        ],
        "product",
        [helper.make_tensor_value_info("left", TensorProto.UINT8, ["rows", size])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, ["rows", out])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    for part in (left, left[:1]):
        abilities, product = computed(arm, tmp_path, graph, processor, left=part)
        assert abilities == ABILITIES[processor]
        assert np.array_equal(product.astype(np.int64), exact[: len(part)])
