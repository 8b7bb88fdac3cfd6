"""Which pairs run together: a pure function from lengths to batches."""

from __future__ import annotations

from collections.abc import Sequence

# The graph computes a batch in windows where its longest pair has so many tokens, the shorter ones too, with windows that fit
# all of them.
LONG = 768


def apart(lengths: Sequence[int]) -> list[list[int]]:
    """Divide a batch into each long pair by itself, and all others: no pair's arithmetic depends on its company then."""
    short = [index for index, length in enumerate(lengths) if length < LONG]
    parts = [[index] for index, length in enumerate(lengths) if length >= LONG]
    return [*parts, short] if short else parts


def cost(longest: int, pairs: int) -> int:
    """Return the tokens that a batch is charged with: attention computes pairs x longest, and no layer more."""
    return longest * pairs


def plan(lengths: Sequence[int], *, max_tokens: int) -> list[list[int]]:
    """Divide indices into `lengths` (tokens) into batches that cost at most max_tokens.

    Every index is in exactly one batch; a pair longer than max_tokens is a batch of its own. Neighbours in
    length share a batch, so little is padded; the longest come first, so the memory of the first batch serves
    all others.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, not {max_tokens}.")
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not batches or cost(longest, len(batches[-1]) + 1) > max_tokens:
            batches.append([])
            longest = lengths[index]
        batches[-1].append(index)
    return batches
