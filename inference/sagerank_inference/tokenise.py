"""(query, documents) -> token ids of every pair, with one policy for what does not fit.

* The query keeps its first `query_tokens` tokens.
* A document has the room that is left of `max_tokens`. A longer one becomes windows of that room which
  overlap by `overlap_tokens` (at most a quarter of the room); the last window ends where the document ends,
  so it is full. Its score is the maximum over them.
* Where truncation is not allowed, the text is refused instead, with its length.

Text is text: what spells a special token in a query or document, such as [SEP] or </s>, is encoded like any other
characters. (The library's default, which the published models' own code has, makes it the special token: a document could
end its own pair there.)

A text is encoded in pieces, since an encoding is hundreds of times its text's size. They end before a lone space or line end between two
words, or before punctuation where there is none near, where no tokenizer of these models joins anything; characters that
go on for a whole piece without either are cut in two, which may encode the one word that they would be differently.

Only tokenizer.json is read, with the `tokenizers` library: AutoTokenizer of transformers 5.6 and later
rebuilds a byte-level pipeline from the published files and silently mis-tokenises them, and
tokenizer_config.json says 512 tokens where the models take 8,192.
"""

from __future__ import annotations

import os
import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from .checkpoint import CheckpointError
from .contract import TokenLimitExceeded, Truncation
from .reader import Steps, finish

_PIECE = 16_384  # characters of a text that are encoded as one
_SLICE = 32_768  # characters handed to the library at once, some 20 ms, and 16 MB where each is a token
_NEAR = 2_048  # characters before the end of a piece in which a better end is looked for

# Where one word ends and the next begins, whatever the tokenizer; and where that holds for WordPiece's and byte-level BPE's.
_SPACE = re.compile(r"(?<=\S)(?=[ \t\n]\S)")
_PUNCTUATION = re.compile(r"(?<=[^\W_])(?=[.,;:!?()\[\]{}<>|/\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f])")


@dataclass(frozen=True, slots=True)
class Windows:
    """What one query with its documents becomes.

    ids[w] are the token ids of window w with special tokens, document[w] is the document it belongs to
    (ascending). Token counts are as the rerank dialects bill them: each text with its own special tokens, at
    most the context.
    """

    ids: Sequence[Sequence[int]]
    document: list[int]
    query_tokens: int
    document_tokens: list[int]

    def select(self, documents: Sequence[int]) -> Windows:
        """Return the windows of some documents, in the order given: as if only they had been tokenised."""
        of: dict[int, list[Sequence[int]]] = {}
        for ids, document in zip(self.ids, self.document, strict=True):
            of.setdefault(document, []).append(ids)
        return Windows(
            ids=[ids for document in documents for ids in of[document]],
            document=[index for index, document in enumerate(documents) for _ in of[document]],
            query_tokens=self.query_tokens,
            document_tokens=[self.document_tokens[document] for document in documents],
        )

    def scatter(self, logits: Sequence[float]) -> list[float]:
        """Return the logit of each document, the maximum over its windows."""
        values = [float("-inf")] * len(self.document_tokens)
        for document, logit in zip(self.document, logits, strict=True):
            values[document] = max(values[document], logit)
        return values


class Tokeniser:
    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        query_tokens: int,
        max_tokens: int,
        overlap_tokens: int,
        piece: int = _PIECE,
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # as text, in spite of the name
        self._tokenizer, self._piece = tokenizer, piece
        self._prefix, self._middle, self._suffix = (array("i", ids) for ids in _template(tokenizer))
        self._left_out = _specials_of_text(tokenizer)
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
        try:
            tokenizer = Tokenizer.from_file(os.fsencode(path).decode())
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(
                f"{path} is not a tokenizer this version of tokenizers reads: {error}"
            ) from None
        if threads and "RAYON_NUM_THREADS" not in os.environ:
            # Read when the pool starts, which is here; left in the environment it would be every child's.
            os.environ["RAYON_NUM_THREADS"] = str(threads)
            tokenizer.encode_batch_fast(["", ""])
            del os.environ["RAYON_NUM_THREADS"]
        return cls(tokenizer, query_tokens=query_tokens, max_tokens=max_tokens, overlap_tokens=overlap_tokens)

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
        """As `steps`, at once."""
        return finish(self.steps(query, documents, truncation))

    def steps(self, query: str, documents: Sequence[str], truncation: Truncation) -> Steps[Windows]:
        """Tokenise every text once, yielding the tokens of the pairs so far after every slice.

        Raises TokenLimitExceeded where truncation is not allowed and the query, or query and document together,
        do not fit.
        """
        head, before, after = array("i"), array("i"), self._suffix
        room = step = 0
        ids: list[Sequence[int]] = []
        owner: list[int] = []
        counts: list[int] = []
        gathered = 0
        for number, tokens, complete in self._encode([query, *documents]):
            if not complete:
                yield gathered + len(tokens)
                continue
            if number == 0:
                if len(tokens) > self.query_tokens and not truncation.allowed:
                    raise TokenLimitExceeded(
                        f"query has {len(tokens)} tokens, more than {self.query_tokens}: {TokenLimitExceeded.REMEDY}"
                    )
                head = _clip(tokens, self.query_tokens, left=truncation.left)
                room = self.max_tokens - self.special_tokens - len(head)
                step = room - min(self.overlap_tokens, room // 4)
                before = self._prefix + head + self._middle
                continue
            index = number - 1
            limit = truncation.max_document_tokens
            if limit is not None:
                tokens = _clip(tokens, limit, left=truncation.left)
            if len(tokens) > room and not truncation.allowed:
                raise TokenLimitExceeded(
                    f"documents[{index}] has {len(tokens)} tokens, and {room} fit beside this query: {TokenLimitExceeded.REMEDY}"
                )
            counts.append(min(len(tokens) + 2, self.max_tokens))
            for start in _starts(len(tokens), room, step):
                ids.append(before + tokens[start : start + room] + after)
                owner.append(index)
                gathered += len(ids[-1])
        return Windows(ids=ids, document=owner, query_tokens=len(head) + 2, document_tokens=counts)

    def _encode(self, texts: Sequence[str]) -> Iterator[tuple[int, array[int], bool]]:
        """Yield number, ids and whether these are all, for each text in turn; and after each slice, as far as it came."""
        tokens, at = array("i"), 0
        for pieces in _slices(texts, self._piece):
            encodings = self._tokenizer.encode_batch_fast(
                [piece for _, piece, _ in pieces], add_special_tokens=False
            )
            for (number, _, last), encoding in zip(pieces, encodings, strict=True):
                tokens.extend(
                    [token for token in encoding.ids if token not in self._left_out]
                    if self._left_out
                    else encoding.ids
                )
                if last:
                    yield number, tokens, True
                    tokens = array("i")
                at = number
            yield at, tokens, False


def _slices(texts: Sequence[str], piece: int) -> Iterator[list[tuple[int, str, bool]]]:
    """Yield pieces of the texts in order, with the text's number and whether it ends there, at most _SLICE characters at once."""
    pieces: list[tuple[int, str, bool]] = []
    size = 0
    for number, text in enumerate(texts):
        start = 0
        while True:
            end = _cut(text, start, piece)
            if pieces and size + end - start > _SLICE:
                yield pieces
                pieces, size = [], 0
            pieces.append((number, text[start:end], end == len(text)))
            size += end - start
            start = end
            if end == len(text):
                break
    yield pieces


def _cut(text: str, start: int, size: int) -> int:
    """Return where a piece of at most `size` characters from `start` ends."""
    end = start + size
    if end >= len(text):
        return len(text)
    near = max(start + 1, end - _NEAR)
    for boundary in (_SPACE, _PUNCTUATION):
        # What stands round a place decides, so it is looked at from one character before to two behind.
        found = [near - 1 + match.start() for match in boundary.finditer(text[near - 1 : end + 2])]
        found = [place for place in found if near <= place <= end]
        if found:
            return found[-1]
    while end > near and unicodedata.combining(text[end]):
        end -= 1
    return end


def _clip(tokens: array[int], count: int, *, left: bool) -> array[int]:
    return tokens[max(0, len(tokens) - count) :] if left else tokens[:count]


def _starts(length: int, room: int, step: int) -> list[int]:
    """Return where the windows of a document begin; the last is moved back so that it ends with the document."""
    if length <= room:
        return [0]
    return [*range(0, length - room, step), length - room]


def _specials_of_text(tokenizer: Tokenizer) -> frozenset[int]:
    """Return ids of special tokens that text could still have, where a whole word is in the vocabulary as it stands."""
    special = {
        id: token.content for id, token in tokenizer.get_added_tokens_decoder().items() if token.special
    }
    found = {
        id
        for text in special.values()
        for spelt in (text, f"a {text} a")
        for id in tokenizer.encode(spelt, add_special_tokens=False).ids
        if id in special
    }
    unknown = getattr(tokenizer.model, "unk_token", None)
    return frozenset(id for id in found if special[id] != unknown)


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
