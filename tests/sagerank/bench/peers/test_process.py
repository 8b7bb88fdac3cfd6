"""Real peers, run by the tests' own interpreter."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from sagerank.bench.peers import PEERS, PeerError, open_peer
from sagerank.bench.peers.process import PeerProcess
from sagerank.evaluation import EvaluationError
from sagerank.models.build import MICRO
from sagerank_inference.engine import Engine

from .conftest import DOCUMENTS, QUERY, SENTENCE, farthest

PYTHON = Path(sys.executable)


def test_plain_transformers_scores_as_the_engine_does(
    folder: Path, cache: Path, micro: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model prints, as libraries do, and is asked twice; then it is killed. What the user set it sees."""
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    seen = tmp_path / "seen"
    noisy = tmp_path / "models" / folder.name
    shutil.copytree(folder, noisy)
    with (noisy / "dense.py").open("a") as file:
        file.write(f'\nimport os\nopen({str(seen)!r}, "w").write(os.environ["DO_NOT_TRACK"])\n')
        file.write('\nprint("loaded")\n_gelu = F.gelu\nF.gelu = lambda x: (print("gelu"), _gelu(x))[1]\n')
    with open_peer("transformers", MICRO, threads=1, cache=tmp_path, python=PYTHON) as peer:
        scores, seconds = peer.score(QUERY, DOCUMENTS)
        assert farthest(scores, micro) < 1e-4
        assert seconds > 0
        assert peer.batch == 32
        assert peer.score(QUERY, DOCUMENTS[2:3])[0] == pytest.approx(scores[2:3], abs=1e-4)
        assert peer.ids(QUERY, SENTENCE) == list(micro.tokeniser(QUERY, [SENTENCE]).ids[0])
        with pytest.raises(PeerError, match="^transformers: "):
            peer.score(QUERY, [])
        assert peer.score(QUERY, DOCUMENTS)[0] == scores  # an error belongs to its call
        peer._process.kill()
        with pytest.raises(PeerError, match="signal 9"):
            peer.score(QUERY, DOCUMENTS)
    assert seen.read_text() == "0"
    assert (tmp_path / "home/intel/openvino_telemetry").read_text() == "0"  # declined


def test_sentence_transformers_scores_as_the_engine_does(folder: Path, cache: Path, micro: Engine) -> None:
    name = "sentence-transformers-torch"
    with open_peer(name, MICRO, threads=1, cache=cache, tune=True, python=PYTHON) as peer:
        assert farthest(peer.score(QUERY, DOCUMENTS)[0], micro) < 1e-4
        assert peer.batch in (8, 16)


@pytest.mark.parametrize("name", [name for name, spec in PEERS.items() if spec.on_device])
@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-4), ("bf16", 0.5)])
def test_peers_of_a_device_score_as_the_engine_does(
    name: str, precision: str, most: float, folder: Path, cache: Path, micro: Engine
) -> None:
    with open_peer(
        name, MICRO, threads=1, cache=cache, python=PYTHON, device="cpu", precision=precision
    ) as peer:
        scores, _ = peer.score(QUERY, DOCUMENTS)
        apart = farthest(scores, micro)
        assert apart < most
        assert (apart > 1e-4) == (precision == "bf16"), "the precision has to reach it"
        assert peer.score(QUERY, DOCUMENTS[3:4])[0] == pytest.approx(scores[3:4], abs=most)


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
