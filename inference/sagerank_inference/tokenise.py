"""(query, documents) -> token ids of every pair, with one policy for what does not fit.

* The query keeps its first `query_tokens` tokens.
* A document has the room that is left of `max_tokens`. A longer one becomes windows of that room which
  overlap by `overlap_tokens` (at most a quarter of the room); the last window ends where the document ends,
  so it is full. Its score is the maximum over them.
* Where truncation is not allowed, a pair that does not fit is refused instead, with its length, and a query keeps all.
* Where the pair has a limit of its own, the document is cut to what is left of it, into one window. The query keeps at
  most half: both give way as the longer of two does, but one query is the same for all documents.

Text is text: `[SEP]` or `</s>` in a query or document is tokenised as the characters that it is, and no text yields
the id of a special token but the unknown one's. Otherwise a document could forge the pair's structure.

Work and memory are bounded at every step: a long text is tokenised in pieces. They are cut only where the pipeline
begins a new word whatever stands before, so the tokens are those of the whole text; `_cuts` knows where that is. A
text that gives no such place for half a piece (thousands of characters without a space or a punctuation mark) is cut
where the piece ends, and so is one of a pipeline that is not known here, preferably before a space: there a word may
become two.

Only tokenizer.json is read, with the `tokenizers` library: AutoTokenizer of transformers 5.6 and later
rebuilds a byte-level pipeline from the published files and silently mis-tokenises them, and
tokenizer_config.json says 512 tokens where the models take 8,192.
"""

from __future__ import annotations

import json
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer

from .checkpoint import CheckpointError
from .contract import InvalidRequest, TokenLimitExceeded, Truncation
from .reader import Steps, finish

_PIECE = 16_384  # characters of one text that are tokenised as one
_SLICE = 32_768  # characters handed to the library at once: 10 to 40 ms, and up to 20 MB
_TEXT = 16  # what a text costs beside its characters, in characters


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise CheckpointError where the library cannot use what it reads there."""
    try:
        yield
    except (CheckpointError, KeyboardInterrupt, SystemExit):
        raise
    # The library raises bare Exception, and panics, which are not even that.
    except BaseException as error:
        raise CheckpointError(
            f"{path} is not a tokenizer this version of tokenizers reads: {error}"
        ) from None


@dataclass(frozen=True, slots=True)
class Windows:
    """What one query with its documents becomes.

    ids[w] are the token ids of window w with special tokens, four bytes each; document[w] is the document it
    belongs to (ascending), place[w] which of its tokens these are, None: all. Token counts are as the rerank dialects bill them: each text with its own special tokens, at
    most the context.
    """

    ids: Sequence[Sequence[int]]
    document: list[int]
    place: list[tuple[int, int] | None]
    query_tokens: int
    document_tokens: list[int]

    def select(self, documents: Sequence[int]) -> Windows:
        """Return the windows of some documents, in the order given: as if only they had been tokenised."""
        of: dict[int, list[int]] = {}
        for window, document in enumerate(self.document):
            of.setdefault(document, []).append(window)
        windows = [window for document in documents for window in of[document]]
        return Windows(
            ids=[self.ids[window] for window in windows],
            document=[index for index, document in enumerate(documents) for _ in of[document]],
            place=[self.place[window] for window in windows],
            query_tokens=self.query_tokens,
            document_tokens=[self.document_tokens[document] for document in documents],
        )

    def best(self, logits: Sequence[float]) -> list[tuple[int, int] | None]:
        """Return the place of each document's window with the highest logit."""
        values = [float("-inf")] * len(self.document_tokens)
        places: list[tuple[int, int] | None] = [None] * len(values)
        for document, place, logit in zip(self.document, self.place, logits, strict=True):
            if logit > values[document]:
                values[document], places[document] = logit, place
        return places

    def scatter(self, logits: Sequence[float]) -> list[float]:
        """Return the logit of each document, the maximum over its windows."""
        values = [float("-inf")] * len(self.document_tokens)
        for document, logit in zip(self.document, logits, strict=True):
            values[document] = max(values[document], logit)
        return values


class Tokeniser:
    def __init__(
        self, tokenizer: Tokenizer, *, query_tokens: int, max_tokens: int, overlap_tokens: int
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # the library's words for: as any other text
        self._tokenizer = tokenizer
        self._cuts = _cuts(tokenizer)
        self._prefix, self._middle, self._suffix = _template(tokenizer)
        # The model may have a special token among its words all the same.
        self._unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "<unk>")
        added = tokenizer.get_added_tokens_decoder()
        special = {id_ for id_, token in added.items() if token.special}
        self._special = special.union(self._prefix, self._middle, self._suffix) - {self._unknown}
        self.special_tokens = len(self._prefix) + len(self._middle) + len(self._suffix)
        self.query_tokens, self.max_tokens, self.overlap_tokens = query_tokens, max_tokens, overlap_tokens
        if query_tokens < 1 or max_tokens < query_tokens + self.special_tokens + 1:
            raise CheckpointError(
                f"query_tokens {query_tokens} leaves no room for a document in max_tokens {max_tokens}: lower one or raise the other."
            )

    @classmethod
    def load(
        cls,
        model_dir: Path,
        *,
        query_tokens: int = 512,
        max_tokens: int = 8192,
        overlap_tokens: int = 80,
        threads: int = 0,
    ) -> Self:
        """Read `model_dir/tokenizer.json`. Raises CheckpointError.

        threads: the library's own, which the first in a process decides for all; 0: as many as it likes.
        """
        path = model_dir / "tokenizer.json"
        if not path.exists():
            raise CheckpointError(f"{model_dir} holds no tokenizer.json: fetch it with the model.")
        with reading(path):
            tokenizer = Tokenizer.from_file(os.fsencode(path).decode())
            if threads and "RAYON_NUM_THREADS" not in os.environ:
                # Read when the pool starts, which is here; left in the environment it would be every child's.
                os.environ["RAYON_NUM_THREADS"] = str(threads)
                try:
                    tokenizer.encode_batch_fast(["", ""])
                finally:
                    del os.environ["RAYON_NUM_THREADS"]
            return cls(
                tokenizer, query_tokens=query_tokens, max_tokens=max_tokens, overlap_tokens=overlap_tokens
            )

    @property
    def vocab_size(self) -> int:
        """One more than the largest id the tokenizer can emit."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    def __call__(
        self,
        query: str,
        documents: Sequence[str],
        truncation: Truncation = Truncation(),  # noqa: B008 - frozen
    ) -> Windows:
        """Tokenise every text once.

        Raises TokenLimitExceeded where truncation is not allowed and the query, or query and document together,
        do not fit.
        """
        return finish(self.steps(query, documents, truncation))

    def steps(
        self,
        query: str,
        documents: Sequence[str],
        truncation: Truncation = Truncation(),  # noqa: B008 - frozen
    ) -> Steps[Windows]:
        """Do what a call does step by step, each of bounded time and memory, and return the windows.

        Yields after each step how many tokens the windows of all that was read so far have: whoever sees too many,
        or has no more time, goes no further.
        """
        head = yield from self._head(query, truncation)
        windows = _Making(self, head, truncation)
        for batch in _batches(self._unread(documents, windows)):
            for (index, _), part in zip(batch, self._encode(batch), strict=True):
                if index > windows.document:
                    windows.next_document()
                windows.tokens += part
            yield windows.size
        if documents:
            windows.next_document()
        return Windows(
            ids=windows.ids,
            document=windows.owner,
            place=windows.place,
            query_tokens=len(head) + 2,
            document_tokens=windows.counts,
        )

    def _head(self, query: str, truncation: Truncation) -> Steps[array[int]]:
        """Return the tokens of the query, as many as it may have."""
        head = array("i")
        most = self._most_of_query(truncation)
        for batch in _batches((0, piece) for piece in self._pieces(query)):
            for part in self._encode(batch):
                head += part
            yield 0
            if len(head) >= most and truncation.allowed and not truncation.left:
                break
        if len(head) > most and not truncation.allowed:
            raise TokenLimitExceeded(
                f"query has {len(head)} tokens, and {most} fit: {TokenLimitExceeded.REMEDY}"
            )
        return _clip(head, most, left=truncation.left)

    def _most_of_query(self, truncation: Truncation) -> int:
        """Return how many tokens a query may have. Raises InvalidRequest."""
        pair = truncation.max_pair_tokens
        if pair is not None and pair < self.special_tokens + 2:
            raise InvalidRequest(
                f"The pair may have {pair} tokens, of which {self.special_tokens} are special: allow at least {self.special_tokens + 2}."
            )
        room = min(self.max_tokens, pair or self.max_tokens) - self.special_tokens
        if not truncation.allowed:
            return room
        return self.query_tokens if pair is None else min(self.query_tokens, room // 2)

    def characters(self, text: str, place: tuple[int, int]) -> Steps[tuple[int, int]]:
        """Return the first character of some of a document's tokens, and the one after the last.

        place: the first token and the one after the last. Yields after each piece that is read.
        """
        first, last = place
        begin = end = 0
        seen = at = 0
        for piece in self._pieces(text):
            encoding = self._tokenizer.encode(piece, add_special_tokens=False)
            offsets = [
                offset
                for token, offset in zip(encoding.ids, encoding.offsets, strict=True)
                if token not in self._special or self._unknown is not None
            ]
            if seen <= first < seen + len(offsets):
                begin = at + offsets[first - seen][0]
            if seen < last <= seen + len(offsets):
                end = at + offsets[last - 1 - seen][1]
                break
            seen, at = seen + len(offsets), at + len(piece)
            yield 0
        return begin, end

    def _unread(self, documents: Sequence[str], windows: _Making) -> Iterator[tuple[int, str]]:
        """Yield the pieces of all documents, but none that would be cut off."""
        for index, text in enumerate(documents):
            for piece in self._pieces(text):
                if index == windows.document and windows.full:
                    break
                yield index, piece

    def _pieces(self, text: str) -> Iterator[str]:
        """Yield a text in pieces of at most _PIECE characters, whose tokens are together those of the text."""
        start = 0
        while len(text) - start > _PIECE:
            end = self._cut(text, start + _PIECE // 2, start + _PIECE)
            yield text[start:end]
            start = end
        yield text[start:]

    def _cut(self, text: str, low: int, high: int) -> int:
        """Return the last place in a range where a text can be cut; where there is none, its end."""
        for start in (max(low, high - 256), low):  # it is seldom far
            places = [found.start() for found in self._cuts.finditer(text, start, high)]
            if places:
                return places[-1]
        return high

    def _encode(self, batch: Sequence[tuple[int, str]]) -> Iterator[array[int]]:
        """Yield the ids of each text of a batch, none of them special but the unknown token's."""
        texts = [text for _, text in batch]
        for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            ids: list[int] = encoding.ids
            if not self._special.isdisjoint(ids):
                instead = [] if self._unknown is None else [self._unknown]
                ids = [kept for token in ids for kept in (instead if token in self._special else [token])]
            yield array("i", ids)


class _Making:
    """The windows of a query's documents, while these are read one after the other."""

    def __init__(self, tokeniser: Tokeniser, head: array[int], truncation: Truncation) -> None:
        self._before = array("i", [*tokeniser._prefix, *head, *tokeniser._middle])
        self._after = array("i", tokeniser._suffix)
        pair = truncation.max_pair_tokens
        self._max_tokens = min(tokeniser.max_tokens, pair or tokeniser.max_tokens)
        self._room = self._max_tokens - len(self._before) - len(self._after)
        self._step = max(1, self._room - min(tokeniser.overlap_tokens, self._room // 4))
        self._truncation = truncation
        # Of a document's tokens; where a pair has a limit there are no windows beyond it.
        limits = [truncation.max_document_tokens, self._room if pair and truncation.allowed else None]
        self._limit = min((limit for limit in limits if limit is not None), default=None)
        self._made = 0  # tokens of `ids`
        self.tokens = array("i")  # of the document at hand
        self.ids: list[array[int]] = []
        self.owner: list[int] = []
        self.place: list[tuple[int, int] | None] = []
        self.counts: list[int] = []

    @property
    def document(self) -> int:
        """The number of the document at hand."""
        return len(self.counts)

    @property
    def full(self) -> bool:
        """Whether the document at hand has all the tokens that it may keep."""
        return self._limit is not None and len(self.tokens) >= self._limit and not self._truncation.left

    @property
    def size(self) -> int:
        """The tokens of all windows, those of the document at hand among them."""
        length = len(self.tokens) if self._limit is None else min(len(self.tokens), self._limit)
        count = len(_starts(length, self._room, self._step))
        frame = len(self._before) + len(self._after)
        return self._made + count * frame + (length if count == 1 else count * self._room)

    def next_document(self) -> None:
        """Make the windows of the document at hand. Raises TokenLimitExceeded."""
        tokens, self.tokens = self.tokens, array("i")
        read, skipped = len(tokens), 0
        if self._limit is not None:
            tokens = _clip(tokens, self._limit, left=self._truncation.left)
            skipped = read - len(tokens) if self._truncation.left else 0
        if len(tokens) > self._room and not self._truncation.allowed:
            raise TokenLimitExceeded(
                f"documents[{self.document}] has {len(tokens)} tokens, and {self._room} fit beside this query: {TokenLimitExceeded.REMEDY}"
            )
        starts = _starts(len(tokens), self._room, self._step)
        # At its limit a document may have more that was not read.
        whole = len(starts) == 1 and (self._limit is None or read < self._limit)
        for start in starts:
            # The last is moved back so that it ends with the document.
            start = max(0, min(start, len(tokens) - self._room))
            window = tokens[start : start + self._room]
            self.ids.append(self._before + window + self._after)
            self.owner.append(self.document)
            self.place.append(None if whole else (skipped + start, skipped + start + len(window)))
            self._made += len(self.ids[-1])
        self.counts.append(min(len(tokens) + 2, self._max_tokens))


def _batches(pieces: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Yield (text, piece of it) in batches of bounded size, one at a time: what follows may depend on what came."""
    batch: list[tuple[int, str]] = []
    size = 0
    for index, piece in pieces:
        if batch and size + len(piece) > _SLICE:
            yield batch
            batch, size = [], 0
        batch.append((index, piece))
        size += len(piece) + _TEXT
    if batch:
        yield batch


# Normalizers that treat a character before a cut and one after it alone, and make no space of either.
_LOCAL = {"NFC", "NFD", "Lowercase"}
_BEFORE_SPACE = r"(?<=\S) "
# Every pattern matches a character before which a text may be cut.
_PATTERNS = {
    # Whitespace separates, each punctuation mark is a word, and spaces are put around each ideograph.
    "BertPreTokenizer": r"[ \t\n\r!-/:-@\[-`{-~\u4e00-\u9fff]",
    # \w+|[^\w\s]+
    "Whitespace": r"[ \t\n\r]|(?<=[A-Za-z0-9])[!-/:-@\[-^`{-~]",
    # GPT-2's expression: the space before a word is the word's, and of several all but the last are one.
    "ByteLevel": r"(?<=\S)[ \t\n\r]|(?<=[A-Za-z0-9])[!-/:-@\[-`{-~]",
}


def _cuts(tokenizer: Tokenizer) -> re.Pattern[str]:
    """Return what matches a character before which a text can be cut in two without another token.

    Of an unknown pipeline that is a guess.
    """
    normalizers, (pre_tokenizer, *more) = (
        _components(tokenizer.normalizer),
        _components(tokenizer.pre_tokenizer),
    )
    kind = pre_tokenizer.get("type", "")
    own = {"BertNormalizer"} if kind == "BertPreTokenizer" else set()
    # An added token may hold a space, or take those beside it.
    known = kind in _PATTERNS and not more
    known = known and {part["type"] for part in normalizers if part} <= _LOCAL | own
    known = known and all(token.special for token in tokenizer.get_added_tokens_decoder().values())
    if not known or (
        kind == "ByteLevel" and (pre_tokenizer["add_prefix_space"] or not pre_tokenizer["use_regex"])
    ):
        return re.compile(_BEFORE_SPACE)
    ideographs = any(part.get("handle_chinese_chars") for part in normalizers)
    return re.compile(_PATTERNS[kind] if ideographs else _PATTERNS[kind].replace(r"\u4e00-\u9fff", ""))


def _components(component: Any) -> list[dict[str, Any]]:
    """Return a normalizer or pre-tokenizer as tokenizer.json describes it, those of a sequence one by one."""
    if component is None:
        return [{}]
    state: dict[str, Any] = json.loads(component.__getstate__())
    return state.get("normalizers") or state.get("pretokenizers") or [state]


def _clip(tokens: array[int], count: int, *, left: bool) -> array[int]:
    if len(tokens) <= count:
        return tokens
    return tokens[len(tokens) - count :] if left else tokens[:count]


def _starts(length: int, room: int, step: int) -> range:
    """Return where the windows of a document begin, the last as if there were more to come."""
    return range(0, max(length - room, 0) + step, step)


def _template(tokenizer: Tokenizer) -> tuple[list[int], list[int], list[int]]:
    """Return tokenizer.json's special tokens before the query, between query and document, and after the document."""
    pair = tokenizer.encode("a", "a")
    sides = [index for index in pair.sequence_ids if index is not None]
    if sides != sorted(sides) or set(sides) != {0, 1}:
        raise CheckpointError(
            "tokenizer.json does not encode a pair as query, then document: it is not a reranker's."
        )
    first, last = pair.sequence_ids.index(0), len(pair.ids) - 1 - pair.sequence_ids[::-1].index(1)
    between = range(pair.sequence_ids.index(1))
    middle = [pair.ids[at] for at in between if at > first and pair.sequence_ids[at] is None]
    if not pair.ids[:first] or not middle:
        raise CheckpointError(
            "tokenizer.json adds no special tokens to a pair: its post_processor is missing."
        )
    return pair.ids[:first], middle, pair.ids[last + 1 :]
