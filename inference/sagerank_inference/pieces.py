"""A long text in pieces, whose tokens are together those of the whole text.

Pieces end only where the pipeline of the tokenizer begins a new word whatever stands before. A text that gives no such
place for half a piece (thousands of characters without a space or a punctuation mark) is cut where the piece ends, and
so is one of a pipeline that is not known here, preferably before a space: there a word may become two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

_PIECE = 16_384  # characters of one text that are tokenised as one
_SLICE = 32_768  # characters handed to the library at once: 10 to 40 ms, and up to 20 MB
_TEXT = 16  # what a text costs beside its characters, in characters

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


def cuts(tokenizer: Tokenizer) -> re.Pattern[str]:
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


def pieces(text: str, places: re.Pattern[str]) -> Iterator[str]:
    """Yield a text in pieces of at most _PIECE characters. places: what `cuts` returned."""
    start = 0
    while len(text) - start > _PIECE:
        end = _cut(text, places, start + _PIECE // 2, start + _PIECE)
        yield text[start:end]
        start = end
    yield text[start:]


def _cut(text: str, places: re.Pattern[str], low: int, high: int) -> int:
    """Return the last place in a range where a text can be cut; where there is none, its end."""
    for start in (max(low, high - 256), low):  # it is seldom far
        found = [place.start() for place in places.finditer(text, start, high)]
        if found:
            return found[-1]
    return high


def batches(parts: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Yield (text, piece of it) in batches of bounded size, one at a time: what follows may depend on what came."""
    batch: list[tuple[int, str]] = []
    size = 0
    for index, piece in parts:
        if batch and size + len(piece) > _SLICE:
            yield batch
            batch, size = [], 0
        batch.append((index, piece))
        size += len(piece) + _TEXT
    if batch:
        yield batch
