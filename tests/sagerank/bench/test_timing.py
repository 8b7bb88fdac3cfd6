"""Parity of scores, and interleaved rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from sagerank.bench.timing import Timed, check_parity, interleave, ratios
from sagerank.evaluation import EvaluationError
from sagerank_inference.engine import Engine

from .conftest import QUERY, TEXTS


class InProcess:
    """An engine as a subject; it writes down when it is asked."""

    def __init__(self, name: str, engine: Engine, asked: list[str], *, fails_at: int = -1) -> None:
        self.name, self._engine, self._asked, self._fails_at = name, engine, asked, fails_at
        self._calls = 0

    def score(self, query: str, documents: Sequence[str]) -> tuple[list[float], float]:
        self._asked.append(self.name)
        self._calls += 1
        if self._calls == self._fails_at:
            raise EvaluationError("it ran out of memory.")
        return list(self._engine.score(query, documents).values), 1.0 if self.name == "a" else 4.0


def test_other_scores_are_listed_with_their_distance_and_not_timed(micro: Engine, small_folder: Path) -> None:
    from sagerank_inference.engine import load_forward
    from sagerank_inference.settings import Settings

    settings = Settings(model_dir=small_folder, threads=1)
    other = Engine(micro.manifest, micro.stages, [load_forward(small_folder, settings)], batch_tokens=1024)
    asked: list[str] = []
    same = Timed(name="same", model="m", subject=InProcess("same", micro, asked), tolerance=1e-6)
    apart = Timed(name="apart", model="m", subject=InProcess("apart", other, asked), tolerance=1e-2)
    another = Timed(name="another model", model="n", subject=InProcess("another", other, asked))
    missing = Timed(name="missing", model="m", error="it cannot be installed.")
    timed = [Timed(name="a", model="m", subject=InProcess("a", micro, asked)), same, apart, another, missing]
    check_parity(timed, QUERY, TEXTS)
    assert timed[0].max_abs_diff == 0.0
    assert (same.error, same.max_abs_diff) == (None, 0.0)
    expected = max(
        abs(ours - theirs)
        for ours, theirs in zip(
            micro.score(QUERY, TEXTS).values, other.score(QUERY, TEXTS).values, strict=True
        )
    )
    assert apart.max_abs_diff == pytest.approx(expected)
    assert apart.error
    assert "not timed" in apart.error
    assert f"{expected:.3g}" in apart.error
    assert (another.error, another.max_abs_diff) == (None, None)
    asked.clear()
    interleave(timed, QUERY, TEXTS, rounds=2, pause=0)
    assert set(asked) == {"a", "same", "another"}
    assert apart.seconds == []
    assert missing.error == "it cannot be installed."


def test_rounds_interleave_and_a_failing_subject_drops_out(micro: Engine) -> None:
    asked: list[str] = []
    timed = [
        Timed(
            name=name,
            model="m",
            subject=InProcess(name, micro, asked, fails_at=3 if name == "c" else -1),
            tolerance=0.1,
        )
        for name in "abc"
    ]
    check_parity(timed, QUERY, TEXTS)
    asked.clear()
    interleave(timed, QUERY, TEXTS, rounds=3, before=lambda: asked.append("|"), pause=0)
    # c fails when it is asked the third time: once for parity, then in the second round.
    assert "".join(asked) == "|abc|bca|ab"
    assert timed[2].error == "it ran out of memory."
    assert ratios(timed[1], timed[0]) == [0.25, 0.25, 0.25]


def test_a_score_that_is_no_number_is_not_timed(micro: Engine) -> None:
    class Broken(InProcess):
        def score(self, query: str, documents: Sequence[str]) -> tuple[list[float], float]:
            return [math.nan, *super().score(query, documents)[0][1:]], 1.0

    timed = [
        Timed(name="a", model="m", subject=InProcess("a", micro, [])),
        Timed(name="b", model="m", subject=Broken("b", micro, []), tolerance=1.0),
    ]
    check_parity(timed, QUERY, TEXTS)
    assert timed[1].error == "it scores NaN: not timed."
