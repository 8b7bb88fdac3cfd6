"""Training text as it is read, and the candidates of each query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagerank.distillation import DistillationError
from sagerank.distillation.corpus import read_jsonl
from sagerank.distillation.mine import Candidates, Text, mine, read_text


def mined(text: Text, seed: int = 0, **options: Any) -> list[Candidates]:
    return list(mine(text, vectors=None, documents=6, limit=100, seed=seed, **options))


def test_candidates_hold_the_positive_once_and_nothing_share_alike(corpus: tuple[Path, Path]) -> None:
    text = read_text(*corpus, made=0, seed=0)
    items = mined(text)
    assert len(items) == 11, "the share-alike source has no passage left, so its query goes too"
    for item in items:
        number = item.query.split()[-1]
        if number != "violin":
            assert sum(f"{number} " in document for document in item.documents) == 1
        assert len(set(item.documents)) == len(item.documents) == len(item.lexical) == 6
        assert all(len(document.split()) in (40, 80, 160) for document in item.documents), "mixed lengths"
        assert not any("secret" in document for document in item.documents)
        assert max(item.lexical) <= 1.0
    assert items == mined(text), "a seed gives the same candidates"
    assert items != mined(text, seed=1)


def test_vectors_bring_what_words_miss(corpus: tuple[Path, Path]) -> None:
    text = Text(("ice glacier", "frozen river", *(f"filler {i}" for i in range(60))), (("glacier", 0),))
    passages = np.zeros((62, 2), np.float32)
    passages[:, 1] = 1
    passages[1] = (1, 0)
    queries = np.array([[1, 0]], np.float32)
    (item,) = mine(text, vectors=(queries, passages), documents=4, limit=1, seed=0)
    assert "frozen river" in item.documents
    assert item.lexical[item.documents.index("ice glacier")] == 1.0


def test_made_queries_are_sentences_and_keywords_of_their_passage(corpus: tuple[Path, Path]) -> None:
    text = read_text(*corpus, made=30, seed=0)
    made = text.queries[11:]
    assert len(made) >= 15
    for query, place in made:
        assert place is not None
        assert all(word in text.passages[place].lower() for word in query.lower().split())


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": "p0", "text": "x", "source": "free", "licence": "MIT"}, ":42: the id 'p0' occurs twice"),
        (
            {"id": "z", "text": " ", "source": "free", "licence": "MIT"},
            ":42: text must be a string that is not empty",
        ),
        ({"id": "z", "text": "x", "source": "free"}, ":42: licence must be"),
    ],
)
def test_a_wrong_passage_is_named(corpus: tuple[Path, Path], row: dict[str, object], reason: str) -> None:
    with corpus[0].open("a") as end:
        end.write(json.dumps(row) + "\n")
    with pytest.raises(DistillationError) as caught:
        read_text(*corpus, made=0, seed=0)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": "q0", "text": "x", "source": "free"}, ":13: the id 'q0' occurs twice"),
        (
            {"id": "z", "text": "x", "source": "free", "positive_passage_id": "p99"},
            ":13: the positive 'p99' is not a passage of p.jsonl",
        ),
        ({"id": "z", "text": "", "source": "free"}, ":13: text must be a string that is not empty"),
    ],
)
def test_a_wrong_query_is_named(corpus: tuple[Path, Path], row: dict[str, object], reason: str) -> None:
    with corpus[1].open("a") as end:
        end.write(json.dumps(row) + "\n")
    with pytest.raises(DistillationError) as caught:
        read_text(*corpus, made=0, seed=0)
    assert reason in str(caught.value)


def test_a_damaged_file_is_named_and_a_cut_line_dropped(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": 2')
    assert list(read_jsonl(path)) == [{"a": 1}]
    path.write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(DistillationError, match=r"x.jsonl:2: not JSON"):
        list(read_jsonl(path))
    zipped = tmp_path / "x.jsonl.gz"
    zipped.write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(DistillationError, match="not a whole gzip file"):
        list(read_jsonl(zipped))
