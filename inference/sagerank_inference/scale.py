"""How a model's logit becomes the score that is answered, and which logit is enough. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from .contract import sigmoid


@dataclass(frozen=True, slots=True)
class Scale:
    """What an artefact says of its logits; by default nothing, and a score is the sigmoid of the logit.

    Results are ranked by their logits, so a scale never changes an order.
    """

    temperature: float = 1.0  # above 0: how many logits of this model are one of the score's
    shift: float = 0.0  # the logit whose score is 0.5
    cutoff: float | None = None  # the logit that "min_score": "calibrated" stands for

    def score(self, logit: float) -> float:
        """Return the score of a logit, in [0, 1]: a probability as far as the temperature and the shift were fitted."""
        return sigmoid((logit - self.shift) / self.temperature)


AS_IT_IS = Scale()
