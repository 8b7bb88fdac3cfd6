"""Files that a test compares with, and rewrites on demand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .conftest import ROOT


def check(text: str, path: Path) -> None:
    """Fail unless `path` holds `text`. With UPDATE=1 in the environment, write it there."""
    if os.environ.get("UPDATE") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    kept = path.read_text(encoding="utf-8") if path.is_file() else ""
    test, name = os.environ["PYTEST_CURRENT_TEST"].split(" ")[0], path.relative_to(ROOT).as_posix()
    assert text == kept, (
        f"{name} differs. If that was meant: UPDATE=1 {sys.executable} -m pytest '{test}', then read the diff."
    )
