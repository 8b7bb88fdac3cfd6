"""The texts that are scored."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from sagerank.bench import workload
from sagerank.evaluation import EvaluationError
from sagerank.models.build import MICRO
from sagerank_inference.tokenise import Tokeniser

from .conftest import QUERY, TEXTS


def test_the_passages_are_a_hundred_mixed_ones_and_the_same_each_time() -> None:
    chosen = workload.passages()
    lengths = [len(ids) for ids in Tokeniser.load(MICRO)(chosen.query, chosen.documents).ids]
    assert len(set(chosen.documents)) == 100
    assert statistics.mean(lengths) == pytest.approx(150, abs=6)
    assert (min(lengths), max(lengths)) == (75, 289)
    assert lengths != sorted(lengths)
    assert chosen == workload.passages()


def test_long_documents_fill_their_lengths_and_do_not_repeat() -> None:
    chosen = workload.long((1000, 2000, 8192))
    windows = Tokeniser.load(MICRO)(chosen.query, chosen.documents).ids
    assert len(windows) == 3, "none is longer than the context"
    for ids, wanted in zip(windows, (1000, 2000, 8192), strict=True):
        assert wanted - 12 < len(ids) <= wanted
    assert len({document[:200] for document in chosen.documents}) == 3


def test_own_documents(texts: Path, tmp_path: Path) -> None:
    assert workload.from_file(QUERY, texts).documents == tuple(TEXTS)
    in_the_c_locale = "l'été".encode().decode("ascii", "surrogateescape")
    assert workload.from_file(in_the_c_locale, texts).query == "l'été"
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(EvaluationError, match="holds no documents"):
        workload.from_file(QUERY, tmp_path / "empty.txt")
