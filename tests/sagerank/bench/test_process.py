"""Measured processes: the engine's scores, their death, and files of the user's that they must not run."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from sagerank.bench.process import Remote, printed
from sagerank.bench.subject import EngineSubject
from sagerank.evaluation import EvaluationError
from sagerank.models.build import MICRO
from sagerank_inference.engine import Engine

from .conftest import QUERY, TEXTS


def test_the_engine_in_its_own_process_scores_as_here(micro: Engine) -> None:
    with EngineSubject(MICRO, threads=1) as subject:
        logits, seconds = subject.score(QUERY, TEXTS)
        assert logits == pytest.approx(list(micro.score(QUERY, TEXTS).values), abs=1e-5)
        assert seconds > 0
        assert subject.lengths(QUERY, TEXTS) == [len(ids) for ids in micro.tokeniser(QUERY, TEXTS).ids]


def test_a_process_that_dies_is_one_sentence() -> None:
    with (
        Remote(importlib.import_module, "os") as remote,
        pytest.raises(EvaluationError, match="ended before it answered"),
    ):
        remote.call("_exit", 9)


def test_measured_processes_run_no_file_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "inference", "numpy", "signal", "pickle", "sagerank_inference", "time"):
        (tmp_path / f"{name}.py").write_text("open('executed', 'w').write(__name__)\n")
    monkeypatch.chdir(tmp_path)
    with EngineSubject(MICRO, threads=1) as subject:
        assert subject.lengths(QUERY, TEXTS[:1])
    assert set(printed("sagerank.bench.startup", MICRO, 1, 0.0)) == {"imported", "loaded", "scored"}
    assert not (tmp_path / "executed").exists()


def test_a_processs_last_line_is_the_reason(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"^The measured process failed: .*manifest.json"):
        printed("sagerank.bench.startup", tmp_path, 1, 0.0)


def test_an_object_that_prints_and_raises(capfd: pytest.CaptureFixture[str]) -> None:
    """What it prints is not taken for its answer, and its exceptions are the caller's."""
    with Remote(importlib.import_module, "builtins") as remote:
        remote.call("print", "caf\xe9")
        with pytest.raises(ZeroDivisionError):
            remote.call("divmod", 1, 0)
        assert remote.call("divmod", 7, 2) == (3, 1)
    assert "caf" in capfd.readouterr().err
