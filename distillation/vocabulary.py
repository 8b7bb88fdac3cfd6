"""The student's own vocabulary, and its first token embeddings from another model's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

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


def transfer_embeddings(tokenizer: Tokenizer, donor: Tokenizer, embeddings: Tensor, hidden: int) -> Tensor:
    """First embeddings [vocabulary, hidden] for `tokenizer` from a donor's [donor vocabulary, donor hidden].

    A token takes the donor's row of the same string, or the mean of the rows the donor cuts it into; the
    principal components of all rows are what fits into `hidden`. Scaled to a standard deviation of 0.05,
    about that of a trained BERT.
    """
    if hidden > embeddings.shape[1]:
        raise ValueError(
            f"The donor's embeddings have {embeddings.shape[1]} columns, fewer than the student's {hidden}."
        )
    vocabulary = tokenizer.get_vocab()
    rows = torch.empty(len(vocabulary), embeddings.shape[1])
    for token, index in vocabulary.items():
        same = donor.token_to_id(token)
        pieces = (
            [same]
            if same is not None
            else donor.encode(token.removeprefix("##"), add_special_tokens=False).ids
        )
        rows[index] = embeddings[pieces].mean(0) if pieces else embeddings.mean(0)
    rows -= rows.mean(0)
    _, _, components = torch.linalg.svd(rows, full_matrices=len(rows) < hidden)
    reduced: Tensor = rows @ components[:hidden].T
    return reduced * (0.05 / reduced.std())


def read_tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
