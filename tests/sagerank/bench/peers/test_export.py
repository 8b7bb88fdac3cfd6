"""The exported weights score as the engine does."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from sagerank.bench.peers.dense import DenseJinaBert
from sagerank.bench.peers.export import GRAPH, export
from sagerank.models.build import MICRO
from sagerank_inference.engine import Engine
from sagerank_inference.onnx_runtime import onnxruntime

from ....conftest import SMALL, VOCABULARY, random_model
from .conftest import DOCUMENTS, farthest, padded


def test_the_dense_model_scores_as_the_reference_does() -> None:
    """12 heads, whose slopes are in two sequences, and pairs of unequal length."""
    reference = random_model()
    dense = DenseJinaBert(SMALL)
    dense.load_state_dict(reference.state_dict())
    lengths = torch.tensor([3, 40, 200])
    ids = torch.randint(5, VOCABULARY, (3, 200), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(200) < lengths[:, None]).long()
    with torch.inference_mode():
        apart = (dense.eval()(ids, mask)[:, 0] - reference(ids, lengths)).abs().max()
    assert apart < 1e-4


def test_the_exported_graph_scores_as_the_engine_does(folder: Path, micro: Engine) -> None:
    session = onnxruntime.InferenceSession(str(folder / GRAPH))
    (logits,) = session.run(None, padded(micro))
    assert logits.shape == (len(DOCUMENTS), 1)
    assert farthest(logits[:, 0].tolist(), micro) < 1e-4


def test_an_export_is_made_once(folder: Path, cache: Path) -> None:
    before = (folder / GRAPH).stat().st_mtime_ns
    assert export(MICRO, cache) == folder
    assert (folder / GRAPH).stat().st_mtime_ns == before


def test_peers_are_told_the_whole_context_and_one_label(folder: Path) -> None:
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 8192
    assert len(json.loads((folder / "config.json").read_text())["id2label"]) == 1
