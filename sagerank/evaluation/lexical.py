"""bm25s, imported without the warning that its progress bars give in a notebook that has no ipywidgets: nobody asked for a bar."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "IProgress not found")
    import bm25s

__all__ = ["bm25s"]
