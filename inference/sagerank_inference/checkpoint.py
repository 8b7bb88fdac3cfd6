"""What a JinaBERT folder holds: the configuration, and the name and shape of every tensor.

Standard library only, so that the graph writer and the PyTorch model read the same facts. Names are those of
the published checkpoints (JinaBertForSequenceClassification of `jina-bert-implementation`): `bert.` on the
backbone, none on the head.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self


class CheckpointError(ValueError):
    """A model folder that cannot be used; the text says what is wrong and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JinaBertConfig:
    """The fields of config.json that decide the arithmetic, under Hugging Face's names.

    There is no `num_labels`: the published config.json lacks it (transformers would default to 2) and the
    head has one logit. There is no `pad_token_id`: config says 0 where the tokenizer says 1, and the mask
    comes from lengths, never from ids.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    layer_norm_eps: float = 1e-12
    type_vocab_size: int = 2
    max_position_embeddings: int = 8192
    # Token id after whose first occurrence segment 1 begins. None: every token is of segment 0. Published configurations do not
    # say; `segments` does.
    segment_separator_id: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name == "segment_separator_id":
                if value is not None and not (0 <= value < self.vocab_size and self.type_vocab_size > 1):
                    raise CheckpointError(
                        f"config.json: segment_separator_id {value} needs to be below vocab_size {self.vocab_size}, and type_vocab_size at least 2."
                    )
            elif not value > 0:
                raise CheckpointError(f"config.json: {name} must be positive, not {value}.")
        if self.hidden_size % self.num_attention_heads:
            raise CheckpointError(
                f"config.json: hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}."
            )

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in tensor_shapes(self).values())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read `folder/config.json`. Raises CheckpointError, with its name for an architecture that only looks like this one."""
        path = folder / "config.json"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(
                f"{folder} holds no config.json: give a Hugging Face model folder."
            ) from None
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path} is not JSON ({error}): fetch it again.") from None
        if not isinstance(raw, dict):
            raise CheckpointError(f"{path} must hold a JSON object.")
        _refuse_variants(raw, path)
        values: dict[str, Any] = {}
        for name, kind in cls.__annotations__.items():
            value = raw.get(name)
            if value is None:
                if name not in _OPTIONAL:
                    raise CheckpointError(f"{path} has no {name!r}: this is not a JinaBERT configuration.")
                continue
            wanted: tuple[type, ...] = (int, float) if kind == "float" else (int,)
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise CheckpointError(f"{path}: {name} must be a number of type {kind}, not {value!r}.")
            values[name] = value
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Return config.json as Hugging Face tools expect it for this family, and with null for a model without segments."""
        return {
            "architectures": ["JinaBertForSequenceClassification"],
            "model_type": "bert",
            "position_embedding_type": "alibi",
            "feed_forward_type": "geglu",
            "num_labels": 1,
            **asdict(self),
        }


_OPTIONAL = {"layer_norm_eps", "type_vocab_size", "max_position_embeddings", "segment_separator_id"}


def _refuse_variants(raw: Mapping[str, Any], path: Path) -> None:
    position = raw.get("position_embedding_type")
    if position != "alibi":
        raise CheckpointError(
            f"{path}: position_embedding_type is {position!r}, not 'alibi'. Only JinaBERT rerankers (v1) are supported; "
            "other cross-encoders run in `sagerank eval` only."
        )
    feed_forward = raw.get("feed_forward_type")
    if feed_forward != "geglu":
        raise CheckpointError(
            f"{path}: feed_forward_type is {feed_forward!r}; the v1 rerankers have 'geglu'."
        )
    origin = f"{raw.get('_name_or_path', '')} {raw.get('auto_map', '')}"
    for variant in ("qk-post-norm", "qk-devlin-norm", "flash-implementation"):
        if variant in origin:
            raise CheckpointError(
                f"{path} names the JinaBERT variant {variant!r}, whose layers differ from the v1 rerankers' (jina-bert-implementation); "
                "it is not supported."
            )


def tensor_shapes(config: JinaBertConfig) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor, in file order. Linear weights are [out, in], as PyTorch stores them."""
    h, f = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (config.vocab_size, h),
        "bert.embeddings.token_type_embeddings.weight": (config.type_vocab_size, h),
    }

    def affine(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"] = weight
        shapes[f"{name}.bias"] = weight[:1]

    affine("bert.embeddings.LayerNorm", h)
    for i in range(config.num_hidden_layers):
        layer = f"bert.encoder.layer.{i}"
        for projection in ("query", "key", "value"):
            affine(f"{layer}.attention.self.{projection}", h, h)
        affine(f"{layer}.attention.output.dense", h, h)
        affine(f"{layer}.attention.output.LayerNorm", h)
        # Gate rows first, then up; no bias.
        shapes[f"{layer}.mlp.gated_layers.weight"] = (2 * f, h)
        affine(f"{layer}.mlp.wo", h, f)
        affine(f"{layer}.mlp.layernorm", h)
    affine("bert.pooler.dense", h, h)
    affine("classifier", 1, h)
    return shapes


# What code keeps beside the weights, and computes again from config.json.
_BUFFERS = {"position_ids", "token_type_ids", "alibi", "slopes", "alibi_slopes"}


def canonical_names(names: Iterable[str]) -> dict[str, str | None]:
    """Map each stored tensor name to ours, or to None where it is known to carry no weight of a reranker.

    Backbones may lack `bert.` and have the old LayerNorm names gamma and beta. Raises CheckpointError for variants with
    other layers.
    """
    result: dict[str, str | None] = {}
    for name in names:
        if any(
            part in name for part in ("layer_norm_q", "layer_norm_k", "up_gated_layer", "down_layer", "Wqkv")
        ):
            raise CheckpointError(
                f"The checkpoint holds {name!r}: that is another JinaBERT variant (qk-post-norm or flash), which loads into this one "
                "without shape errors and with wrong scores; it is not supported."
            )
        if name.startswith("cls.") or name.rpartition(".")[2] in _BUFFERS:
            result[name] = None
            continue
        ours = name.replace(".gamma", ".weight").replace(".beta", ".bias")
        if not ours.startswith(("bert.", "classifier.")):
            ours = f"bert.{ours}"
        result[name] = ours
    return result


# Weights stored as int8 have one scale per row beside them: weight = integers * scale[:, None].
SCALE = ".scale"


def check_tensors(config: JinaBertConfig, found: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError naming every missing, unexpected or mis-shaped tensor (canonical names).

    Strict because the field's classic bug is a plain BERT built silently from these files, with random
    feed-forward weights.
    """
    expected = tensor_shapes(config)
    problems = [f"missing {name}" for name in expected if name not in found]
    problems += [f"unexpected {name}" for name in found if name not in expected]
    problems += [
        f"{name} has shape {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != shape
    ]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise CheckpointError(f"The tensors do not fit config.json: {shown}.")


def alibi_slopes(heads: int) -> list[float]:
    """Return the slope of each head, in head order: bias[head, i, j] = -slope[head] * |i - j|.

    This is the symmetric form of ALiBi (Press et al. 2022). For a head count that is no power of two, the
    slopes of the next lower power come first and the rest is taken from every other slope of the next higher
    one. The order belongs to the weights: sorting it gives plausible, wrong scores.
    """

    def geometric(n: int) -> list[float]:
        ratio = 2.0 ** (-8.0 / n)
        return [ratio ** (k + 1) for k in range(n)]

    lower = 1 << (heads.bit_length() - 1)
    return geometric(lower) + geometric(2 * lower)[0::2][: heads - lower]
