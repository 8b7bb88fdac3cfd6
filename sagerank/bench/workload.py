"""What is scored: real text of the packages, the same bytes each time.

Both workloads come from the OpenStax passages that the demo and the sample hold (CC BY 4.0).
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from sagerank.models.build import MICRO
from sagerank_inference.tokenise import Tokeniser

from ..evaluation import DEMO, SAMPLE, EvaluationError

LONG_TOKENS = (1000, 2000, 4000, 8000)


@dataclass(frozen=True, slots=True)
class Workload:
    """Documents that are scored for a query."""

    name: str
    query: str
    documents: tuple[str, ...]


def passages() -> Workload:
    """100 passages of mixed length for one query, 75 to 289 tokens with it, about 150 in the mean (of micro's tokenizer).

    The demo's 36, as they are, and 64 of the sample, whose passages are 60 words: of three, two are two
    neighbours of one book joined. Shuffled, since retrieval does not sort by length.
    """
    query, documents = demo()
    sample = _sample()
    while len(documents) < 100:
        joined = 1 if len(documents) % 3 == 0 else 2
        documents.append(" ".join(next(sample) for _ in range(joined)))
    random.Random(0).shuffle(documents)
    return Workload("passages", query, tuple(documents))


def long(tokens: Sequence[int] = LONG_TOKENS) -> Workload:
    """Documents of about so many tokens with the query and never more (of micro's tokenizer).

    They are passages one after the other, the last one cut; a document goes on where the one before it ended.
    """
    query, _ = demo()
    words = " ".join(_sample()).split()
    tokeniser = Tokeniser.load(MICRO)
    frame = len(tokeniser(query, [""]).ids[0])
    # WordPiece splits at spaces first, so the tokens of a text are those of its words.
    ends = list(accumulate(count - 2 for count in tokeniser("", words).document_tokens))
    documents, first, used = [], 0, 0
    for count in tokens:
        if count < 2 * frame or count - frame > ends[-1]:
            raise EvaluationError(
                f"--tokens is {count}: give {2 * frame} to {ends[-1] + frame}, or your own text with --documents."
            )
        if used + count - frame > ends[-1]:
            first, used = 0, 0
        last = bisect_right(ends, used + count - frame)
        documents.append(" ".join(words[first:last]))
        first, used = last, ends[last - 1]
    return Workload("long", query, tuple(documents))


def from_file(query: str, path: Path) -> Workload:
    """The documents of a file, one a line. Raises EvaluationError where there is none."""
    # The locale of the command line may be C, its text is UTF-8.
    query = os.fsencode(query).decode("utf-8", "replace")
    documents = [line for line in re.split(r"\r?\n", path.read_text(encoding="utf-8")) if line.strip()]
    if not documents:
        raise EvaluationError(f"{path} holds no documents: give one a line.")
    return Workload(path.name, query, tuple(documents))


def demo() -> tuple[str, list[str]]:
    """The demo's query and its passages."""
    raw = json.loads(DEMO.read_text(encoding="utf-8"))
    return raw["query"], [passage["text"] for passage in raw["passages"]]


def _sample() -> Iterator[str]:
    """The sample's passages. Neighbours in a book are neighbours here, as far as the sample holds both."""
    with gzip.open(SAMPLE / "passages.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    yield from (row["text"] for row in sorted(rows, key=lambda row: (row["source"], row["id"])))
    with (SAMPLE / "heldout" / "corpus.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    yield from (row["text"] for row in sorted(rows, key=lambda row: row["_id"]))
