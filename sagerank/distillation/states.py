"""Hidden states: what a larger model makes of each token after some of its layers, for a student's layers to come near.

A score says of a pair one number; the states of its tokens say thousands, so that a student whose layers stand for
several of the larger model's learns what they do from few pairs (Jiao et al. 2020, TinyBERT).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from sagerank_inference.jina_bert import JinaBert

from . import DistillationError, bert

# The student's token ids of right-padded pairs [B, S], of which lengths [B] are real -> states [B, S, h] after each chosen layer.
States = Callable[[Tensor, Tensor], Sequence[Tensor]]


def of_bert(
    donor: bert.State, rows: Sequence[int], chosen: Sequence[int], *, heads: int, separator: int | None
) -> States:
    """States of a BERT. rows: its id of each of the student's tokens; separator: the student's id of the one that ends the query."""
    check("hidden_layers", chosen, bert.depth(donor))
    table = torch.tensor(rows)
    moved: dict[torch.device, tuple[bert.State, Tensor]] = {}

    @torch.no_grad()
    def states(ids: Tensor, lengths: Tensor) -> list[Tensor]:
        check_positions(ids.shape[1], donor)
        device = ids.device
        if device not in moved:
            moved[device] = {name: tensor.to(device) for name, tensor in donor.items()}, table.to(device)
        weights, tokens = moved[device]
        inside = bert.layers(
            weights, tokens[ids], bert.segments(ids, separator), lengths, heads=heads, depth=max(chosen) + 1
        )
        every = [layer.states for layer in inside]
        return [every[index] for index in chosen]

    return states


def of_jina_bert(donor: JinaBert, chosen: Sequence[int]) -> States:
    """States of a JinaBERT with the student's tokenizer; of its last layer token 0 alone, [B, 1, h]."""
    check("hidden_layers", chosen, donor.config.num_hidden_layers)

    @torch.no_grad()
    def states(ids: Tensor, lengths: Tensor) -> list[Tensor]:
        with watched(donor.to(ids.device)) as every:
            donor(ids, lengths)
        return [every[index] for index in chosen]

    return states


@contextmanager
def watched(model: JinaBert) -> Iterator[list[Tensor]]:
    """Collect what each layer gives while the model is called: [B, S, h], the last one [B, 1, h]."""
    every: list[Tensor] = []
    layers: Sequence[torch.nn.Module] = model.bert.encoder["layer"]  # type: ignore[assignment]
    handles = [layer.register_forward_hook(lambda _, __, out: every.append(out)) for layer in layers]
    try:
        yield every
    finally:
        for handle in handles:
            handle.remove()


def error(student: Sequence[Tensor], teacher: Sequence[Tensor], lengths: Tensor) -> Tensor:
    """Mean squared error of the states of real tokens, as a share of the teacher's variance, summed over the layers.

    Where a side has token 0 alone, that one is compared.
    """
    total = torch.zeros((), device=lengths.device)
    for ours, theirs in zip(student, teacher, strict=True):
        count = min(ours.shape[1], theirs.shape[1])
        real = torch.arange(count, device=lengths.device) < lengths[:, None]
        goal = theirs[:, :count][real].float()
        total = total + (ours[:, :count][real].float() - goal).square().mean() / goal.var()
    return total


def check(name: str, chosen: Sequence[int], depth: int) -> None:
    """Raise DistillationError for a layer that a model of this depth lacks. name: of the setting."""
    for index in chosen:
        if not 0 <= index < depth:
            raise DistillationError(
                f"Layer {index} of {name} does not exist: `start` has layers 0 to {depth - 1}."
            )


def check_positions(tokens: int, donor: bert.State) -> None:
    """Raise DistillationError where pairs of so many tokens are too long for a BERT."""
    longest = donor["bert.embeddings.position_embeddings.weight"].shape[0]
    if tokens > longest:
        raise DistillationError(
            f"max_tokens is above {longest}, the positions of the model whose hidden states are learned: lower it."
        )
