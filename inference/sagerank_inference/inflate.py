"""Bodies that arrive compressed, inflated piece by piece: who reads them stops where they grow too large."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from .contract import InvalidRequest, UnsupportedMediaType

_PIECE = 65_536  # bytes
_ANY_HEADER, _NO_HEADER = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS


class Inflated:
    """One body on its way in."""

    def __init__(self, encoding: str) -> None:
        """encoding: of the Content-Encoding header. Raises UnsupportedMediaType."""
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise UnsupportedMediaType(
                f"Content-Encoding {encoding[:40]!r} is not read here: send gzip, deflate or the body uncompressed."
            )
        self._plain, self._deflate = name in ("", "identity"), name == "deflate"
        self._stream: zlib._Decompress | None = None

    def pieces(self, part: bytes) -> Iterator[bytes]:
        """Yield what a part of the body stands for. Raises InvalidRequest."""
        if self._plain:
            yield part
            return
        while part:
            if self._stream is None:
                # By the standard deflate has zlib's header; some send it without.
                bare = self._deflate and part[0] & 0x0F != zlib.DEFLATED
                self._stream = zlib.decompressobj(_NO_HEADER if bare else _ANY_HEADER)
            try:
                yield self._stream.decompress(part, _PIECE)
            except zlib.error:
                raise _broken() from None
            part = self._stream.unconsumed_tail
            if self._stream.eof:  # gzip may hold several, one after the other
                part, self._stream = self._stream.unused_data, None

    def check(self) -> None:
        """Raise InvalidRequest where the body ended too early."""
        if self._stream is not None and not self._stream.eof:
            raise _broken()


def _broken() -> InvalidRequest:
    return InvalidRequest(
        "The body is not compressed as its Content-Encoding says, or not all of it came: send it again, or uncompressed."
    )
