"""The golden pairs of an artefact, asked of a server through its port."""

from __future__ import annotations

import json
from pathlib import Path

from sagerank_inference.artefact import Manifest

from ..servers import Door


def worst(door: Door, folder: Path) -> float:
    """How far the logit of any golden pair is from the manifest's at most. Raises AssertionError where one gets no score."""
    errors = list[float]()
    for pair in Manifest.read(folder).golden:
        body = {"query": pair.query, "texts": [pair.document], "raw_scores": True}
        code, answer = door.post(json.dumps(body).encode(), "/rerank")
        assert code == 200, answer
        errors.append(abs(answer[0]["score"] - pair.logit))
    return max(errors)
