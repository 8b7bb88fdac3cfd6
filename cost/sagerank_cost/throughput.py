"""How fast a model is somewhere: measured, or estimated from arithmetic, between bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

from . import CostError
from .arithmetic import Estimate, beside, on_instance, on_serverless
from .catalogue import Instance
from .measured import Measurement, nearest, own, own_file, serverless
from .memory import SERVERLESS_VCPUS
from .models import Choice, check_precision
from .store import DATA

_NORMAL = NormalDist()
# The seconds of a measured request between runs, and how that grows with the distance of another request from it.
_SPREAD, _FARTHER = 1.1, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """The seconds that one request takes alone, between the bounds `low` and `high`.

    The basis is measured, vendor or estimated; `why` derives it. beside: the share of these seconds that is not the model's but HTTP,
    JSON and tokenisation, which a request takes too whose scores are all known.
    """

    seconds: float
    low: float
    high: float
    basis: str
    why: str
    beside: float = 1.0

    def at(self, confidence: float) -> Speed:
        """The seconds that a request does not exceed with this probability (0 to 1, exclusive), as if they were known.

        The estimate is taken for the median, and `low` and `high` for the 5th and the 95th percentile: on either side of
        the median the logarithm of the seconds is normal. Raises CostError for a confidence outside.
        """
        if not 0 < confidence < 1:
            raise CostError(
                f"The confidence is {confidence:g}: give more than 0 and less than 1, such as 0.95."
            )
        bound = self.high if confidence > 0.5 else self.low
        share = abs(_NORMAL.inv_cdf(confidence)) / _NORMAL.inv_cdf(0.95)
        return replace(self, seconds=self.seconds * (bound / self.seconds) ** share)


def to_measure(seconds: float, confidence: float) -> float:
    """What a measured request may take at most for it to be counted, with this confidence, with no more than `seconds`."""
    spread = Speed(seconds=1.0, low=1 / _SPREAD, high=_SPREAD, basis="measured", why="")
    return seconds / spread.at(confidence).seconds


def speed(
    choice: Choice, precision: str, instance: Instance, *, documents: int, tokens: int, folder: Path = DATA
) -> Speed:
    """How fast one request of `documents` x `tokens` is. Raises CostError where the model cannot run in this precision there.

    The container drives one GPU; others of the instance stay idle.
    """
    shape = {"documents": documents, "tokens": tokens}
    row = nearest(choice.name, check_precision(precision), instance.name, **shape, folder=folder)
    if row:
        return _scaled(row, choice, **shape, folder=folder)
    estimate = on_instance(choice.flops(documents, tokens), documents * tokens, precision, instance)
    return _speed(estimate)


def serverless_speed(
    choice: Choice, precision: str, memory_mb: int, *, documents: int, tokens: int, folder: Path = DATA
) -> Speed:
    """How fast one request of `documents` x `tokens` is on a serverless endpoint. Raises CostError for bf16."""
    shape = {"documents": documents, "tokens": tokens}
    row = nearest(choice.name, check_precision(precision), serverless(memory_mb), **shape, folder=folder)
    if row:
        return _scaled(row, choice, **shape, folder=folder, vcpus=SERVERLESS_VCPUS[memory_mb])
    return _speed(on_serverless(choice.flops(documents, tokens), documents * tokens, precision, memory_mb))


def _speed(estimate: Estimate) -> Speed:
    low, typical, high = estimate.seconds
    share = estimate.beside / typical
    return Speed(seconds=typical, low=low, high=high, basis="estimated", why=estimate.why, beside=share)


def _scaled(
    row: Measurement, choice: Choice, *, documents: int, tokens: int, folder: Path, vcpus: float = 1.0
) -> Speed:
    """A measured request as another shape: what is beside the arithmetic grows with the tokens, the rest with the operations."""
    work = choice.flops(documents, tokens) / choice.flops(row.documents, max(1, round(row.tokens)))
    # No more than half of what was measured: what is beside may take less there than we think.
    known = min(beside(row.documents * row.tokens, vcpus).typical, row.seconds / 2)
    more = beside(documents * tokens, vcpus).typical / beside(row.documents * row.tokens, vcpus).typical
    seconds = (row.seconds - known) * work + known * more
    spread = _SPREAD * max(work, 1 / work) ** _FARTHER
    whose = f"yours, in {own_file(folder)}" if row in own(folder) else "ours"
    why = f"{row.documents} x {row.tokens:g} tokens in {row.seconds:g} s ({whose}: {row.source}, {row.date})"
    if (row.documents, row.tokens) != (documents, tokens):
        why += ", scaled by arithmetic and tokens"
    return Speed(
        seconds=seconds,
        low=seconds / spread,
        high=seconds * spread,
        basis=row.kind,
        why=why,
        beside=known * more / seconds,
    )
