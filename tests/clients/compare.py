"""A client's scores beside the engine's."""

from __future__ import annotations

from collections.abc import Sequence

from sagerank_inference.dialects import sigmoid

from .groups import Row

TOLERANCE = 1e-6  # of scores from 0 to 1 and of logits


def fault(row: Row, logits: Sequence[float]) -> str:
    """What is wrong with a row; nothing where its scores are the engine's."""
    if row.scores is None:
        return row.error or "no scores"
    expected = logits if row.raw else list(map(sigmoid, logits))
    if len(row.scores) != len(expected):
        return f"{len(row.scores)} scores of {len(expected)} documents"
    given = {at: score for at, score in enumerate(row.scores) if score is not None}
    if len(given) != (row.top or len(expected)):
        return f"{len(given)} scores of {row.top or len(expected)} that were asked for"
    for at, score in given.items():
        if not abs(score - expected[at]) <= TOLERANCE:
            return f"document {at} has {score}, not {expected[at]}"
    others = [score for at, score in enumerate(expected) if at not in given]
    if others and min(given.values()) < max(others) - TOLERANCE:
        return "other documents are better"
    return ""
