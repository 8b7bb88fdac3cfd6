"""A cascade of micro and another small model, as an artefact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sagerank.models.build import resolve
from sagerank_inference.engine import Engine, load_stages
from sagerank_inference.settings import Settings


@pytest.fixture(scope="session")
def folder(second: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resolve(f"micro>{second}@3", cache=tmp_path_factory.mktemp("cache"))


def engine(folder: Path) -> Engine:
    """Checked on its golden pairs, and then with little room."""
    whole = Engine.load(folder, Settings(model_dir=folder, threads=1))
    stages = load_stages(folder, Settings(model_dir=folder, max_tokens=96, query_tokens=24, overlap_tokens=8))
    return Engine(whole.manifest, stages, whole.forwards, batch_tokens=256)


class Alone:
    """An engine as evaluation's scorer."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name = engine, engine.manifest.model

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        return list(self.engine.score(query, documents).values)
