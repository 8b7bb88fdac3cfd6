"""Token ids of pairs: what a query and a document keep, windows of a document that is longer than its room, and their maximum."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from .contract import TokenLimitExceeded, Truncation

Place = (
    tuple[int, int] | None
)  # tokens of a document: the first, and the one after the last; None: all there are


@dataclass(frozen=True, slots=True)
class Windows:
    """What one query with its documents becomes.

    ids[w] are the token ids of window w with special tokens, four bytes each; document[w] is the document it
    belongs to (ascending), place[w] which of its tokens these are. Token counts are as the rerank dialects bill them:
    each text with its own special tokens, at most what a pair may have.
    """

    ids: Sequence[Sequence[int]]
    document: list[int]
    place: list[Place]
    query_tokens: int
    document_tokens: list[int]

    def select(self, documents: Sequence[int]) -> Windows:
        """Return the windows of some documents, in the order given: as if only they had been tokenised."""
        of: dict[int, list[int]] = {}
        for window, document in enumerate(self.document):
            of.setdefault(document, []).append(window)
        chosen = [window for document in documents for window in of[document]]
        return Windows(
            ids=[self.ids[window] for window in chosen],
            document=[index for index, document in enumerate(documents) for _ in of[document]],
            place=[self.place[window] for window in chosen],
            query_tokens=self.query_tokens,
            document_tokens=[self.document_tokens[document] for document in documents],
        )

    def scatter(self, logits: Sequence[float]) -> list[float]:
        """Return the logit of each document, the maximum over its windows."""
        values = [float("-inf")] * len(self.document_tokens)
        for document, logit in zip(self.document, logits, strict=True):
            values[document] = max(values[document], logit)
        return values

    def best(self, logits: Sequence[float]) -> list[Place]:
        """Return the place of each document's best window, the first of equals."""
        best: dict[int, int] = {}
        for window, document in enumerate(self.document):
            if document not in best or logits[window] > logits[best[document]]:
                best[document] = window
        return [self.place[best[document]] for document in range(len(self.document_tokens))]


@dataclass(frozen=True, slots=True)
class Frame:
    """The special tokens before the query, between query and document, and after the document."""

    before: array[int]
    between: array[int]
    after: array[int]

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


class Making:
    """The windows of a query's documents, while these are read one after the other."""

    def __init__(
        self,
        frame: Frame,
        head: array[int],
        truncation: Truncation,
        *,
        max_tokens: int,
        overlap_tokens: int,
    ) -> None:
        """head: the query's tokens. max_tokens: of a pair, as the truncation limits it."""
        self._frame, self._head, self._truncation = frame, head, truncation
        self._max_tokens, self._both = max_tokens, max_tokens - frame.size
        self._before = frame.before + head + frame.between
        self._room = self._both - len(head)
        self._step = max(1, self._room - min(overlap_tokens, self._room // 4))
        self._windowed = truncation.allowed and truncation.max_pair_tokens is None
        self._enough = self._needed()
        self.tokens = array("i")  # of the document at hand
        self._made = 0  # tokens of `_ids`
        self._ids: list[array[int]] = []
        self._owner: list[int] = []
        self._counts: list[int] = []
        self._place: list[Place] = []

    def _needed(self) -> int | None:
        """Return how many tokens of a document decide what it keeps; None: all."""
        truncation = self._truncation
        limits = [] if truncation.max_document_tokens is None else [truncation.max_document_tokens]
        if truncation.allowed and truncation.max_pair_tokens is not None:
            limits.append(max(self._both, len(self._head)) + 1)
        return None if truncation.left else min(limits, default=None)

    @property
    def document(self) -> int:
        """The number of the document at hand."""
        return len(self._counts)

    @property
    def full(self) -> bool:
        """Whether more of the document at hand would change nothing."""
        return self._enough is not None and len(self.tokens) >= self._enough

    @property
    def size(self) -> int:
        """The tokens of all windows, those of the document at hand among them."""
        limit = self._truncation.max_document_tokens
        length = len(self.tokens) if limit is None else min(len(self.tokens), limit)
        frame = len(self._before) + len(self._frame.after)
        if not self._windowed:
            return self._made + min(frame + length, self._max_tokens)
        count = len(_starts(length, self._room, self._step))
        return self._made + count * frame + (length if count == 1 else count * self._room)

    def next_document(self) -> None:
        """Make the windows of the document at hand. Raises TokenLimitExceeded."""
        tokens, left = self.tokens, self._truncation.left
        if self._truncation.max_document_tokens is not None:
            tokens = clip(tokens, self._truncation.max_document_tokens, left=left)
        before, room = self._before, self._room
        if len(tokens) > room and not self._windowed:
            if not self._truncation.allowed:
                pair = len(before) + len(tokens) + len(self._frame.after)
                raise TokenLimitExceeded(
                    f"query and documents[{self.document}] have {pair} tokens together, and {self._max_tokens} fit: "
                    f"{TokenLimitExceeded.REMEDY}"
                )
            kept = _share(len(self._head), len(tokens), self._both)
            before = self._frame.before + clip(self._head, kept, left=left) + self._frame.between
            room = self._both - kept
            tokens = clip(tokens, room, left=left)
        read, more = len(self.tokens), self.full  # where that is enough there may be more
        skipped = read - len(tokens) if left else 0
        for start in _starts(len(tokens), room, self._step):
            # The last is moved back so that it ends with the document.
            start = max(0, min(start, len(tokens) - room))
            part = tokens[start : start + room]
            self._ids.append(before + part + self._frame.after)
            self._owner.append(self.document)
            whole = len(part) == read and not more
            self._place.append(None if whole else (skipped + start, skipped + start + len(part)))
            self._made += len(self._ids[-1])
        self._counts.append(min(len(tokens) + 2, self._max_tokens))
        self.tokens = array("i")

    def windows(self) -> Windows:
        """Return them, once all documents are read."""
        return Windows(
            ids=self._ids,
            document=self._owner,
            place=self._place,
            query_tokens=min(len(self._head) + 2, self._max_tokens),
            document_tokens=self._counts,
        )


def _share(query: int, document: int, both: int) -> int:
    """Return how many tokens of a query stay where it and a document may have so many together.

    The longer of the two is cut, down to the length of the other, and then both alike: "longest_first" of transformers
    and vLLM, to the token.
    """
    half = (both + (query > document)) // 2
    return min(query, max(both - document, half))


def clip(tokens: array[int], count: int, *, left: bool) -> array[int]:
    """Return at most so many tokens of a text. left: the last ones."""
    if len(tokens) <= count:
        return tokens
    return tokens[len(tokens) - count :] if left else tokens[:count]


def _starts(length: int, room: int, step: int) -> range:
    """Return where the windows of a document begin, the last as if there were more to come."""
    return range(0, max(length - room, 0) + step, step)
