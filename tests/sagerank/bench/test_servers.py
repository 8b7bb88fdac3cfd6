"""AWS's toolkit with the same handler."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from sagerank.bench.load import Load, Request
from sagerank.bench.servers import toolkit
from sagerank.evaluation import EvaluationError
from sagerank.models.build import MICRO
from sagerank_inference.dialects import sigmoid
from sagerank_inference.engine import Engine


def test_without_java_the_reason_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EvaluationError, match="install a JRE"), toolkit(MICRO, workers=1, threads=1):
        pass


@pytest.mark.skipif(shutil.which("java") is None, reason="multi-model-server needs Java")
def test_the_toolkit_answers_the_same_and_counts_with_all_its_processes(micro: Engine) -> None:
    query, documents = "what causes rain", ["Clouds cool and drop water.", "A cat sleeps."]
    body = json.dumps({"query": query, "documents": documents}).encode()
    scores = tuple(map(sigmoid, micro.score(query, documents).values))
    with toolkit(MICRO, workers=1, threads=1) as served:
        outcome = asyncio.run(
            Load(
                host=served.server.host,
                port=served.server.port,
                requests=[Request(body, scores)],
                tolerance=1e-5,
                timeout=60,
            ).closed_loop(clients=1, count=2)
        )
        names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in served.processes()}
        assert "java" in names
        assert (served.memory_mb() or 0) > 150, "Java, its worker and the launcher"
    assert (outcome.documents, outcome.lost, outcome.wrong, outcome.errors) == (4, 0, 0, 0)
