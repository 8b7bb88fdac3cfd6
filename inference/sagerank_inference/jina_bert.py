"""JinaBERT cross-encoder in plain PyTorch: the reference, and what distillation trains.

BERT with post-layer-norm, symmetric ALiBi instead of position embeddings, a GEGLU feed-forward, and a head of
pooler (dense + tanh on token 0) and one logit. No transformers class and no remote code. The module tree
spells the names of the published checkpoints, so `state_dict()` is the checkpoint. Shapes: B pairs, S tokens,
h hidden, n heads, d = h / n, f intermediate, R query rows.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .checkpoint import SCALE, CheckpointError, JinaBertConfig, alibi_slopes, canonical_names, check_tensors
from .segments import read_config

# Query rows attended at once: the largest temporary is [B, n, QUERY_BLOCK, S], so memory grows with S and not
# with its square.
QUERY_BLOCK = 128


class Layer(nn.Module):
    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        h, f, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self.heads = config.num_attention_heads
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(h, h) for name in ("query", "key", "value")}),
                "output": nn.ModuleDict({"dense": nn.Linear(h, h), "LayerNorm": nn.LayerNorm(h, eps)}),
            }
        )
        self.mlp = nn.ModuleDict(
            {
                "gated_layers": nn.Linear(h, 2 * f, bias=False),
                "wo": nn.Linear(f, h),
                "layernorm": nn.LayerNorm(h, eps),
            }
        )

    def forward(self, x: Tensor, rows: int, slopes: Tensor, padding: Tensor) -> Tensor:
        """Map x [B, S, h] to [B, rows, h]: the first `rows` tokens attend to all S.

        slopes [n] and padding [B, 1, 1, S] (0 for a token, -inf for padding) are float32.
        """
        top = x[:, :rows]
        project, output = self.attention["self"], self.attention["output"]
        query = self._split(project["query"](top))  # type: ignore[index]
        key, value = (self._split(project[name](x)) for name in ("key", "value"))  # type: ignore[index]
        column = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
        blocks = []
        for start in range(0, rows, QUERY_BLOCK):
            row = column[start : min(start + QUERY_BLOCK, rows)]
            # float32 until here: bfloat16 holds no integer above 256 exactly.
            bias = padding - slopes[:, None, None] * (row[:, None] - column).abs()  # [B, n, R, S]
            block = query[:, :, start : start + QUERY_BLOCK]
            # The mask is added after scaling by 1/sqrt(d), as in the reference.
            blocks.append(F.scaled_dot_product_attention(block, key, value, attn_mask=bias.to(x.dtype)))
        context = torch.cat(blocks, dim=2).transpose(1, 2).flatten(2)  # [B, rows, h]
        top = output["LayerNorm"](output["dense"](context) + top)  # type: ignore[index]
        gate, up = self.mlp["gated_layers"](top).chunk(2, dim=-1)  # gate is the first half
        return self.mlp["layernorm"](self.mlp["wo"](F.gelu(gate) * up) + top)  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)  # [B, S, h] -> [B, n, S, d]


class Backbone(nn.Module):
    """Embeddings, layers of the class `layer`, and the pooler."""

    def __init__(self, config: JinaBertConfig, layer: type[Layer] = Layer) -> None:
        super().__init__()
        self.config = config
        h = config.hidden_size
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(config.vocab_size, h),
                "token_type_embeddings": nn.Embedding(config.type_vocab_size, h),
                "LayerNorm": nn.LayerNorm(h, config.layer_norm_eps),
            }
        )
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList([layer(config) for _ in range(config.num_hidden_layers)])}
        )
        self.pooler = nn.ModuleDict({"dense": nn.Linear(h, h)})

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Map right-padded pairs, input_ids [B, S] (int64), of which `lengths` [B] are real, to what the head reads, [B, h]."""
        device, size = input_ids.device, input_ids.shape[1]
        slopes = torch.tensor(alibi_slopes(self.config.num_attention_heads), device=device)
        real = torch.arange(size, device=device) < lengths[:, None]  # [B, S]
        padding = torch.zeros(real.shape, device=device).masked_fill(~real, float("-inf"))[:, None, None]
        x = self.embeddings["word_embeddings"](input_ids) + self._segments(input_ids)
        x = self.embeddings["LayerNorm"](x)  # [B, S, h]
        layers = self.encoder["layer"]
        for layer in layers[:-1]:  # type: ignore[index]
            x = layer(x, size, slopes, padding)
        # The head reads token 0 only, so the last layer computes that row alone; the others serve as keys and
        # values.
        x = layers[-1](x, 1, slopes, padding)  # type: ignore[index]
        return torch.tanh(self.pooler["dense"](x[:, 0]))

    def _segments(self, input_ids: Tensor) -> Tensor:
        """Return segment embeddings, [h] or [B, S, h]."""
        table = self.embeddings["token_type_embeddings"].weight
        assert isinstance(table, Tensor)
        separator = self.config.segment_separator_id
        if separator is None:
            return table[0]
        return table[segment_ids(input_ids, separator)]


def segment_ids(input_ids: Tensor, separator: int) -> Tensor:
    """Return the segment of each token of input_ids [B, S]: 1 after the first separator, 0 before and where there is none."""
    here = (input_ids == separator).long()
    return (here.cumsum(1) - here).clamp(max=1)


class JinaBert(nn.Module):
    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = Backbone(config)
        self.classifier = nn.Linear(config.hidden_size, 1)

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Return logits [B] of right-padded pairs, input_ids [B, S] (int64), of which `lengths` [B], at least 1, are real.

        The mask comes from the lengths: the checkpoints disagree with their tokenizer about the padding id.
        """
        return self.classifier(self.bert(input_ids, lengths))[:, 0].float()  # type: ignore[no-any-return]


@torch.inference_mode()
def score(model: JinaBert, pairs: Sequence[Sequence[int]]) -> list[float]:
    """Return the logits of pairs of token ids, none of them empty, as one padded batch on the model's device: the reference for every other path."""
    device = model.classifier.weight.device
    lengths = torch.tensor([len(pair) for pair in pairs])
    ids = torch.zeros(len(pairs), int(lengths.max()), dtype=torch.int64)
    for row, pair in zip(ids, pairs, strict=True):
        row[: len(pair)] = torch.tensor(pair)
    logits: list[float] = model(ids.to(device), lengths.to(device)).tolist()
    return logits


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read the tensors of a Hugging Face folder under canonical names, in their stored dtype (int8 with its scales).

    safetensors first; pytorch_model.bin only through weights_only unpickling, which runs no code from the
    file.
    """
    if (folder / "model.safetensors").exists():
        stored = _read_safetensors(folder / "model.safetensors")
    elif (folder / "pytorch_model.bin").exists():
        stored = _read_pickle(folder / "pytorch_model.bin")
    elif parts := sorted(folder.glob("*.index.json")):
        raise CheckpointError(
            f"{folder} holds weights in several parts ({parts[0].name}): save them in one file, with "
            "`model.save_pretrained(folder, max_shard_size='100GB')`."
        )
    else:
        raise CheckpointError(f"{folder} holds neither model.safetensors nor pytorch_model.bin.")
    names = canonical_names(stored)
    return {ours: stored[name] for name, ours in names.items() if ours is not None}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError) as error:  # KeyError: of a dtype that PyTorch lacks
        raise CheckpointError(f"{path} cannot be read ({error}): fetch it again.") from None


def _read_pickle(path: Path) -> dict[str, Tensor]:
    advice = "take the model's safetensors, or save it so: `model.save_pretrained(folder, safe_serialization=True)`"
    try:
        # Mapped: a buffer that is not ours may have gigabytes, and is not read.
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors, such as code, which is not run: {advice}."
        ) from None
    except Exception as error:  # PyTorch and the pickle raise whatever a damaged file leads them to
        raise CheckpointError(
            f"{path} cannot be read ({type(error).__name__}): {advice}, or fetch it again."
        ) from None
    if not isinstance(stored, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in stored.items()
    ):
        raise CheckpointError(f"{path} is no table of tensors by name: {advice}.")
    return stored


def load(folder: Path, dtype: torch.dtype = torch.float32) -> JinaBert:
    """Load the model of a folder (config.json and weights), in eval mode, every weight converted to `dtype`.

    Raises CheckpointError where a tensor is missing, unexpected or mis-shaped, and where the segments cannot be told.
    """
    config = read_config(folder)
    tensors = read_weights(folder, config)
    with torch.device("meta"):  # no time spent on random weights that are replaced at once
        model = JinaBert(config)
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()}, assign=True)
    return model.eval()


def read_weights(folder: Path, config: JinaBertConfig) -> dict[str, Tensor]:
    """Read the model's tensors as floating point, int8 times its scales; raises CheckpointError unless they are those of `config`."""
    tensors = _dequantised(read_tensors(folder))
    check_tensors(config, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    return tensors


def _dequantised(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor * tensors[name + SCALE][:, None] if name + SCALE in tensors else tensor
        for name, tensor in tensors.items()
        if not name.endswith(SCALE)
    }


def _quantised(name: str, weight: Tensor) -> dict[str, Tensor]:
    """int8 with one scale per row, symmetric: a weight moves by at most 0.39 % of the largest in its row."""
    scale = weight.abs().amax(1).clamp(min=1e-30) / 127
    return {name: (weight / scale[:, None]).round().to(torch.int8), name + SCALE: scale}


def save(model: JinaBert, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write config.json and model.safetensors under the published names; equal models give equal bytes.

    torch.int8 stores matrices as int8 with a float32 scale per row, and the rest as float32; arithmetic stays float32.
    """
    import json

    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if dtype is torch.int8:
        for name, tensor in list(tensors.items()):
            if tensor.ndim == 2:
                tensors |= _quantised(name, tensor.float())
    else:
        tensors = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    # The library writes for its owner alone; a container reads as another.
    (folder / "model.safetensors").chmod(0o644)
    (folder / "config.json").write_text(json.dumps(model.config.to_json(), indent=2) + "\n", encoding="utf-8")
