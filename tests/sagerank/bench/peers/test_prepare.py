"""What a peer makes of the exported folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from sagerank.bench.peers import PeerError, open_peer
from sagerank.bench.peers.export import GRAPH
from sagerank.bench.peers.process import PREPARE
from sagerank.models.build import MICRO
from sagerank_inference.engine import Engine
from sagerank_inference.onnx_runtime import onnxruntime

from .conftest import farthest, padded

PYTHON = Path(sys.executable)


def test_onnxruntimes_quantisation_of_the_graph(folder: Path, micro: Engine, tmp_path: Path) -> None:
    """The step that fastembed-int8 takes, by this interpreter."""
    subprocess.run(
        [sys.executable, "-I", PREPARE, "onnxruntime-int8", folder, tmp_path, ""],
        input="[]",
        text=True,
        check=True,
    )
    quantised = tmp_path / "onnx/model_int8.onnx"
    assert "MatMulInteger" in {node.op_type for node in onnx.load(quantised).graph.node}
    (logits,) = onnxruntime.InferenceSession(str(quantised)).run(None, padded(micro))
    apart = farthest(logits[:, 0].tolist(), micro)
    assert 1e-4 < apart < 2


def test_a_step_that_fails_says_which_and_why(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "models" / folder.name
    shutil.copytree(folder, damaged)
    (damaged / GRAPH).write_bytes(b"no graph")
    with (
        pytest.raises(
            PeerError, match="^fastembed-int8: its step onnxruntime-int8 failed: .*(parse|protobuf|load)"
        ),
        open_peer("fastembed-int8", MICRO, threads=1, cache=tmp_path, python=PYTHON),
    ):
        pass
