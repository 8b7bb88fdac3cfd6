"""What several rooms score with: a scorer by words, a small embedder, a second small model, and texts."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from sagerank.models.build import MICRO, build

from ..conftest import VOCABULARY
from .scripted import Script

QUERY = "how do glaciers shape valleys"


DOCUMENTS = [
    "Ice carves valleys and leaves moraines.",
    "A cat sleeps on the mat.",
    "Glaciers pluck rock from the bed. " * 30,
    "Rivers make valleys, too.",
    "",
    "The piston moves in the cylinder.",
    "Valley glaciers flow downhill under their own weight.",
]


class Words:
    """A scorer one can compute in the head: how many of the query's words a document has."""

    def __init__(self, name: str = "words", sign: float = 1.0) -> None:
        self.name, self.sign, self.asked = name, sign, 0

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        self.asked += len(documents)
        return [self.sign * len(set(query.split()) & set(document.split())) for document in documents]


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def embedder_folder(tmp_path: Path) -> Path:
    """A bi-encoder in ONNX: token embeddings drawn at random, so that texts which share words are near."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder = tmp_path / "embedder"
    folder.mkdir()
    shutil.copyfile(MICRO / "tokenizer.json", folder / "tokenizer.json")
    table = np.random.default_rng(0).normal(size=(VOCABULARY, 48)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "embedder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "s"])],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "s", 48])],
        [numpy_helper.from_array(table, "table")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10),
        folder / "model.onnx",
    )
    return folder


@pytest.fixture(scope="session")
def second(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact of another model than micro, with micro's tokenizer."""
    folder = tmp_path_factory.mktemp("second")
    build(str(small_folder), folder)
    return folder
