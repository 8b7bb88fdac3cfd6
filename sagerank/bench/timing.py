"""How long several subjects take over the same documents: parity first, then interleaved rounds.

A machine's speed drifts with its clock and with what else runs on it. Round after round, each subject works once, and
what is compared is the ratio within a round: drift hits both sides of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from ..evaluation import EvaluationError
from ..evaluation.progress import Progress

# Threads of the runtimes wait actively for up to 200 ms after their last work, on the cores that the next subject needs.
PAUSE_SECONDS = 0.3


class Subject(Protocol):
    """A model that can be timed."""

    name: str

    def score(self, query: str, documents: Sequence[str]) -> tuple[list[float], float]:
        """Logits in the order of `documents`, and seconds spent, measured inside the process that scores.

        Raises EvaluationError where it cannot.
        """
        ...


@dataclass(slots=True, kw_only=True)
class Timed:
    """A subject with what the rounds showed of it, or why there is nothing to show."""

    name: str
    model: str
    subject: Subject | None = None
    tolerance: float | None = None  # of a logit against the first subject; None: other weights, not compared
    max_abs_diff: float | None = None  # of the logits against the first subject
    seconds: list[float] = field(default_factory=list)  # one for each round
    error: str | None = None


def check_parity(timed: Sequence[Timed], query: str, documents: Sequence[str]) -> None:
    """Score once with each subject, which warms it up too, and compare the logits with the first one's.

    A subject that is not within its tolerance has that as its error: a time of other scores says nothing. The first
    must score; its EvaluationError is raised.
    """
    assert timed[0].subject is not None
    reference, _ = timed[0].subject.score(query, documents)
    for one in timed[1:]:
        if one.subject is None:
            continue
        with _listed(one):
            logits, _ = one.subject.score(query, documents)
            if one.tolerance is None:
                continue
            if len(logits) != len(reference):
                raise EvaluationError(f"it gave {len(logits)} scores for {len(reference)} documents.")
            apart = [abs(logit - other) for logit, other in zip(logits, reference, strict=True)]
            if any(map(math.isnan, apart)):
                raise EvaluationError("it scores NaN: not timed.")
            one.max_abs_diff = max(apart)
            if one.max_abs_diff > one.tolerance:
                raise EvaluationError(
                    f"its scores differ by {one.max_abs_diff:.3g} from {timed[0].name}'s, more than {one.tolerance:g}: not timed."
                )
    timed[0].max_abs_diff = 0.0


def interleave(
    timed: Sequence[Timed],
    query: str,
    documents: Sequence[str],
    *,
    rounds: int,
    before: Callable[[], None] = lambda: None,
    pause: float = PAUSE_SECONDS,
    progress: Progress = lambda *_: None,
) -> None:
    """Time every subject without an error once in each round, beginning one further in each round.

    before: called as a round begins, to measure the machine as it is then. A subject that fails is out.
    """
    for number in range(rounds):
        time.sleep(pause)
        before()
        first = number % len(timed)
        for one in (*timed[first:], *timed[:first]):
            if one.subject is not None and one.error is None:
                time.sleep(pause)
                with _listed(one):
                    one.seconds.append(one.subject.score(query, documents)[1])
        progress("rounds", number + 1, rounds)


@contextmanager
def _listed(one: Timed) -> Iterator[None]:
    """A subject that fails is listed with its reason, and the others go on."""
    try:
        yield
    except EvaluationError as error:
        one.error = str(error)


def percentile(seconds: Sequence[float], percent: int) -> float:
    """The nearest rank: a time that was measured, not one between two."""
    return sorted(seconds)[-(-len(seconds) * percent // 100) - 1]


def ratios(timed: Timed, reference: Timed) -> list[float]:
    """Speed relative to the reference's in each round: above 1 is faster than the reference."""
    return [theirs / ours for ours, theirs in zip(timed.seconds, reference.seconds, strict=True)]
