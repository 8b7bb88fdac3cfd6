"""Why a peer cannot run."""

from __future__ import annotations

from pathlib import Path

from ...evaluation import EvaluationError


class PeerError(EvaluationError):
    """A peer that cannot be run here; one sentence, listed in its row."""


def last_words(stderr: Path | str, otherwise: str) -> str:
    """The last line of a failed process's stderr that says something, at most 300 characters of it."""
    text = stderr.read_text(encoding="utf-8", errors="replace") if isinstance(stderr, Path) else stderr
    lines = [line.strip() for line in text.splitlines() if any(letter.isalnum() for letter in line)]
    return lines[-1][:300] if lines else otherwise
