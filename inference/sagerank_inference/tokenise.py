"""(query, documents) -> token ids of every pair, with one policy for what does not fit.

* The query keeps its first `query_tokens` tokens.
* A document has the room that is left of `max_tokens`. A longer one becomes windows of that room which
  overlap by `overlap_tokens` (at most a quarter of the room); the last window ends where the document ends,
  so it is full. Its score is the maximum over them.
* Where truncation is not allowed, the text is refused instead, with its length.

Only tokenizer.json is read, with the `tokenizers` library: AutoTokenizer of transformers 5.6 and later
rebuilds a byte-level pipeline from the published files and silently mis-tokenises them, and
tokenizer_config.json says 512 tokens where the models take 8,192.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from .checkpoint import CheckpointError
from .contract import TokenLimitExceeded, Truncation
from .reader import Steps, finish

_SLICE = 100_000  # characters handed to the library at once, some 50 ms


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
        self, tokenizer: Tokenizer, *, query_tokens: int, max_tokens: int, overlap_tokens: int
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._prefix, self._middle, self._suffix = _template(tokenizer)
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
        """Tokenise every text once.

        Raises TokenLimitExceeded where truncation is not allowed and the query, or query and document together,
        do not fit.
        """
        texts = self._encode([query, *documents])
        head = next(texts)
        if len(head) > self.query_tokens:
            if not truncation.allowed:
                raise TokenLimitExceeded(
                    f"query has {len(head)} tokens, more than {self.query_tokens}: {TokenLimitExceeded.REMEDY}"
                )
            head = _clip(head, self.query_tokens, left=truncation.left)
        room = self.max_tokens - self.special_tokens - len(head)
        step = room - min(self.overlap_tokens, room // 4)
        before, after = [*self._prefix, *head, *self._middle], self._suffix
        ids: list[list[int]] = []
        owner: list[int] = []
        counts: list[int] = []
        for index, tokens in enumerate(texts):
            limit = truncation.max_document_tokens
            if limit is not None and len(tokens) > limit:
                tokens = _clip(tokens, limit, left=truncation.left)
            if len(tokens) > room and not truncation.allowed:
                raise TokenLimitExceeded(
                    f"documents[{index}] has {len(tokens)} tokens, and {room} fit beside this query: {TokenLimitExceeded.REMEDY}"
                )
            yield sum(map(len, ids))
            counts.append(min(len(tokens) + 2, self.max_tokens))
            for start in _starts(len(tokens), room, step):
                ids.append([*before, *tokens[start : start + room], *after])
                owner.append(index)
        return Windows(ids=ids, document=owner, query_tokens=len(head) + 2, document_tokens=counts)

    def _encode(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yield the ids of each text, encoded in slices.

        An encoding is many times its ids' size, and between slices the threads serve other callers.
        """
        for first, last in _slices([len(text) for text in texts]):
            for encoding in self._tokenizer.encode_batch_fast(texts[first:last], add_special_tokens=False):
                yield encoding.ids


def _slices(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield ranges that together are all, of at most _SLICE characters or of one text."""
    first, size = 0, 0
    for index, more in enumerate(sizes):
        if size + more > _SLICE and index > first:
            yield first, index
            first, size = index, 0
        size += more
    yield first, len(sizes)


def _clip(tokens: list[int], count: int, *, left: bool) -> list[int]:
    return tokens[len(tokens) - count :] if left else tokens[:count]


def _starts(length: int, room: int, step: int) -> list[int]:
    """Return where the windows of a document begin; the last is moved back so that it ends with the document."""
    if length <= room:
        return [0]
    return [*range(0, length - room, step), length - room]


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
