"""Which characters of a text some of its tokens are of: where the window stands that gave a document its score.

All tokens are of the whole text. Otherwise a span ends where the next token begins, so that an accent that the tokenizer
drops stays with its letter, and white space at either end is left out. A character of several tokens is in the span of each.
"""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[int, int]  # the first character, and the one after the last

# As Unicode has it, and the library: to Python alone, the separators of ASCII are white space too.
_WHITE = "".join(
    letter for letter in map(chr, range(0x3001)) if letter.isspace() and letter not in "\x1c\x1d\x1e\x1f"
)


class Search:
    """Looks for the tokens from `first` up to `last`, which is not among them, in a text that is read piece by piece."""

    def __init__(self, text: str, first: int, last: int) -> None:
        self._text, self._first, self._last = text, first, last
        self._tokens = self._read = 0  # of the text, so far; characters
        self._begin = self._end = 0
        self._next = -1  # where the token after the last begins

    @property
    def found(self) -> bool:
        """Whether no other piece is needed."""
        return self._next >= 0

    def add(self, piece: str, offsets: Sequence[Span]) -> None:
        """Accept the next piece, with the characters of it that each token is of."""
        known = range(self._tokens, self._tokens + len(offsets))
        if self._first in known:
            self._begin = self._read + offsets[self._first - known.start][0]
        if self._last - 1 in known:
            self._end = self._read + offsets[self._last - 1 - known.start][1]
        if self._last in known:
            self._next = self._read + offsets[self._last - known.start][0]
        self._tokens, self._read = known.stop, self._read + len(piece)

    @property
    def span(self) -> Span:
        """The characters of these tokens, when they were found or the text has ended."""
        begin = self._begin if self._first else 0
        end = max(self._end, self._next) if self.found else len(self._text)
        if self._first:
            begin = end - len(self._text[begin:end].lstrip(_WHITE))
        if end < len(self._text):
            end = begin + len(self._text[begin:end].rstrip(_WHITE))
        return begin, end
