"""What a reranker on SageMaker costs, and which deployment to choose: before anything is deployed.

store -> catalogue, models -> lines, memory, throughput, traffic -> bill -> decide (the cheapest), simulate (a month), template ->
reports -> render. Money is Decimal. A price that is not known is an error with the nearest one that is, or a
line that is said to be missing; never 0. Imports nothing of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CostError(ValueError):
    """A question that cannot be answered as asked, with what to change."""


def unknown(what: str, value: str, known: Iterable[str]) -> CostError:
    """The sentence for a name that does not exist, with the nearest that do."""
    known = sorted(known)
    near = difflib.get_close_matches(value, known, 3, 0.4) or known[:6]
    return CostError(f"There is no {what} {value!r}: did you mean {', '.join(near)}?")
