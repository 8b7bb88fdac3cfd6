"""micro as the folder that peers load, and the texts they score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagerank.bench.peers.export import export
from sagerank.models.build import MICRO
from sagerank_inference.engine import Engine

QUERY = "how do glaciers shape valleys"
SENTENCE = "Alpine glaciers carve valleys and leave moraines of unsorted debris, which rivers carry away. "
DOCUMENTS = [
    "Paris.",
    "",
    SENTENCE,
    *(SENTENCE * count for count in (9, 3, 1, 5)),
    "Mars is red.",
    SENTENCE * 95,
]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="session")
def folder(cache: Path) -> Path:
    return export(MICRO, cache)


def farthest(scores: list[float], micro: Engine) -> float:
    ours = micro.score(QUERY, DOCUMENTS).values
    return max(abs(score - other) for score, other in zip(scores, ours, strict=True))


def padded(micro: Engine) -> dict[str, Any]:
    ids = micro.tokeniser(QUERY, DOCUMENTS).ids
    feed = {
        name: np.zeros((len(ids), max(map(len, ids))), np.int64) for name in ("input_ids", "attention_mask")
    }
    for row, tokens in enumerate(ids):
        feed["input_ids"][row, : len(tokens)] = tokens
        feed["attention_mask"][row, : len(tokens)] = 1
    return feed
