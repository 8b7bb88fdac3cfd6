"""(query, documents) -> token ids of every pair, with one policy for what does not fit.

* The query keeps its first `query_tokens` tokens.
* A document has the room that is left of `max_tokens`. A longer one becomes windows of that room which
  overlap by `overlap_tokens` (at most a quarter of the room); the last window ends where the document ends,
  so it is full. Its score is the maximum over them.
* Where the caller limits the pair, one window has to do: the document is cut, and the query where it is the longer.
* Where truncation is not allowed nothing is cut, the query neither. A pair that does not fit is refused, with its length.

Text is text: `[SEP]` or `</s>` in a query or document is tokenised as the characters that it is, and no text yields
the id of a special token but the unknown one's. Otherwise a document could forge the pair's structure.

Work and memory are bounded at every step: a long text is tokenised in pieces.

Only tokenizer.json is read, with the `tokenizers` library: AutoTokenizer of transformers 5.6 and later
rebuilds a byte-level pipeline from the published files and silently mis-tokenises them, and
tokenizer_config.json says 512 tokens where the models take 8,192.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from .checkpoint import CheckpointError
from .contract import InvalidRequest, TokenLimitExceeded, Truncation
from .pieces import batches, cuts, pieces
from .spans import Search, Span
from .steps import Steps, finish
from .windows import Frame, Making, Windows, clip


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


def _start_pool(tokenizer: Tokenizer, threads: int) -> None:
    """Start the library's threads, which no text can be read without. Raises CheckpointError."""
    wanted = os.environ.get("RAYON_NUM_THREADS")
    if threads and wanted is None:
        # Read when the pool starts, which is here; left in the environment it would be every child's.
        os.environ["RAYON_NUM_THREADS"] = str(threads)
    try:
        tokenizer.encode_batch_fast(["", ""])
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic
        raise CheckpointError(
            f"The tokenizer's {wanted or threads or ''} threads cannot be started ({error}): set RAYON_NUM_THREADS or SAGERANK_THREADS lower, "
            "or allow more processes here."
        ) from None
    finally:
        if wanted is None:
            os.environ.pop("RAYON_NUM_THREADS", None)


class Tokeniser:
    def __init__(
        self, tokenizer: Tokenizer, *, query_tokens: int, max_tokens: int, overlap_tokens: int
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # the library's words for: as any other text
        self._tokenizer = tokenizer
        self._cuts = cuts(tokenizer)
        self._frame = _frame(tokenizer)
        # The model may have a special token among its words all the same.
        self._unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "<unk>")
        added = tokenizer.get_added_tokens_decoder()
        special = {id_ for id_, token in added.items() if token.special}
        frame = self._frame.before + self._frame.between + self._frame.after
        self._special = special.union(frame) - {self._unknown}
        self.special_tokens = len(frame)
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
        _start_pool(tokenizer, threads)
        with reading(path):
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

        Raises TokenLimitExceeded where truncation is not allowed and query and document together do not fit, and
        InvalidRequest as `check` does.
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
        self.check(truncation)
        max_tokens = min(self.max_tokens, truncation.max_pair_tokens or self.max_tokens)
        head = yield from self._head(query, truncation, max_tokens)
        making = Making(
            self._frame,
            head,
            truncation,
            max_tokens=max_tokens,
            overlap_tokens=self.overlap_tokens,
        )
        for batch in batches(self._unread(documents, making)):
            for (index, _), (part, _) in zip(batch, self._encode(batch), strict=True):
                if index > making.document:
                    making.next_document()
                making.tokens += part
            yield making.size
        if documents:
            making.next_document()
        return making.windows()

    def check(self, truncation: Truncation) -> None:
        """Raise InvalidRequest where a pair may not keep so much as a token of each text."""
        least = self.special_tokens + 2
        if truncation.max_pair_tokens is not None and truncation.max_pair_tokens < least:
            raise InvalidRequest(
                f"A pair of query and document cannot be cut to {truncation.max_pair_tokens} tokens, "
                f"{self.special_tokens} of which are special ones: allow at least {least}."
            )

    def _head(self, query: str, truncation: Truncation, max_tokens: int) -> Steps[array[int]]:
        """Return the tokens of the query, as many as it may have beside any document."""
        head = array("i")
        most = self.query_tokens if truncation.allowed else max_tokens - self.special_tokens
        for batch in batches((0, piece) for piece in pieces(query, self._cuts)):
            for part, _ in self._encode(batch):
                head += part
            yield 0
            if len(head) >= most and truncation.allowed and not truncation.left:
                break
        if len(head) > most and not truncation.allowed:
            raise TokenLimitExceeded(
                f"query has {len(head)} tokens, and {most} fit with no document beside it: {TokenLimitExceeded.REMEDY}"
            )
        return clip(head, most, left=truncation.left)

    def _unread(self, documents: Sequence[str], making: Making) -> Iterator[tuple[int, str]]:
        """Yield the pieces of all documents, but none that would be cut off."""
        for index, text in enumerate(documents):
            for piece in pieces(text, self._cuts):
                if index == making.document and making.full:
                    break
                yield index, piece

    def characters(self, text: str, place: tuple[int, int]) -> Steps[Span]:
        """Return where some of a document's tokens stand in it, as `spans` has it.

        place: of them, the number of the first, and of the one after the last. Yields 0 after each step.
        """
        search = Search(text, *place)
        for batch in batches((0, piece) for piece in pieces(text, self._cuts)):
            for (_, piece), (_, offsets) in zip(batch, self._encode(batch, placed=True), strict=True):
                search.add(piece, offsets)
            yield 0
            if search.found:
                break
        return search.span

    def _encode(
        self, batch: Sequence[tuple[int, str]], *, placed: bool = False
    ) -> Iterator[tuple[array[int], Sequence[Span]]]:
        """Yield the ids of each text of a batch, none of them special but the unknown token's.

        placed: with the characters that each token is of.
        """
        encode = self._tokenizer.encode_batch if placed else self._tokenizer.encode_batch_fast
        for encoding in encode([text for _, text in batch], add_special_tokens=False):
            ids: list[int] = encoding.ids
            offsets: Sequence[Span] = encoding.offsets if placed else ()
            if not self._special.isdisjoint(ids):
                instead = [] if self._unknown is None else [self._unknown]
                if placed and not instead:
                    offsets = [
                        place for token, place in zip(ids, offsets, strict=True) if token not in self._special
                    ]
                ids = [kept for token in ids for kept in (instead if token in self._special else [token])]
            yield array("i", ids), offsets


def _frame(tokenizer: Tokenizer) -> Frame:
    """Return tokenizer.json's special tokens around the texts of a pair."""
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
    return Frame(array("i", pair.ids[:first]), array("i", middle), array("i", pair.ids[last + 1 :]))
