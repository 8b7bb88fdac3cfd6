"""Peers on the same weights: the export against the engine, real peers in the tests' own interpreter, environments."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sagerank_inference.engine import Engine

from sagerank.bench.peers import PEERS, PeerError, open_peer, runner
from sagerank.bench.peers.catalogue import FP32_TOLERANCE
from sagerank.bench.peers.dense import DenseJinaBert
from sagerank.bench.peers.environment import environment
from sagerank.bench.peers.export import GRAPH, export
from sagerank.bench.peers.once import once
from sagerank.bench.peers.process import PREPARE, RUNNER, PeerProcess
from sagerank.evaluation import EvaluationError
from sagerank.models.build import MICRO

from ..conftest import SMALL, VOCABULARY, random_model

PYTHON = Path(sys.executable)
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


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="module")
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


# -- the export


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


# -- peers at work


def test_plain_transformers_scores_as_the_engine_does(
    folder: Path, cache: Path, micro: Engine, tmp_path: Path
) -> None:
    """Its model prints, as libraries do, and is asked twice; then it is killed."""
    noisy = tmp_path / "models" / folder.name
    shutil.copytree(folder, noisy)
    with (noisy / "dense.py").open("a") as file:
        file.write('\nprint("loaded")\n_gelu = F.gelu\nF.gelu = lambda x: (print("gelu"), _gelu(x))[1]\n')
    with open_peer("transformers", MICRO, threads=1, cache=tmp_path, python=PYTHON) as peer:
        scores, seconds = peer.score(QUERY, DOCUMENTS)
        assert farthest(scores, micro) < 1e-4 < FP32_TOLERANCE
        assert seconds > 0
        assert peer.batch == 32
        assert peer.score(QUERY, DOCUMENTS[2:3])[0] == pytest.approx(scores[2:3], abs=1e-4)
        assert peer.ids(QUERY, SENTENCE) == micro.tokeniser(QUERY, [SENTENCE]).ids[0]
        with pytest.raises(PeerError, match="^transformers: "):
            peer.score(QUERY, [])
        assert peer.score(QUERY, DOCUMENTS)[0] == scores  # an error belongs to its call
        peer._process.kill()
        with pytest.raises(PeerError, match="signal 9"):
            peer.score(QUERY, DOCUMENTS)


def test_sentence_transformers_scores_as_the_engine_does(folder: Path, cache: Path, micro: Engine) -> None:
    name = "sentence-transformers-torch"
    with open_peer(name, MICRO, threads=1, cache=cache, tune=True, python=PYTHON) as peer:
        assert farthest(peer.score(QUERY, DOCUMENTS)[0], micro) < 1e-4
        assert peer.batch in (8, 16)


def test_a_peer_with_other_tokens_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "models" / folder.name)
    path = tmp_path / "models" / folder.name / "tokenizer.json"
    raw = json.loads(path.read_text())
    raw["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(raw))
    with (
        pytest.raises(PeerError, match="makes other tokens of the same text"),
        open_peer("transformers", MICRO, threads=1, cache=tmp_path, python=PYTHON),
    ):
        pass


def test_a_peer_that_is_not_installed_says_so(folder: Path, cache: Path) -> None:
    with (
        pytest.raises(PeerError, match="^infinity: ModuleNotFoundError: No module named 'infinity_emb'$"),
        open_peer("infinity", MICRO, threads=1, cache=cache, python=PYTHON),
    ):
        pass


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


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "import sys; print('traceback', file=sys.stderr); sys.exit('the model is damaged')",
            "the model is damaged",
        ),
        ("import os; os.kill(os.getpid(), 9)", r"its process was ended by signal 9 \(out of memory\?\)"),
        ("raise SystemExit(3)", "its process ended with 3"),
    ],
)
def test_a_runner_that_dies(code: str, sentence: str) -> None:
    with pytest.raises(PeerError, match=f"^peer: {sentence}$"):
        PeerProcess("peer", [sys.executable, "-c", code], os.environ)


def test_requests_that_no_peer_can_answer() -> None:
    assert issubclass(PeerError, EvaluationError)
    with (
        pytest.raises(PeerError, match="give some of fastembed, "),
        open_peer("x", MICRO, threads=1, cache=MICRO),
    ):
        pass
    with (
        pytest.raises(PeerError, match="at least 1, not 0"),
        open_peer("fastembed", MICRO, threads=0, cache=MICRO),
    ):
        pass


# -- batches


@pytest.fixture
def slow_batches() -> tuple[runner.Peer, list[int]]:
    tried: list[int] = []

    def score(query: str, documents: list[str], batch: int) -> list[float]:
        tried.append(batch)
        return [0.0] * len(documents)

    return runner.Peer(lambda query, document: [0] * len(document), score, (8, 16, 32, 64), heads=12), tried


def test_a_batch_size_is_chosen_once_for_a_workload(slow_batches: tuple[runner.Peer, list[int]]) -> None:
    peer, tried = slow_batches
    assert (peer.batch("q", ["d"] * 100, False), tried) == (8, [])  # the library's own
    first = peer.batch("q", ["d"] * 100, True)
    assert tried == [8, 8, 16, 32, 64]  # the first of all is slower than any other
    assert peer.batch("q", ["d"] * 100, True) == first
    assert len(tried) == 5
    assert peer.batch("q", ["d"] * 5, True) == 8  # every size holds them all: nothing to try
    assert len(tried) == 5


def test_long_documents_get_the_batch_that_memory_allows(
    slow_batches: tuple[runner.Peer, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, tried = slow_batches
    monkeypatch.setattr(runner, "_free_memory", lambda: 16 * 2**30)
    assert peer.batch("q", ["d" * 4096] * 20, True) == 3  # 2.4 GB each
    assert peer.batch("q", ["d" * 60000] * 20, True) == 1
    assert tried == []


# -- environments


def wheel(folder: Path, name: str) -> None:
    """A package without dependencies, as pip installs it."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "WORD = 'here'\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


def test_an_environment_is_redone_after_a_failure_and_then_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip is configured by this process's environment, here to a folder as its only index."""
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))
    pins = ("onepeer==1.0", "itsvision==1.0")
    with pytest.raises(
        PeerError, match=r"^first cannot be installed: .*No matching distribution found for onepeer==1.0"
    ):
        environment(pins, tmp_path, name="first", without=("itsvision",))
    wheel(packages, "onepeer")
    wheel(packages, "itsvision")
    python = environment(pins, tmp_path, name="first", without=("itsvision",))
    code = "import importlib.util as u, onepeer; print(onepeer.WORD, u.find_spec('itsvision'), u.find_spec('sagerank'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["here", "None", "None"]
    shutil.rmtree(packages)
    # Nothing is left to install from: it is the same one, whoever asks, in whatever order.
    assert environment(pins[::-1], tmp_path, name="second", without=("itsvision",)) == python


def test_what_was_killed_on_the_way_is_made_again(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from sagerank.bench.peers.once import once\n"
        "once(Path(sys.argv[1]), lambda folder: ((folder / 'half').touch(), os._exit(9)))"
    )
    folder = tmp_path / "made"
    assert subprocess.run([sys.executable, "-c", code, folder], check=False).returncode == 9
    assert (folder / "half").exists()
    assert once(folder, lambda folder: (folder / "whole").touch()) == folder
    assert not (folder / "half").exists()
    once(folder, lambda folder: pytest.fail("made twice"))


# -- the catalogue


def test_every_peer_has_pins_and_equal_pins_share_an_environment() -> None:
    for name, spec in PEERS.items():
        assert name == spec.name
        assert spec.runner in runner.LOADERS
        assert all(requirement.count("==") == 1 for requirement in spec.requirements)
        assert (spec.tolerance is None) == (spec.precision == "int8") == name.endswith("-int8")
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
