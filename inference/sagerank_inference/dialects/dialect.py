"""What a wire format has to say of itself, and what an answer is made of."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..contract import Group, RerankError, RerankRequest, Scores, best_first, status
from ..scale import Scale
from .fields import Fields


@dataclass(frozen=True, slots=True)
class Written:
    """A value that is JSON already."""

    json: str


@dataclass(frozen=True, slots=True)
class Scored:
    """A request and the scores of each of its groups."""

    request: RerankRequest
    scores: Sequence[Scores]
    model: str
    request_id: str
    scale: Scale

    def shown(self, logit: float) -> float:
        """Return a score as the caller wants it: a probability, or the logit as it is."""
        return logit if self.request.raw_scores else self.scale.score(logit)

    def in_order(self) -> list[float]:
        """Return the scores of all groups, in the order of the request."""
        return [self.shown(logit) for scores in self.scores for logit in scores.values]

    def ranked(self, number: int = 0) -> list[Ranked]:
        """Return what there is to show of a group, best first.

        By logit: far from zero, the probabilities of different logits are the same number.
        """
        group, scores, request = self.request.groups[number], self.scores[number], self.request
        found = []
        for index in best_first(scores.values, group.top_n):
            score = self.shown(scores.values[index])
            if request.min_score is None or score >= request.min_score:
                spans = scores.spans if score >= request.min_span_score else None
                span = spans[index] if spans else None
                found.append(Ranked(index, score, group, span))
        return found

    @property
    def total_tokens(self) -> int:
        """How many tokens are billed."""
        return sum(scores.total_tokens for scores in self.scores)

    @property
    def usage(self) -> dict[str, int]:
        """Return what most APIs call `usage`."""
        total = self.total_tokens
        return {"prompt_tokens": total, "total_tokens": total}

    def results(self, *, score: str = "relevance_score", text: str = "") -> list[dict[str, object]]:
        """Return what Jina and Cohere call `results`. score: the name of its field.

        Documents that are sent back stand as objects under `document`; with `text`, their texts alone under that name.
        """
        results: list[dict[str, object]] = []
        for one in self.ranked():
            results.append({"index": one.index, score: one.score} | one.relevant_spans)
            if self.request.return_documents:
                results[-1][text or "document"] = one.text if text else one.document
        return results


@dataclass(frozen=True, slots=True)
class Ranked:
    """One document of an answer."""

    index: int  # in the request
    score: float
    group: Group
    characters: tuple[int, int] | None

    @property
    def text(self) -> str:
        """The text that was scored."""
        return self.group.documents[self.index]

    @property
    def document(self) -> object:
        """The document as an object: as it was sent, or {"text"} where that was a string."""
        original = self.group.originals[self.index] if self.group.originals else None
        return {"text": self.text} if original is None else Written(original)

    @property
    def relevant_spans(self) -> dict[str, object]:
        """Return Cohere's field that says where in `text` the score is from, if that was asked."""
        if not self.characters:
            return {}
        start, end = self.characters
        return {"relevant_spans": [{"start": start, "end": end, "score": self.score}]}


class Dialect(ABC):
    """One wire format: the bodies it reads, its answers and its errors."""

    name: str  # in RerankRequest.dialect, in logs and metrics
    keys: tuple[str, ...]  # which a body of this dialect has
    shape = ""  # how its bodies look, shown to who sends one that no dialect reads
    example: Mapping[str, Any] = {}  # a body with the fields that its clients send
    paths: tuple[str, ...] = ()  # HTTP routes where every body is taken for its own; {name} stands for a part

    def on(self, path: str) -> bool:
        """Say whether all bodies on this route are its own."""
        return any(_pattern(own).fullmatch(path) for own in self.paths)

    def greets(self, _headers: Mapping[str, str], /) -> bool:
        """Say whether the headers, by lower-case names, are those of its own SDK: a body with its keys is then its own."""
        return False

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        """Say whether a body is of this dialect, where none that was asked before took it; without keys its route tells."""
        return bool(self.keys) and all(payload.get(key) is not None for key in self.keys)

    @abstractmethod
    def read(self, fields: Fields) -> RerankRequest:
        """Make the request of a body that was recognised. Raises InvalidRequest."""

    @abstractmethod
    def answer(self, scored: Scored) -> object:
        """Return what is sent back, as a value for JSON, of which parts may be Written."""

    @abstractmethod
    def error(self, error: RerankError, request_id: str, /) -> dict[str, object]:
        """Return what is sent instead of an answer, as a value for JSON."""

    def status(self, error: RerankError) -> int:
        """Return the HTTP status of an error."""
        return status(error)

    def error_headers(self, _error: RerankError, /) -> dict[str, str]:
        """Return the headers that its clients know an error by."""
        return {}


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(map(re.escape, re.split(r"\{[^}]*\}", path))))
