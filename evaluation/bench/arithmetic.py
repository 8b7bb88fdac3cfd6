"""The floating-point operations that a JinaBERT pair needs, whoever computes it.

Counted are the matrix products, a multiply-add as two: linear layers, and queries x keys and weights x values of
attention, over real tokens only (no padding) and pruned (in the last layer, keys and values for all tokens, the rest for
token 0 alone, which is all that the head reads). Not counted: ALiBi, softmax, LayerNorm, GELU, embeddings, biases; they are
time that the share of the ceiling loses. Attention counts as dense, so that an engine that skips negligible blocks of a
long document may show a share above what it computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from inference.checkpoint import CheckpointError, JinaBertConfig


@dataclass(frozen=True, slots=True)
class Work:
    """Floating-point operations by part."""

    projections: int = 0  # query, key, value, output
    attention: int = 0  # queries x keys, weights x values
    mlp: int = 0  # gate, up, down
    head: int = 0  # pooler and classifier

    @property
    def total(self) -> int:
        return self.projections + self.attention + self.mlp + self.head

    def __add__(self, other: Work) -> Work:
        return Work(
            self.projections + other.projections,
            self.attention + other.attention,
            self.mlp + other.mlp,
            self.head + other.head,
        )


def work(config: JinaBertConfig, lengths: Iterable[int]) -> Work:
    """Of pairs of so many tokens each, special tokens included."""
    return sum((_pair(config, tokens) for tokens in lengths), Work())


def flops(folder: Path, lengths: Iterable[int]) -> int | None:
    """The same in all for an artefact. None for one of several models: which pairs the later ones score depends on the
    scores.
    """
    try:
        return work(JinaBertConfig.read(folder), lengths).total
    except CheckpointError:
        return None


def _pair(config: JinaBertConfig, tokens: int) -> Work:
    h, f, full = config.hidden_size, config.intermediate_size, config.num_hidden_layers - 1
    rows = full * tokens + 1  # whose query, output projection and MLP are computed, over all layers
    return Work(
        projections=2 * h * h * (2 * rows + 2 * config.num_hidden_layers * tokens),
        attention=2 * 2 * h * rows * tokens,
        mlp=2 * 3 * h * f * rows,
        head=2 * h * h + 2 * h,
    )
