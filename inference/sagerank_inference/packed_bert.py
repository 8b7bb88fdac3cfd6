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

from .checkpoint import alibi_slopes
from .jina_bert import JinaBert
from .packing import BLOCK, Packed

# Query rows attended at once where pairs are padded: the largest temporary is [B, n, QUERY_ROWS, longest].
QUERY_ROWS = 128
# FlexAttention's kernels take no narrower heads; zeros beside them change no product.
_LEAST_HEAD = 16


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
    """What attention needs to know of a batch, all int32: see `packing.Packed`."""

    document: Tensor
    first: Tensor
    lengths: Tensor
    tile_count: Tensor
    tiles: Tensor
    full_count: Tensor
    full_tiles: Tensor


class Batch(NamedTuple):
    """A batch on the device."""

    distinct: Tensor  # [U]
    token: Tensor  # [T]
    place: Place
    longest: int

    @classmethod
    def of(cls, arrays: Packed, device: torch.device) -> Batch:
        """Copy a batch to the device: one copy, which on CUDA nobody waits for."""
        whole, shapes = arrays.buffer()
        buffer = torch.from_numpy(whole)
        if device.type == "cuda":
            buffer = buffer.pin_memory().to(device, non_blocking=True)
        distinct, token, *place = (
            buffer[start : start + math.prod(shape)].view(shape) for start, shape in shapes
        )
        return cls(distinct, token, Place(*place), arrays.longest)


class Form(NamedTuple):
    """How a layer is computed; the same for all layers but the last."""

    slopes: Tensor  # [n], of ALiBi
    eps: float
    dtype: torch.dtype  # of the products
    longest: int  # pair, in tokens; 0: attention is FlexAttention's


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


def attend_packed(query: Tensor, key: Tensor, value: Tensor, place: Place, form: Form) -> Tensor:
    """Attention [1, n, T, d] by FlexAttention. Compiled it is one kernel; as it is, a reference that holds T x T scores."""
    tokens, size = query.shape[2:]
    mask = BlockMask.from_kv_blocks(
        place.tile_count,
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
        query, key, value, score_mod=alibi(form.slopes), block_mask=mask, scale=1 / math.sqrt(size)
    )
    assert isinstance(context, Tensor)  # a tuple where more is asked for
    return context[..., :size]


def attend_padded(query: Tensor, key: Tensor, value: Tensor, place: Place, form: Form) -> Tensor:
    """The same with PyTorch's plain operators, in float32: pairs padded to [B, n, longest, d], QUERY_ROWS of queries at a time."""
    pairs, tokens, longest = len(place.first), query.shape[2], form.longest
    column = torch.arange(longest, device=query.device)
    index = (place.first[:, None] + column).clamp(max=tokens - 1)  # [B, longest]
    query, key, value = (x[0].transpose(0, 1)[index].transpose(1, 2).float() for x in (query, key, value))
    padding = torch.zeros(pairs, longest, device=query.device)
    padding.masked_fill_(column >= place.lengths[:, None], -math.inf)
    blocks = []
    for start in range(0, longest, QUERY_ROWS):
        distance = (column[start : start + QUERY_ROWS, None] - column).abs()
        bias = padding[:, None, None] - form.slopes[:, None, None] * distance  # [B, n, rows, longest]
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


def layer(x: Tensor, token: Tensor | None, weights: Weights, place: Place, form: Form) -> Tensor:
    """Map x [T, h] to [T, h], float32. token [T]: x is [U, h], and each token is which of them."""
    qkv = _linear(x, weights.qkv, weights.qkv_bias, form.dtype)
    if token is not None:
        qkv, x = qkv[token], x[token]
    query, key, value = qkv.view(len(x), 3, len(form.slopes), -1).permute(1, 2, 0, 3)[:, None].unbind()
    if form.longest:
        context = attend_padded(query, key, value, place, form)
    else:
        context = attend_packed(query, key, value, place, form)
    return _after_attention(context[0].transpose(0, 1).flatten(1), x, weights, form.eps, form.dtype)


def last_layer(x: Tensor, weights: Weights, place: Place, form: Form) -> Tensor:
    """Map x [T, h] to [B, h], token 0 of each pair, in float32."""
    pairs, heads = len(place.first), len(form.slopes)
    column = torch.arange(form.longest, device=x.device)
    padded = x[(place.first[:, None] + column).clamp(max=len(x) - 1)]  # [B, longest, h]
    top = padded[:, 0]
    query, key, value = weights.qkv.chunk(3)
    query_bias, _, value_bias = weights.qkv_bias.chunk(3)  # the keys' adds the same to every score of a query
    asked = F.linear(top, query, query_bias).view(pairs, heads, -1)  # [B, n, d]
    probe = torch.einsum("bnd,ndh->bnh", asked, key.view(heads, -1, x.shape[1]))
    scores = probe @ padded.transpose(1, 2) / math.sqrt(asked.shape[2])  # [B, n, longest]
    scores = scores - form.slopes[:, None] * column
    scores = scores.masked_fill((column >= place.lengths[:, None])[:, None], -math.inf)
    seen = scores.softmax(-1) @ padded  # [B, n, h]
    context = torch.einsum("bnh,ndh->bnd", seen, value.view(heads, -1, x.shape[1])).flatten(1) + value_bias
    return _after_attention(context, top, weights, form.eps, torch.float32)


class PackedJinaBert(nn.Module):
    """The weights of a JinaBert, laid out for packed inference. `layer` may be replaced by a compiled form of it."""

    word_embeddings: Tensor
    token_type_embeddings: Tensor

    def __init__(self, model: JinaBert, dtype: torch.dtype) -> None:
        """dtype: of the products of all layers but the last."""
        super().__init__()
        self.config, self.dtype, self.layer = model.config, dtype, layer
        tensors = {name.removeprefix("bert."): value.detach() for name, value in model.state_dict().items()}
        self.slopes = _fixed(torch.tensor(alibi_slopes(self.config.num_attention_heads)))
        for name in ("word_embeddings", "token_type_embeddings"):
            setattr(self, name, _fixed(tensors[f"embeddings.{name}.weight"]))
        for name in ("embeddings.LayerNorm", "pooler.dense", "classifier"):
            for part in ("weight", "bias"):
                setattr(self, _own(name, part), _fixed(tensors[f"{name}.{part}"].float()))
        last = self.config.num_hidden_layers - 1
        for index in range(last + 1):
            weights = _weights(tensors, index, torch.float32 if index == last else dtype)
            for name, value in weights._asdict().items():
                setattr(self, f"{name}_{index}", _fixed(value))

    def forward(self, batch: Batch, *, packed: bool, dtype: torch.dtype | None = None) -> Tensor:
        """Return the logits [B], float32.

        packed: attention by FlexAttention, not over padded pairs. dtype: of the products, in place of the weights'.
        """
        size, eps = self.config.vocab_size, self.config.layer_norm_eps
        form = Form(self.slopes, eps, dtype or self.dtype, 0 if packed else batch.longest)
        run = self.layer if packed else layer
        x = self.word_embeddings[batch.distinct % size] + self.token_type_embeddings[batch.distinct // size]
        x = _norm(x, *self._affine("embeddings.LayerNorm"), eps)  # [U, h]
        token: Tensor | None = batch.token
        for index in range(self.config.num_hidden_layers - 1):
            x, token = run(x, token, self._layer(index), batch.place, form), None
        if token is not None:  # there is but one layer
            x = x[token]
        last = self._layer(self.config.num_hidden_layers - 1)
        x = last_layer(x, last, batch.place, form._replace(longest=batch.longest))
        pooled = torch.tanh(F.linear(x, *self._affine("pooler.dense")))
        return F.linear(pooled, *self._affine("classifier"))[:, 0]

    def _affine(self, name: str) -> tuple[Tensor, Tensor]:
        return getattr(self, _own(name, "weight")), getattr(self, _own(name, "bias"))

    def _layer(self, index: int) -> Weights:
        return Weights(*(getattr(self, f"{name}_{index}") for name in Weights._fields))


def _own(name: str, part: str) -> str:
    """A name without dots, which an attribute cannot have."""
    return f"{name}_{part}".replace(".", "_")


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
