"""Which characters of a text its tokens are of: where the window stands that gave a document its score."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

Span = tuple[int, int]  # the first character, and the one after the last

# As Unicode has it, and the library: to Python alone, the separators of ASCII are white space too.
_WHITE = "".join(
    letter for letter in map(chr, range(0x3001)) if letter.isspace() and letter not in "\x1c\x1d\x1e\x1f"
)


class Places:
    """The characters that the tokens of one text are of, which is read piece by piece."""

    def __init__(self) -> None:
        self._starts, self._ends = array("i"), array("i")
        self._read = 0  # characters

    def __len__(self) -> int:
        """Return how many tokens there are so far."""
        return len(self._starts)

    def add(self, piece: str, offsets: Sequence[Span]) -> None:
        """Accept the next piece, with the characters of it that each token is of."""
        read = self._read
        self._starts.extend([read + start for start, _ in offsets])
        self._ends.extend([read + end for _, end in offsets])
        self._read += len(piece)

    def span(self, text: str, first: int, last: int) -> Span:
        """Return where the tokens from `first` up to `last`, which is not among them, stand in the text.

        All tokens are of the whole text. Otherwise a span ends where the next token begins, so that an accent that the
        tokenizer drops stays with its letter, and white space at either end is left out. A character of several tokens
        is in the span of each.
        """
        start = self._starts[first] if first else 0
        end = self._starts[last] if last < len(self._starts) else self._read
        end = max(end, self._ends[last - 1]) if last else end
        if first:
            start = end - len(text[start:end].lstrip(_WHITE))
        if end < len(text):
            end = start + len(text[start:end].rstrip(_WHITE))
        return start, end
