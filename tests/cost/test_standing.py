"""What stands beside a model: data by preset and mode (tests/infra compares it with the stacks), and bytes of the server's log."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from sagerank_cost import CostError, standing
from sagerank_cost.bill import MAY_BE_ZERO, MODES
from sagerank_cost.lines import Statement

from ..servers import running
from .conftest import CATALOGUE


def test_every_preset_has_every_mode() -> None:
    for preset in standing.PRESETS:
        for mode in MODES:
            known = standing.of(preset, mode)
            month = Statement(CATALOGUE, "us-east-1")
            standing.add(month, known.standing, requests=1e6, instance="1024", instances=Decimal(1))
            assert not month.unknown
            assert "KMS key" in month.lines
            assert ("dashboard" in month.lines) == (mode != "batch")
            assert known.min_instances >= (mode not in MAY_BE_ZERO)


@pytest.mark.parametrize(
    ("preset", "mode", "sentence"),
    [("production", "realtime", "known are dev, prod"), ("dev", "serverles", "did you mean serverless")],
)
def test_a_wrong_name_is_a_sentence(preset: str, mode: str, sentence: str) -> None:
    with pytest.raises(CostError, match=sentence):
        standing.of(preset, mode)


def test_the_server_logs_as_many_bytes_as_are_priced() -> None:
    documents = [f"{'clouds cool and drop water ' * 25}{index}" for index in range(100)]
    body = json.dumps({"query": "what causes rain", "documents": documents}).encode()
    with running() as server:
        server.wait_until_ready()
        assert [server.post(body)[0] for _ in range(3)] == [200] * 3
        lines = [json.dumps(entry) + "\n" for entry in server.stop() if entry["event"] == "request"]
    assert len(lines) == 3
    # CloudWatch counts 26 bytes more for each event.
    assert [len(line) + 26 for line in lines] == pytest.approx([standing.LOG_BYTES] * 3, rel=0.03)
