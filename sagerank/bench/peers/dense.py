"""JinaBERT as a padded batch with dense ALiBi, in plain PyTorch: the model as every peer runs it.

Written apart from `inference`, so that two ways to the same scores are compared, and self-contained: the file is copied
into the folder that peers load and is traced into their ONNX graph. B pairs, S tokens, n heads, h hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def slopes(heads: int) -> list[float]:
    """ALiBi slopes in head order; where `heads` is no power of two, the rest comes from the next power's odd places."""
    power = 2 ** (heads.bit_length() - 1)
    first = [2.0 ** (-8.0 * (k + 1) / power) for k in range(power)]
    return first + [2.0 ** (-4.0 * (2 * k + 1) / power) for k in range(heads - power)]


class Layer(nn.Module):
    """Attention and a gated feed-forward part, each with its residual and LayerNorm."""

    def __init__(self, h: int, heads: int, f: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        projections = nn.ModuleDict({name: nn.Linear(h, h) for name in ("query", "key", "value")})
        output = nn.ModuleDict({"dense": nn.Linear(h, h), "LayerNorm": nn.LayerNorm(h, eps)})
        self.attention = nn.ModuleDict({"self": projections, "output": output})
        feed_forward: dict[str, nn.Module] = {
            "gated_layers": nn.Linear(h, 2 * f, bias=False),
            "wo": nn.Linear(f, h),
            "layernorm": nn.LayerNorm(h, eps),
        }
        self.mlp = nn.ModuleDict(feed_forward)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Apply the layer to x [B, S, h] with bias [B, n, S, S] -> [B, S, h]."""
        batch, size, hidden = x.shape
        project: Any = self.attention["self"]
        output: Any = self.attention["output"]
        query, key, value = (
            project[name](x).view(batch, size, self.heads, hidden // self.heads).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        context = context.transpose(1, 2).reshape(batch, size, hidden)
        x = output["LayerNorm"](output["dense"](context) + x)
        gate, up = self.mlp["gated_layers"](x).chunk(2, dim=-1)
        return self.mlp["layernorm"](self.mlp["wo"](F.gelu(gate) * up) + x)  # type: ignore[no-any-return]


class DenseJinaBert(nn.Module):
    """Parameters are named as in the published checkpoints. `config` has their config.json's fields as attributes."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        h, heads, eps = config.hidden_size, config.num_attention_heads, config.layer_norm_eps
        self.slopes = slopes(heads)
        self.separator: int | None = getattr(config, "segment_separator_id", None)
        layers = [Layer(h, heads, config.intermediate_size, eps) for _ in range(config.num_hidden_layers)]
        embeddings: dict[str, nn.Module] = {
            "word_embeddings": nn.Embedding(config.vocab_size, h),
            "token_type_embeddings": nn.Embedding(config.type_vocab_size, h),
            "LayerNorm": nn.LayerNorm(h, eps),
        }
        parts: dict[str, nn.Module] = {
            "embeddings": nn.ModuleDict(embeddings),
            "encoder": nn.ModuleDict({"layer": nn.ModuleList(layers)}),
            "pooler": nn.ModuleDict({"dense": nn.Linear(h, h)}),
        }
        self.bert = nn.ModuleDict(parts)
        self.classifier = nn.Linear(h, 1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [B, 1] of input_ids [B, S] and attention_mask [B, S], 1 for a token and 0 for padding."""
        embeddings: Any = self.bert["embeddings"]
        encoder: Any = self.bert["encoder"]
        pooler: Any = self.bert["pooler"]
        if self.separator is None:
            segments = torch.zeros_like(input_ids)
        else:
            here = (input_ids == self.separator).long()
            segments = (here.cumsum(1) - here).clamp(max=1)
        x = embeddings["word_embeddings"](input_ids) + embeddings["token_type_embeddings"](segments)
        x = embeddings["LayerNorm"](x)
        position = torch.arange(input_ids.shape[1], device=x.device)
        distance = (position[:, None] - position[None, :]).abs().to(x.dtype)
        slope = torch.tensor(self.slopes, dtype=x.dtype, device=x.device)
        padding = (1 - attention_mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        bias = padding - slope[:, None, None] * distance  # made once, and added in every layer
        for layer in encoder["layer"]:
            x = layer(x, bias)
        return self.classifier(torch.tanh(pooler["dense"](x[:, 0])))  # type: ignore[no-any-return]
