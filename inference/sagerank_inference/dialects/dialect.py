"""What a wire format has to say of itself, and what an answer is made of."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..contract import Group, RerankError, RerankRequest, Scores, best_first
from .fields import Fields


def sigmoid(logit: float) -> float:
    """Return the probability of a logit, in [0, 1], without overflow for any finite one."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1.0 + power)


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

    def probabilities(self) -> list[float]:
        """Return the sigmoids of all groups' logits, in the order of the request."""
        return [sigmoid(logit) for scores in self.scores for logit in scores.values]

    def ranked(self) -> tuple[Group, Scores, list[int]]:
        """Return the only group, its scores, and the indices of the documents to show, best first.

        By logit: far from zero, the sigmoids of different logits are the same number.
        """
        (group,), (scores,) = self.request.groups, self.scores
        return group, scores, best_first(scores.values, group.top_n)

    def results(self, *, texts_as_objects: bool = False) -> list[dict[str, object]]:
        """Return what Jina and Cohere call `results`. texts_as_objects: documents are echoed as {"text"}."""
        group, scores, indices = self.ranked()
        results: list[dict[str, object]] = []
        for index in indices:
            results.append({"index": index, "relevance_score": round(sigmoid(scores.values[index]), 8)})
            if self.request.return_documents:
                original = group.originals[index] if group.originals else None
                text = group.documents[index]
                if original is not None:
                    results[-1]["document"] = Written(original)
                else:
                    results[-1]["document"] = {"text": text} if texts_as_objects else text
        return results


class Dialect(ABC):
    """One wire format: the bodies it reads, its answers and its errors."""

    name: str  # in RerankRequest.dialect, in logs and metrics
    keys: tuple[str, ...]  # which a body of this dialect has
    shape = ""  # how its bodies look, shown to who sends one that no dialect reads
    path: str | None = None  # the HTTP route where every body is taken for its own

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        """Say whether a body is of this dialect, where none that was asked before took it."""
        return all(key in payload for key in self.keys)

    @abstractmethod
    def read(self, fields: Fields) -> RerankRequest:
        """Make the request of a body that was recognised. Raises InvalidRequest."""

    @abstractmethod
    def answer(self, scored: Scored) -> object:
        """Return what is sent back, as a value for JSON, of which parts may be Written."""

    @abstractmethod
    def error(self, error: RerankError, request_id: str, /) -> dict[str, object]:
        """Return what is sent instead of an answer, as a value for JSON."""
