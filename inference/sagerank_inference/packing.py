"""A batch as one row of tokens: what the packed model reads, made on the host, so that the device never waits to learn a size.

Pairs stand one after the other, [T] tokens; each belongs to a document, which is its pair's number. Before the first attention
equal tokens are equal, as ALiBi leaves no position in them: those U that differ are listed once. T and U are padded up to few
sizes; what pads T is a document of its own, which no pair sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

# Queries and keys of a tile that attention computes or skips; FlexAttention's own default.
BLOCK = 128
# Fewer tokens are padded to so many: of one tile, compilers would make a kernel of its own.
_LEAST = 2 * BLOCK
# The device reads each part from an address that vector loads may begin at.
_ALIGNED = 32

Integers = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Packed:
    """int32 arrays of one batch of B pairs, T tokens with padding, U distinct ones, and T / BLOCK = N tiles."""

    distinct: Integers  # [U] token id, plus the size of the vocabulary where it is of segment 1
    token: Integers  # [T] which of them each token is
    document: Integers  # [T] 0 to B - 1, and B for padding
    first: Integers  # [B] where each pair begins
    lengths: Integers  # [B]
    # Of each tile of queries, the tiles of keys to look at: how many, and which. In `full` ones every query sees every key.
    tile_count: Integers  # [1, 1, N]
    tiles: Integers  # [1, 1, N, N]
    full_count: Integers
    full_tiles: Integers
    longest: int

    def buffer(self) -> tuple[Integers, list[tuple[int, tuple[int, ...]]]]:
        """All arrays in one, which is one copy to a device, and the start and shape of each in field order."""
        *arrays, _longest = (getattr(self, field.name) for field in fields(self))
        starts = np.cumsum([0, *(-(-array.size // _ALIGNED) * _ALIGNED for array in arrays)])
        whole = np.zeros(starts[-1], np.int32)
        for start, array in zip(starts, arrays, strict=False):
            whole[start : start + array.size] = array.ravel()
        return whole, [(int(start), array.shape) for start, array in zip(starts, arrays, strict=False)]


def bucket(size: int) -> int:
    """Return the size that `size` is padded to: of whole tiles, eight to each power of two, so that at most an eighth is padding."""
    step = max(BLOCK, 1 << max(0, size.bit_length() - 4))
    return max(_LEAST, -(-size // step) * step)


def pack(batch: Sequence[Sequence[int]], *, vocabulary: int, separator: int | None) -> Packed:
    """Pack pairs of token ids, none of them empty.

    separator: the id after whose first occurrence a pair's segment 1 begins; None: every token is of segment 0.
    """
    lengths = np.fromiter(map(len, batch), np.int32, len(batch))
    ids = np.concatenate([np.asarray(pair, np.int64) for pair in batch])
    first = np.cumsum(lengths, dtype=np.int32) - lengths
    document = np.repeat(np.arange(len(batch), dtype=np.int32), lengths)
    if separator is not None:
        here = ids == separator
        before = np.cumsum(here) - here
        ids = ids + vocabulary * (before > before[first][document])
    distinct, token = np.unique(ids, return_inverse=True)
    size = bucket(len(ids))
    document = _padded(document, size, len(batch))
    tile_count, tiles, full_count, full_tiles = _tiles(document)
    return Packed(
        distinct=_padded(distinct, bucket(len(distinct)), int(distinct[0])),
        token=_padded(token, size, 0),
        document=document,
        first=first,
        lengths=lengths,
        tile_count=tile_count,
        tiles=tiles,
        full_count=full_count,
        full_tiles=full_tiles,
        longest=int(lengths.max()),
    )


def _padded(values: npt.NDArray[np.integer], size: int, filler: int) -> Integers:
    result = np.full(size, filler, np.int32)
    result[: len(values)] = values
    return result


def _tiles(document: Integers) -> tuple[Integers, Integers, Integers, Integers]:
    """What FlexAttention's BlockMask is made of, without a mask of T x T.

    Documents ascend, so the keys of a tile's queries are neighbours: from the beginning of its first document to the end
    of its last.
    """
    tiled = document.reshape(-1, BLOCK)
    low, high = tiled[:, 0], tiled[:, -1]
    begin = np.searchsorted(document, low, "left") // BLOCK
    end = (np.searchsorted(document, high, "right") - 1) // BLOCK
    column = np.arange(len(tiled))
    seen = (begin[:, None] <= column) & (column <= end[:, None])
    one = low == high
    full = seen & one[:, None] & one & (low[:, None] == low)
    return (*_listed(seen & ~full), *_listed(full))


def _listed(chosen: npt.NDArray[np.bool_]) -> tuple[Integers, Integers]:
    """How many columns of each row are chosen, and which, these first."""
    order = np.argsort(~chosen, axis=1, kind="stable")
    count = chosen.sum(1)
    return count.astype(np.int32)[None, None], order.astype(np.int32)[None, None]
