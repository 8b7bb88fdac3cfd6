"""Whether a test collection has leaked into the training text: then what the gate measures promises nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sagerank.evaluation.collection import Collection

from .mine import Text

# Words in a row that two texts do not share by chance; the number is that of the GPT-3 paper (Brown et al. 2020).
RUN = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How much of a test collection stands in a training text.

    queries: those that are training queries word by word; documents: those that share RUN words in a row with a
    training passage, or with their whole text where it is shorter.
    """

    data: str
    queries: int
    of_queries: int
    documents: int
    of_documents: int


def overlap(collection: Collection, text: Text) -> Overlap:
    asked = {_words(query) for query, _ in text.queries}
    owners: dict[int, set[str]] = {}
    for key, document in collection.documents.items():
        for run in _runs(document):
            owners.setdefault(run, set()).add(key)
    shared: set[str] = set()
    for passage in text.passages:
        for run in _runs(passage):
            shared |= owners.get(run, set())
    return Overlap(
        data=collection.name,
        queries=sum(_words(query) in asked for query in collection.queries.values()),
        of_queries=len(collection.queries),
        documents=len(shared),
        of_documents=len(collection.documents),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.lower()))


def _runs(text: str) -> Iterator[int]:
    words = _words(text)
    for start in range(max(1, len(words) - RUN + 1)):
        yield hash(words[start : start + RUN])
