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


def near(name: str, known: Iterable[str]) -> list[str]:
    """The known names that somebody may have meant: those hardly different, or begun so, or else the one most like it."""
    known = sorted(known)
    begun = [each for each in known if each.startswith(name)][:3]
    return (
        difflib.get_close_matches(name, known, 3, 0.8)
        or begun
        or difflib.get_close_matches(name, known, 1, 0.65)
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Say `did you mean x?`, or what is known where nothing is like it."""
    known = sorted(known)
    meant = near(name, known)
    return f"did you mean {', '.join(meant)}?" if meant else f"known are {', '.join(known)}."


def unknown(what: str, value: str, known: Iterable[str]) -> CostError:
    """The sentence for a name that does not exist, with the nearest that do."""
    return CostError(f"There is no {what} {value!r}: {nearest(value, known)}")
