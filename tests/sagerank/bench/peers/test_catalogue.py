"""The peers' pins, and what their interpreters may import."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from sagerank.bench.peers import PEERS, runner
from sagerank.bench.peers.process import PREPARE, RUNNER


def test_every_peer_has_pins_and_equal_pins_share_an_environment() -> None:
    for name, spec in PEERS.items():
        assert name == spec.name
        assert spec.runner in runner.LOADERS
        assert all(requirement.count("==") == 1 for requirement in spec.requirements)
        assert (spec.precision == "int8") == name.endswith("-int8")
    assert len({(spec.requirements, spec.without) for spec in PEERS.values()}) < len(PEERS)


@pytest.mark.parametrize("path", [RUNNER, PREPARE], ids=lambda path: path.stem)
def test_what_runs_in_a_peers_environment_imports_nothing_of_ours(path: Path) -> None:
    top = {
        name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert all(name.split(".")[0] in sys.stdlib_module_names for name in top)
    everything = {
        (node.module or "").split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    assert not everything & {"sagerank", "sagerank_inference", "sagerank_cost", "sagerank_infra"}
