"""Why a peer cannot run."""

from __future__ import annotations

from ...evaluation import EvaluationError


class PeerError(EvaluationError):
    """A peer that cannot be run here; one sentence, listed in its row."""
