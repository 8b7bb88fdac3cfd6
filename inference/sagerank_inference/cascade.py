"""Several models in a row: the first scores every document, each next one the best few of what came before.

`Rounds` is one query on its way through them, without the models: the engine runs what it asks for at once, the
service through its batcher. Standard library only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from .contract import Scores, Timings, Truncation, best_first
from .steps import Steps, finish

if TYPE_CHECKING:
    from .artefact import Manifest
    from .spans import Span
    from .tokenise import Tokeniser
    from .windows import Place, Windows

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stage:
    """One model of an artefact, which scores the `keep` best documents; None: all, as the first does.

    golden: the tokens of the manifest's golden pairs, in order.
    """

    manifest: Manifest
    tokeniser: Tokeniser
    keep: int | None
    golden: tuple[Windows, ...] = ()


class Rounds:
    """Every stage in turn: `read` what it has to score, run it, `take` its logits. Then `scores` is the answer."""

    def __init__(
        self,
        stages: Sequence[Stage],
        query: str,
        documents: Sequence[str],
        truncation: Truncation,
        *,
        spans: bool = False,
    ) -> None:
        """spans: the answer says which characters of each document its score is of."""
        self._stages, self._truncation = stages, truncation
        self._query, self._documents = query, documents
        self._number = 0
        self._idle_since = time.monotonic()
        self._tokenise, self._forwards = 0.0, list[float]()
        self._tokenised = 0.0  # when the last windows were there
        self._scored: list[int] = []  # the documents of the stage at hand
        self._all: Windows
        self._windows: Windows
        self.values: list[float] = []  # logits, in the order of the documents
        # By document: the tokeniser that read it last, and the place of its best window.
        self._places: list[tuple[Tokeniser, Place]] | None = [] if spans else None
        self._spans: tuple[Span, ...] | None = None

    def read(self) -> Windows:
        """Return the windows that the next stage has to score. Raises InvalidRequest as the tokenisers do."""
        return finish(self.steps())

    def steps(self) -> Steps[Windows]:
        """As `read`, yielding the tokens that are there so far wherever it may be left for a while, or for good.

        Where truncation is not allowed every stage's tokeniser is asked at once: a request is refused for what it
        holds, not for where the first model ranks it.
        """
        stage, first = self._stages[self._number], self._stages[0]
        if self._number == 0:
            for each in self._stages:
                each.tokeniser.check(self._truncation)
            self._scored = list(range(len(self._documents)))
            self._windows = self._all = yield from self._windows_of(first, self._scored)
            if not self._truncation.allowed:
                for other in self._stages[1:]:
                    if other.tokeniser is not first.tokeniser:
                        yield from self._windows_of(other, self._scored)
        else:
            self._scored = best_first(self.values, stage.keep)
            shared = stage.tokeniser is first.tokeniser
            self._windows = (
                self._all.select(self._scored)
                if shared
                else (yield from self._windows_of(stage, self._scored))
            )
        self._tokenised = time.monotonic()
        windows = self._windows
        if stage is self._stages[-1]:  # their ids are not needed again, and may be much
            self._windows = replace(windows, ids=())
            if self._number == 0:
                self._all = self._windows
        return windows

    def _windows_of(self, stage: Stage, documents: Sequence[int]) -> Steps[Windows]:
        texts = [self._documents[index] for index in documents]
        return stage.tokeniser.steps(self._query, texts, self._truncation)

    @property
    def waiting(self) -> int:
        """How many logits `take` expects."""
        return len(self._windows.document)

    def take(self, logits: Sequence[float]) -> None:
        """Accept the logits of the windows that `read` gave last."""
        now = time.monotonic()
        self._tokenise += self._tokenised - self._idle_since
        self._forwards.append(now - self._tokenised)
        self._idle_since = now
        again = self._windows.scatter(logits)
        if self._places is not None:
            tokeniser = self._stages[self._number].tokeniser
            best = [(tokeniser, place) for place in self._windows.best(logits)]
            self._places = _again(self._places, self._scored, best, self._documents) if self._number else best
        self.values = merge(self.values, self._scored, again, self._documents) if self._number else again
        self._number += 1

    def find_spans(self) -> Steps[None]:
        """Find, after the last stage, the characters that each score is of, where that was asked.

        A document that is whole in one window costs nothing; another is tokenised once more, up to its best.
        """
        if self._places is None:
            return
        spans = []
        for text, (tokeniser, place) in zip(self._documents, self._places, strict=True):
            spans.append((0, len(text)) if place is None else (yield from tokeniser.characters(text, place)))
        self._spans = tuple(spans)

    def scores(self, timings: Timings | None = None) -> Scores:
        """Return the answer, after the last stage. timings: by default those of the calls.

        Tokens are those of the first, which reads every text: a document that is scored again is billed once.
        """
        return Scores(
            values=tuple(self.values),
            query_tokens=self._all.query_tokens,
            document_tokens=tuple(self._all.document_tokens),
            timings=timings or make_timings(self._tokenise, 0.0, self._forwards),
            spans=self._spans,
        )


def make_timings(tokenise: float, queue: float, forwards: Sequence[float]) -> Timings:
    """Return the seconds of a request. forwards: of each stage."""
    stages = tuple(forwards) if len(forwards) > 1 else ()
    return Timings(tokenise=tokenise, queue=queue, forward=sum(forwards), stages=stages)


def merge(
    values: Sequence[float], best: Sequence[int], again: Sequence[float], documents: Sequence[str]
) -> list[float]:
    """Return logits of all documents, once a later model has scored the `best` of them `again`.

    Logits of different models do not compare, so what the later one scored stands above the rest. Its logits stay as
    they are: a threshold means what it means for that model alone. The rest keeps its order below; where it would
    reach higher, it is laid into the probabilities below the lowest of them, evenly by logit: a shift would sink most
    of it to scores that nobody tells from 0.
    """
    merged = _again(values, best, again, documents)
    scored = {documents[index] for index in best}
    rest = [index for index, text in enumerate(documents) if text not in scored]
    if not rest or not best:
        return merged
    lowest = min(again)
    bottom, top = min(values[index] for index in rest), max(values[index] for index in rest)
    if top < lowest:
        return merged
    for index in rest:
        share = (values[index] - bottom + 1) / (top - bottom + 2)  # in (0, 1)
        # The logit of share * sigmoid(lowest), by way of logarithms, which neither overflow nor vanish.
        log_probability = math.log(share) + _log_sigmoid(lowest)
        merged[index] = log_probability - math.log(-math.expm1(log_probability))
    return merged


def _again(values: Sequence[T], best: Sequence[int], again: Sequence[T], documents: Sequence[str]) -> list[T]:
    """Return what is known of all documents, once a later model has said it of the `best` of them `again`.

    The same text has the same score: what equals one of the best is scored with it.
    """
    later = dict(zip((documents[index] for index in best), again, strict=True))
    return [later.get(text, value) for text, value in zip(documents, values, strict=True)]


def _log_sigmoid(logit: float) -> float:
    return min(logit, 0.0) - math.log1p(math.exp(-abs(logit)))
