"""JinaBERT over packed tokens, for inference: the arithmetic of `jina_bert`, without padding and with products in 16 bits.

* Linear layers run on [T, h], the tokens of all pairs in one row; the first layer's queries, keys and values on the U distinct ones.
* Attention is FlexAttention's kernel, with "same document" as its mask and ALiBi as what it adds to a score: no tensor has the
  size T x T. Where that kernel cannot be had, pairs are padded and attend in blocks of query rows, in float32.
* The last layer computes token 0 of each pair, the one that the head reads, and no keys and values for it: q . (K x) is (q K) . x.

Products of the other layers are in `dtype`, and sums in float32 (as matrix units have it). The residual stream, LayerNorm, ALiBi, softmax,
the last layer and the head are float32. n heads of d; other letters are those of `packing`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from .checkpoint import JinaBertConfig, alibi_slopes
from .jina_bert import JinaBert
from .packing import BLOCK

# Query rows attended at once where pairs are padded: the largest temporary is [B, n, QUERY_ROWS, longest].
QUERY_ROWS = 128
# FlexAttention's kernels take no narrower heads; zeros beside them change no product.
_LEAST_HEAD = 16


class Batch(NamedTuple):
    """The arrays of a `Packed` on the device, and its longest pair."""

    distinct: Tensor
    token: Tensor
    document: Tensor
    first: Tensor
    lengths: Tensor
    count: Tensor
    tiles: Tensor
    full_count: Tensor
    full_tiles: Tensor
    longest: int


class Weights(NamedTuple):
    """One layer. Matrices and their biases are in the dtype of the products, norms in float32."""

    qkv: Tensor
    qkv_bias: Tensor
    dense: Tensor
    dense_bias: Tensor
    norm: Tensor
    norm_bias: Tensor
    gated: Tensor
    wo: Tensor
    wo_bias: Tensor
    mlp_norm: Tensor
    mlp_norm_bias: Tensor


class Place(NamedTuple):
    """What attention needs to know of a batch."""

    document: Tensor
    first: Tensor
    lengths: Tensor
    count: Tensor
    tiles: Tensor
    full_count: Tensor
    full_tiles: Tensor
    slopes: Tensor  # [n]


def same_document(document: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """FlexAttention's mask: a query sees the keys of its own pair."""

    def mask(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return document[query] == document[key]

    return mask


def alibi(slopes: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
    """What FlexAttention makes of a score: symmetric ALiBi. Within a pair the distance in the row is the distance in the pair."""

    def score(score: Tensor, _batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score - slopes[head] * (query - key).abs()

    return score


def attend_packed(query: Tensor, key: Tensor, value: Tensor, place: Place) -> Tensor:
    """Attention [1, n, T, d] by FlexAttention. Compiled it is one kernel; as it is, a reference that holds T x T scores."""
    tokens, size = query.shape[2:]
    mask = BlockMask.from_kv_blocks(
        place.count,
        place.tiles,
        place.full_count,
        place.full_tiles,
        BLOCK_SIZE=BLOCK,
        mask_mod=same_document(place.document),
        seq_lengths=(tokens, tokens),
        compute_q_blocks=False,  # for gradients alone
    )
    if size < _LEAST_HEAD:
        query, key, value = (F.pad(x, (0, _LEAST_HEAD - size)) for x in (query, key, value))
    context = flex_attention(
        query, key, value, score_mod=alibi(place.slopes), block_mask=mask, scale=1 / math.sqrt(size)
    )
    assert isinstance(context, Tensor)  # a tuple where more is asked for
    return context[..., :size]


def attend_padded(query: Tensor, key: Tensor, value: Tensor, place: Place, longest: int) -> Tensor:
    """The same with PyTorch's plain operators, in float32: pairs padded to [B, n, longest, d], QUERY_ROWS of queries at a time."""
    pairs, tokens = len(place.first), query.shape[2]
    column = torch.arange(longest, device=query.device)
    index = (place.first[:, None] + column).clamp(max=tokens - 1)  # [B, longest]
    query, key, value = (x[0].transpose(0, 1)[index].transpose(1, 2).float() for x in (query, key, value))
    padding = torch.zeros(pairs, longest, device=query.device)
    padding.masked_fill_(column >= place.lengths[:, None], -math.inf)
    blocks = []
    for start in range(0, longest, QUERY_ROWS):
        distance = (column[start : start + QUERY_ROWS, None] - column).abs()
        bias = padding[:, None, None] - place.slopes[:, None, None] * distance  # [B, n, rows, longest]
        rows = query[:, :, start : start + QUERY_ROWS]
        blocks.append(F.scaled_dot_product_attention(rows, key, value, attn_mask=bias))
    context = torch.cat(blocks, dim=2).transpose(1, 2).flatten(0, 1)  # [B * longest, n, d]
    pair = place.document.clamp(max=pairs - 1)
    here = pair * longest + torch.arange(tokens, device=query.device) - place.first[pair]
    return context[here.clamp(max=len(context) - 1)].transpose(0, 1)[None]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    return F.linear(x.to(dtype), weight.to(dtype), bias if bias is None else bias.to(dtype))


def _norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x.float(), weight.shape, weight, bias, eps)


def _after_attention(context: Tensor, x: Tensor, weights: Weights, eps: float, dtype: torch.dtype) -> Tensor:
    """Return the layer's output of its context and its input, both [rows, h]; float32."""
    attended = _linear(context, weights.dense, weights.dense_bias, dtype)
    x = _norm(attended.float() + x, weights.norm, weights.norm_bias, eps)
    gate, up = _linear(x, weights.gated, None, dtype).chunk(2, dim=-1)  # gate is the first half
    product = _linear(F.gelu(gate) * up, weights.wo, weights.wo_bias, dtype)
    return _norm(product.float() + x, weights.mlp_norm, weights.mlp_norm_bias, eps)


def layer(
    x: Tensor,
    token: Tensor | None,
    weights: Weights,
    place: Place,
    eps: float,
    dtype: torch.dtype,
    longest: int,
) -> Tensor:
    """Map x [T, h] to [T, h], float32. token [T]: x is [U, h], and each token is which of them. longest: 0 for FlexAttention."""
    heads = len(place.slopes)
    qkv = _linear(x, weights.qkv, weights.qkv_bias, dtype)
    if token is not None:
        qkv, x = qkv[token], x[token]
    query, key, value = qkv.view(len(x), 3, heads, -1).permute(1, 2, 0, 3)[:, None].unbind()
    if longest:
        context = attend_padded(query, key, value, place, longest)
    else:
        context = attend_packed(query, key, value, place)
    return _after_attention(context[0].transpose(0, 1).flatten(1), x, weights, eps, dtype)


def last_layer(x: Tensor, weights: Weights, place: Place, eps: float, longest: int) -> Tensor:
    """Map x [T, h] to [B, h], token 0 of each pair, in float32."""
    pairs, heads = len(place.first), len(place.slopes)
    column = torch.arange(longest, device=x.device)
    inside = (place.first[:, None] + column).clamp(max=len(x) - 1)
    padded = x[inside]  # [B, longest, h]
    top = padded[:, 0]
    query, key, value = weights.qkv.chunk(3)
    query_bias, _, value_bias = weights.qkv_bias.chunk(3)  # the keys' adds the same to every score of a query
    asked = F.linear(top, query, query_bias).view(pairs, heads, -1)  # [B, n, d]
    probe = torch.einsum("bnd,ndh->bnh", asked, key.view(heads, -1, x.shape[1]))
    scores = probe @ padded.transpose(1, 2) / math.sqrt(asked.shape[2])  # [B, n, longest]
    scores = scores - place.slopes[:, None] * column
    scores = scores.masked_fill((column >= place.lengths[:, None])[:, None], -math.inf)
    seen = scores.softmax(-1) @ padded  # [B, n, h]
    context = torch.einsum("bnh,ndh->bnd", seen, value.view(heads, -1, x.shape[1])).flatten(1) + value_bias
    return _after_attention(context, top, weights, eps, torch.float32)


class PackedJinaBert(nn.Module):
    """The weights of a JinaBert, laid out for packed inference. `layer` may be replaced by a compiled form of it."""

    def __init__(self, model: JinaBert, dtype: torch.dtype) -> None:
        """dtype: of the products of all layers but the last."""
        super().__init__()
        config = model.config
        self.config, self.dtype = config, dtype
        tensors = {name.removeprefix("bert."): value.detach() for name, value in model.state_dict().items()}
        self.slopes = _fixed(torch.tensor(alibi_slopes(config.num_attention_heads)))
        for name in ("word_embeddings", "token_type_embeddings"):
            setattr(self, name, _fixed(tensors[f"embeddings.{name}.weight"]))
        for name in ("embeddings.LayerNorm", "pooler.dense", "classifier"):
            own = name.replace(".", "_").lower()
            setattr(self, own, _fixed(tensors[f"{name}.weight"].float()))
            setattr(self, f"{own}_bias", _fixed(tensors[f"{name}.bias"].float()))
        for index in range(config.num_hidden_layers):
            last = index == config.num_hidden_layers - 1
            for name, value in _weights(tensors, index, torch.float32 if last else dtype)._asdict().items():
                setattr(self, f"{name}_{index}", _fixed(value))
        self.layer = layer

    def weights(self, index: int) -> Weights:
        return Weights(*(getattr(self, f"{name}_{index}") for name in Weights._fields))

    def forward(self, batch: Batch, *, packed: bool, dtype: torch.dtype | None = None) -> Tensor:
        """Return the logits [B], float32.

        packed: attention by FlexAttention, not over padded pairs. dtype: of the products, in place of the weights'.
        """
        config, dtype = self.config, dtype or self.dtype
        eps, run = config.layer_norm_eps, self.layer if packed else layer
        place = Place(*batch[2:9], self.slopes)
        ids, segment = batch.distinct % config.vocab_size, batch.distinct // config.vocab_size
        x = self.word_embeddings[ids].float() + self.token_type_embeddings[segment].float()
        x = _norm(x, self.embeddings_layernorm, self.embeddings_layernorm_bias, eps)  # [U, h]
        token: Tensor | None = batch.token
        for index in range(config.num_hidden_layers - 1):
            weights, longest = self.weights(index), 0 if packed else batch.longest
            x, token = run(x, token, weights, place, eps, dtype, longest), None
        if token is not None:  # there is but one layer
            x = x[token]
        x = last_layer(x, self.weights(config.num_hidden_layers - 1), place, eps, batch.longest)
        pooled = torch.tanh(F.linear(x, self.pooler_dense, self.pooler_dense_bias))
        return F.linear(pooled, self.classifier, self.classifier_bias)[:, 0]


def _fixed(tensor: Tensor) -> nn.Parameter:
    """A parameter: compilers take its size as given, and a batch's as open."""
    return nn.Parameter(tensor, requires_grad=False)


def _weights(tensors: dict[str, Tensor], index: int, dtype: torch.dtype) -> Weights:
    def get(name: str, kind: torch.dtype = dtype) -> Tensor:
        return tensors[f"encoder.layer.{index}.{name}"].to(kind)

    parts = ("query", "key", "value")
    return Weights(
        qkv=torch.cat([get(f"attention.self.{part}.weight") for part in parts]),
        qkv_bias=torch.cat([get(f"attention.self.{part}.bias") for part in parts]),
        dense=get("attention.output.dense.weight"),
        dense_bias=get("attention.output.dense.bias"),
        norm=get("attention.output.LayerNorm.weight", torch.float32),
        norm_bias=get("attention.output.LayerNorm.bias", torch.float32),
        gated=get("mlp.gated_layers.weight"),
        wo=get("mlp.wo.weight"),
        wo_bias=get("mlp.wo.bias"),
        mlp_norm=get("mlp.layernorm.weight", torch.float32),
        mlp_norm_bias=get("mlp.layernorm.bias", torch.float32),
    )
