"""The floating-point operations that pairs need, whoever computes them: sagerank_cost.models.Model.flops of a configuration.

The engine computes a little less than is counted: no keys and values in the last layer, and before the first attention
each distinct token of a batch once. It also skips negligible blocks of a long document's attention, which counts as dense,
so that its share of the ceiling may be above what it computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sagerank_cost.models import Model
from sagerank_inference.checkpoint import CheckpointError, JinaBertConfig


def shape(config: JinaBertConfig) -> Model:
    """Return the model's sizes for counting, without a name or a rank."""
    return Model(
        name="",
        vocabulary=config.vocab_size,
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        intermediate=config.intermediate_size,
        ndcg=None,
    )


def flops(folder: Path, lengths: Iterable[int]) -> int | None:
    """Return the operations for an artefact's pairs of so many tokens each, special tokens included.

    It is None for a cascade: which pairs its later models score depends on the scores.
    """
    try:
        model = shape(JinaBertConfig.read(folder))
    except CheckpointError:
        return None
    return sum(map(model.flops, lengths))
