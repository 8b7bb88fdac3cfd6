"""Which tokens of a pair are of segment 1, where config.json does not say: what the tokenizer of the original code tells its model.

That code gives the model whatever token_type_ids the tokenizer returns, and segment 0 where it returns none. Whether it does is up to
its class: BertTokenizer does, and the document is of segment 1; RobertaTokenizer does not, and every token is of segment 0. The ids
are those of tokenizer.json's post_processor. `segment_separator_id` in config.json, a field of our own, null included, says it outright.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from .artefact import MANIFEST
from .checkpoint import CheckpointError, JinaBertConfig

# tokenizer.json of Tiny and Turbo, the same file, published with a RobertaTokenizer: known without the tokenizer_config.json beside it.
PUBLISHED = "0046da43cc8c424b317f56b092b0512aaaa65c4f925d2f16af9d9eeb4d0ef902"

_BERT = ("BertTokenizer", "BertTokenizerFast")
_ROBERTA = ("RobertaTokenizer", "RobertaTokenizerFast")
# Of transformers 4, which the original code needs. Without any class it takes config.json's model type, "bert".
_WITH_TYPES = (None, *_BERT, "PreTrainedTokenizerFast")
_REMEDY = 'add "segment_separator_id" to config.json, the id of the token after which segment 1 begins, or null for a model without segments'


def read_config(folder: Path) -> JinaBertConfig:
    """Read `folder/config.json`, with the segments that the tokenizer beside it gives where it does not name them.

    Raises CheckpointError where that cannot be told, with what to add.
    """
    config = JinaBertConfig.read(folder)
    raw = _object(folder / "config.json")
    decided = "segment_separator_id" in raw or config.type_vocab_size == 1
    # Older versions of ours left the field out for None: artefacts, and what sagerank.hf saves.
    if decided or (folder / MANIFEST).is_file() or raw.get("model_type") == "sagerank_jina_bert":
        return config
    return replace(config, segment_separator_id=_separator(folder, raw))


def _separator(folder: Path, config: dict[str, Any]) -> int | None:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} holds no tokenizer.json, which tells a pair's segments: fetch it with the model, or {_REMEDY}."
        )
    named = _object(folder / "tokenizer_config.json")
    kind = named.get("tokenizer_class") or config.get("tokenizer_class")
    if kind is None and hashlib.sha256(path.read_bytes()).hexdigest() == PUBLISHED:
        kind = _ROBERTA[0]
    inputs = named.get("model_input_names")  # overrides what the class returns
    if kind in _ROBERTA if inputs is None else "token_type_ids" not in inputs:
        return None
    ids, types, sides = _pair(path)
    if not any(types):
        if kind in _BERT:
            raise CheckpointError(
                f"{folder}: tokenizer_class is {kind}, which gives the document segment 1, and the post_processor of tokenizer.json gives "
                f"every token segment 0: {_REMEDY}."
            )
        return None
    if inputs is None and kind not in _WITH_TYPES:
        raise CheckpointError(
            f"{folder}: the post_processor of tokenizer.json gives a segment 1, and whether tokenizer_class {kind} hands it to the model is not known: {_REMEDY}."
        )
    start = types.index(1) if 1 in types else 0
    expected = [0] * start + [1] * (len(types) - start)
    # The token before segment 1 has to be special, and its first.
    if (
        not start
        or types != expected
        or sides[start - 1] is not None
        or ids.index(ids[start - 1]) != start - 1
    ):
        raise CheckpointError(
            f"{folder}: the post_processor of tokenizer.json gives a pair the segments {types}. Segment 1 has to begin after the first "
            f"separator and last to the end; where this file is wrong, {_REMEDY}."
        )
    return ids[start - 1]


def _pair(path: Path) -> tuple[list[int], list[int], list[int | None]]:
    """Token ids of a pair of two short texts, their segments, and which text each is of (None: a special token)."""
    from tokenizers import Tokenizer

    from .tokenise import reading

    with reading(path):
        tokenizer = Tokenizer.from_file(os.fsencode(path).decode())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        pair = tokenizer.encode("a", "a")
    return pair.ids, pair.type_ids, pair.sequence_ids


def _object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no such file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}): fetch it again.") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} must hold a JSON object.")
    return raw
