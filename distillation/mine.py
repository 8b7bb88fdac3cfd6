"""Candidates for each training query: its positive, hard negatives by BM25, and random passages."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bm25s
import numpy as np


@dataclass(frozen=True, slots=True)
class Candidates:
    """One query and the documents to be ranked for it. Which is the positive is not recorded: the teacher
    decides.
    """

    query: str
    documents: tuple[str, ...]


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a .jsonl or .jsonl.gz file. A last line that a killed writer left incomplete is dropped."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def share_alike(licence: str) -> bool:
    """Whether text under this licence is left out: whether weights inherit share-alike is unsettled."""
    return "BY-SA" in licence.upper()


def first_words(text: str, count: int) -> str:
    return " ".join(text.split()[:count])


def mine(
    passages: Path, queries: Path, *, hard: int, random_negatives: int, words: int, limit: int, seed: int
) -> Iterator[Candidates]:
    """Yield at most `limit` queries, shuffled by `seed`, each with positive (where known) + hard + random
    candidates.

    passages: JSON Lines with id, text, source, licence; queries: id, text, positive_passage_id, source.
    Documents keep their first `words` words. A query whose source has no passage left after the licence
    filter is dropped.
    """
    kept = [row for row in read_jsonl(passages) if not share_alike(row["licence"])]
    place = {row["id"]: index for index, row in enumerate(kept)}
    sources = {row["source"] for row in kept}
    texts = [first_words(row["text"], words) for row in kept]
    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    wanted = [row for row in read_jsonl(queries) if row["source"] in sources]
    generator = random.Random(seed)
    generator.shuffle(wanted)
    wanted = wanted[:limit]
    tokens = bm25s.tokenize([row["text"] for row in wanted], stopwords="en", show_progress=False)
    # Depth 3 x hard: negatives are drawn from near the top, where a lexical ranker is wrong, and not only
    # from its very first.
    found, _ = retriever.retrieve(tokens, k=min(len(texts), 3 * hard + 1), show_progress=False)
    for row, near in zip(wanted, np.asarray(found).tolist(), strict=True):
        positive = place.get(row.get("positive_passage_id"))
        chosen = [] if positive is None else [positive]
        # The top hit is always judged; the rest is a sample.
        others = [index for index in near if index != positive]
        chosen += others[:1] + generator.sample(others[1:], min(hard - 1, len(others) - 1))
        while len(chosen) < hard + random_negatives + 1 and len(chosen) < len(texts):
            index = generator.randrange(len(texts))
            if index not in chosen:
                chosen.append(index)
        generator.shuffle(chosen)
        yield Candidates(row["text"], tuple(texts[index] for index in chosen))
