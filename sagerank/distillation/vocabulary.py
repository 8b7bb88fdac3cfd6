"""The student's vocabulary: another model's with fewer tokens, or one of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_wordpiece(texts: Iterable[str], *, size: int) -> Tokenizer:
    """A lower-casing WordPiece tokenizer of at most `size` tokens with BERT's pair template."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    # A small alphabet: rare scripts become [UNK] instead of taking rows that English words need.
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        limit_alphabet=200,
        min_frequency=3,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", begin), ("[SEP]", end)],
    )
    return tokenizer


def pruned_wordpiece(tokenizer: str, counts: Mapping[str, float], size: int) -> tuple[str, list[int]]:
    """The `size` tokens of a WordPiece tokenizer.json that are worth keeping -> (tokenizer.json, donor's id of each).

    Special tokens and single characters of the ASCII alphabet stay, so every English word can still be cut; then by
    `counts`. WordPiece takes the longest match, so a pruned vocabulary cuts a word it lost into pieces it has.
    """
    raw: dict[str, Any] = json.loads(tokenizer)
    vocabulary: dict[str, int] = raw["model"]["vocab"]
    special = {item["content"] for item in raw["added_tokens"]}
    needed = [
        token
        for token in vocabulary
        if token in special or (len(token.removeprefix("##")) == 1 and token.isascii())
    ]
    others = sorted(
        (token for token in vocabulary if token not in set(needed)),
        key=lambda token: (-counts.get(token, 0), vocabulary[token]),
    )
    kept = sorted((needed + others)[:size], key=vocabulary.__getitem__)
    raw["model"]["vocab"] = {token: index for index, token in enumerate(kept)}
    place = raw["model"]["vocab"]
    for item in raw["added_tokens"]:
        item["id"] = place[item["content"]]
    for name, entry in (raw["post_processor"].get("special_tokens") or {}).items():
        entry["ids"] = [place[name]]
    raw["truncation"] = raw["padding"] = None
    return json.dumps(raw, ensure_ascii=False), [vocabulary[token] for token in kept]


def read_tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
