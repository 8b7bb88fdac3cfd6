"""Files that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagerank_cost import CostError
from sagerank_cost.store import write_text


def test_writing_replaces_the_whole_file_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]
    write_text(path, "\udce9.csv")  # what Python makes of a file name that is not UTF-8
    assert path.read_bytes() == b"\xe9.csv"
    with pytest.raises(CostError, match="cannot be written"):
        write_text(tmp_path / "none" / "a.csv", "x")
