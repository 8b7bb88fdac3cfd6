"""A student's first weights: cut out of a BERT or a larger JinaBERT, so that training starts near the teacher.

What makes a BERT cross-encoder a JinaBERT:

* Its feed-forward w2 gelu(w1 x + b1) is a GEGLU without biases, exactly. x leaves a LayerNorm with scale g and
  shift s, so sum(x / g) = sum(s / g) for every token, and v = 1 / (g sum(s / g)) has v.x = 1: the bias becomes
  b1 v^T in the gate, and an up-projection whose every row is v multiplies by one.
* Absolute positions go and ALiBi comes. Heads are reordered so that the one that looks nearest gets the
  steepest slope; a head's place in the layer means nothing else.
* Of its layers some are kept, of the neurons of each the most active ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sagerank_inference.checkpoint import JinaBertConfig, alibi_slopes
from sagerank_inference.jina_bert import JinaBert

from . import DistillationError, bert
from .bert import State


def from_bert(
    donor: State,
    rows: Sequence[int],
    *,
    layers: Sequence[int],
    neurons: int,
    heads: int,
    separator: int | None,
    sample: Sequence[Sequence[int]],
) -> JinaBert:
    """A JinaBERT with the donor's `layers`, and its embeddings at `rows` (donor token id of each student token).

    separator: the student's id of the token after which segment 1 begins (None: no segments). sample: pairs of
    student token ids, for head distances and neuron activity; a few hundred are enough.
    """
    width = donor["bert.embeddings.word_embeddings.weight"].shape[1]
    config = JinaBertConfig(
        vocab_size=len(rows),
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=heads,
        intermediate_size=neurons,
        segment_separator_id=separator,
    )
    model = JinaBert(config)
    state = dict(model.state_dict())
    embeddings = "bert.embeddings"
    state[f"{embeddings}.word_embeddings.weight"] = donor[f"{embeddings}.word_embeddings.weight"][list(rows)]
    position = donor[f"{embeddings}.position_embeddings.weight"]
    # Absolute positions have a common part that every layer got used to: it moves into the segments.
    state[f"{embeddings}.token_type_embeddings.weight"] = donor[
        f"{embeddings}.token_type_embeddings.weight"
    ] + position[8:136].mean(0)
    for part in ("weight", "bias"):
        state[f"{embeddings}.LayerNorm.{part}"] = donor[f"{embeddings}.LayerNorm.{part}"]
        # A masked language model or a bi-encoder has no head: it is learned from a random one.
        for name in (f"bert.pooler.dense.{part}", f"classifier.{part}"):
            state[name] = donor.get(name, state[name])
    seen = _activations(donor, rows, separator, sample, heads=heads, depth=max(layers) + 1)
    for target, source in enumerate(layers):
        distance, activity = seen[source]
        old, new = f"bert.encoder.layer.{source}", f"bert.encoder.layer.{target}"
        layer = {
            name.removeprefix(old): tensor for name, tensor in donor.items() if name.startswith(f"{old}.")
        }
        converted = _converted(layer, neurons=neurons, order=_head_order(distance), activity=activity)
        state |= {f"{new}{name}": tensor for name, tensor in converted.items()}
    model.load_state_dict(state)
    return model


def _head_order(distance: Tensor) -> Tensor:
    """The donor's head for each place of the student's: where the slope is steepest, the one that looks nearest."""
    slopes = torch.tensor(alibi_slopes(len(distance)))
    order = torch.empty(len(distance), dtype=torch.int64)
    order[slopes.argsort(descending=True)] = distance.argsort()
    return order


def _converted(donor: State, *, neurons: int, order: Tensor, activity: Tensor) -> dict[str, Tensor]:
    """A BERT layer's tensors as those of a JinaBERT layer, both named from ".attention" or ".mlp" on.

    order: the donor's head for each of the student's. activity: mean and standard deviation [2, intermediate] of
    the donor's neurons, of which the most active ones are kept.
    """
    layer = {}
    size = donor[".attention.self.query.weight"].shape[0] // len(order)
    rows = (order[:, None] * size + torch.arange(size)).flatten()  # of the donor, in the student's order
    for name in ("query", "key", "value"):
        for part in ("weight", "bias"):
            layer[f".attention.self.{name}.{part}"] = donor[f".attention.self.{name}.{part}"][rows]
    dense = ".attention.output.dense"
    layer |= {f"{dense}.weight": donor[f"{dense}.weight"][:, rows], f"{dense}.bias": donor[f"{dense}.bias"]}
    scale, shift = (donor[f".attention.output.LayerNorm.{part}"] for part in ("weight", "bias"))
    one = 1 / (scale.double() * (shift.double() / scale.double()).sum())  # one . x = 1
    w1, b1 = donor[".intermediate.dense.weight"], donor[".intermediate.dense.bias"]
    w2, b2 = donor[".output.dense.weight"], donor[".output.dense.bias"]
    mean, spread = activity
    kept = (spread * w2.norm(dim=0)).argsort(descending=True)[:neurons].sort().values
    dropped = torch.ones(len(spread), dtype=torch.bool).index_fill(0, kept, False)
    gate = w1[kept].double() + b1[kept, None].double() * one
    up = one.expand(neurons, -1)
    layer[".mlp.gated_layers.weight"] = torch.cat([gate, up]).float()
    layer[".mlp.wo.weight"] = w2[:, kept]
    layer[".mlp.wo.bias"] = b2 + w2[:, dropped] @ mean[dropped]
    for part in ("weight", "bias"):
        layer[f".attention.output.LayerNorm.{part}"] = donor[f".attention.output.LayerNorm.{part}"]
        layer[f".mlp.layernorm.{part}"] = donor[f".output.LayerNorm.{part}"]
    return layer


@torch.inference_mode()
def _activations(
    donor: State,
    rows: Sequence[int],
    separator: int | None,
    sample: Sequence[Sequence[int]],
    *,
    heads: int,
    depth: int,
) -> list[tuple[Tensor, Tensor]]:
    """Attention distance [heads], neuron mean and deviation [2, intermediate] of the first `depth` layers."""
    table = torch.tensor(rows)
    far = torch.zeros(depth, heads)
    sums = torch.zeros(depth, 2, donor["bert.encoder.layer.0.intermediate.dense.bias"].shape[0])
    tokens = 0
    for pair in sample:
        ids = torch.tensor([pair])[:, :256]
        count = ids.shape[1]
        column = torch.arange(count, dtype=torch.float32)
        apart = (column[:, None] - column).abs()
        inside = bert.layers(
            donor, table[ids], bert.segments(ids, separator), torch.tensor([count]), heads=heads, depth=depth
        )
        for index, layer in enumerate(inside):
            far[index] += (layer.attention[0] * apart).sum((1, 2))
            sums[index, 0] += layer.neurons[0].sum(0)
            sums[index, 1] += layer.neurons[0].square().sum(0)
        tokens += count
    means = sums / tokens
    spread = (means[:, 1] - means[:, 0].square()).clamp(min=0).sqrt()
    return [(far[i] / tokens, torch.stack([means[i, 0], spread[i]])) for i in range(depth)]


def new_student(config: JinaBertConfig, embeddings: Tensor | None = None, *, seed: int) -> JinaBert:
    """A student whose attention starts out matching equal tokens.

    Query and key projections of a layer start equal, so a token's best match is itself in the other text.
    Lexical match is the first thing a reranker has to know and the slowest for a small one to find by itself.
    """
    torch.manual_seed(seed)
    model = JinaBert(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.02 if "embeddings" in name else 0.04)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    # |W x|^2 / sqrt(d) is about 5 for a token and itself: e^5 against e^0 for an unrelated one.
    std = math.sqrt(5 * math.sqrt(config.head_size) / (config.head_size * config.hidden_size))
    state = model.state_dict()
    for index in range(config.num_hidden_layers):
        prefix = f"bert.encoder.layer.{index}.attention.self"
        torch.nn.init.normal_(state[f"{prefix}.query.weight"], std=std)
        state[f"{prefix}.key.weight"].copy_(state[f"{prefix}.query.weight"])
    if embeddings is not None:
        state["bert.embeddings.word_embeddings.weight"].copy_(embeddings)
    return model


def from_layers(donor: JinaBert, layers: Sequence[int]) -> JinaBert:
    """A JinaBERT of the donor's embeddings, head and chosen layers (Turbo from Base: six of twelve)."""
    depth = donor.config.num_hidden_layers
    for index in layers:
        if not 0 <= index < depth:
            raise DistillationError(f"Layer {index} does not exist: the donor has layers 0 to {depth - 1}.")
    model = JinaBert(replace(donor.config, num_hidden_layers=len(layers)))
    old = donor.state_dict()
    state = {name: tensor for name, tensor in old.items() if ".layer." not in name}
    for target, source in enumerate(layers):
        prefix = f"bert.encoder.layer.{source}."
        for name, tensor in old.items():
            if name.startswith(prefix):
                state[f"bert.encoder.layer.{target}.{name.removeprefix(prefix)}"] = tensor
    model.load_state_dict(state)
    return model
