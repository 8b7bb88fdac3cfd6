"""Texts and a small workload for the measurements."""

from __future__ import annotations

from pathlib import Path

import pytest

QUERY = "what causes rain"
TEXTS = ["Rain falls when clouds cool.", "Cats sleep all day.", "A cloud is water in the air. " * 9]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n\n")
    return path
