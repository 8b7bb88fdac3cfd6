"""JinaBERT rerankers for transformers and sentence-transformers, in our own code: no remote code, nothing to trust.

    from sagerank.hf import cross_encoder

    model = cross_encoder("micro")  # whatever a command takes as --model, but a cascade
    model.rank("what causes rain", ["Clouds cool, and drops fall.", "Cats sleep."])

What comes back is sentence_transformers' own CrossEncoder, to be trained and evaluated there. `save_pretrained` writes a folder that
`sagerank build --model FOLDER` takes, and that CrossEncoder and transformers' Auto classes load once this module is imported. Its
config.json names a model type of our own: the published "bert" would make transformers build a BERT of random feed-forward weights.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagerank_inference.checkpoint import CheckpointError, JinaBertConfig

from .models.build import source
from .models.extras import install

try:
    import torch
    from tokenizers import Tokenizer
    from torch import Tensor, nn
    from transformers import (
        AutoConfig,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        PreTrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerFast,
    )
    from transformers.modeling_layers import GradientCheckpointingLayer
    from transformers.modeling_outputs import SequenceClassifierOutput
    from transformers.utils import can_return_tuple
except ImportError as error:
    raise ImportError(
        f"sagerank.hf needs PyTorch and transformers ({error.name} is missing): {install('hf')}",
        name=error.name,
    ) from None

from sagerank_inference.jina_bert import Backbone, Layer, read_weights
from sagerank_inference.segments import read_config

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

# The family's tokenizers call them as BERT's or as RoBERTa's do.
_SPECIAL = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}


class JinaBertRerankerConfig(PreTrainedConfig):  # type: ignore[misc]
    """The fields of sagerank_inference.checkpoint.JinaBertConfig, as transformers wants them; defaults are those of Tiny."""

    model_type = "sagerank_jina_bert"

    vocab_size: int = 61056
    hidden_size: int = 384
    num_hidden_layers: int = 4
    num_attention_heads: int = 12
    intermediate_size: int = 1536
    layer_norm_eps: float = 1e-12
    type_vocab_size: int = 2
    max_position_embeddings: int = 8192
    segment_separator_id: int | None = None
    position_embedding_type: str = "alibi"
    feed_forward_type: str = "geglu"
    # Before the head, in training only. There is no other dropout.
    classifier_dropout: float | int | None = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**{"num_labels": 1, **kwargs})
        if self.num_labels != 1:
            raise CheckpointError(f"num_labels is {self.num_labels}: a reranker has one logit.")

    @property
    def checkpoint(self) -> JinaBertConfig:
        """The same as our own code reads it, checked."""
        return JinaBertConfig(**{field.name: getattr(self, field.name) for field in fields(JinaBertConfig)})


class _Layer(GradientCheckpointingLayer, Layer):  # type: ignore[misc]
    def forward(self, *arguments: Any) -> Tensor:
        return Layer.forward(self, *arguments)


class JinaBertForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """A JinaBERT reranker with transformers' interface; its tensors have the published names. Pairs are padded on the right."""

    config_class = JinaBertRerankerConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ("_Layer",)

    def __init__(self, config: JinaBertRerankerConfig) -> None:
        super().__init__(config)
        self.bert = Backbone(config.checkpoint, _Layer)
        self.dropout = nn.Dropout(config.classifier_dropout or 0.0)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Return float32 logits [B, 1] of input_ids [B, S], and with `labels` [B] their mean squared error.

        token_type_ids are what BERT's tokenizers give, and are not looked at: the model finds its segments itself.
        """
        del token_type_ids
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        if (mask[:, 1:] > mask[:, :-1]).any():
            raise ValueError("Padding stands before text: set the tokenizer's padding_side to 'right'.")
        logits = self.classifier(self.dropout(self.bert(input_ids, mask.sum(1)))).float()
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels.to(logits), pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path | None, *arguments: Any, **options: Any
    ) -> JinaBertForSequenceClassification:
        """Load a folder's weights in float32, or in the `dtype` asked for; raises CheckpointError naming each tensor that does not fit.

        Tensors given as `state_dict` are taken instead of the folder's.
        """
        dtype = options.pop("torch_dtype", None) or options.get("dtype")
        # "auto" would train 16-bit weights as they are stored.
        options["dtype"] = torch.float32 if dtype in (None, "auto") else dtype
        if options.get("state_dict") is None and pretrained_model_name_or_path is not None:
            folder = source(str(pretrained_model_name_or_path))
            config = read_config(folder)
            options.setdefault("config", _wrapped(config))
            options["state_dict"] = read_weights(folder, config)
        model: JinaBertForSequenceClassification = super().from_pretrained(None, *arguments, **options)
        return model


AutoConfig.register(JinaBertRerankerConfig.model_type, JinaBertRerankerConfig)
AutoModelForSequenceClassification.register(JinaBertRerankerConfig, JinaBertForSequenceClassification)
AutoTokenizer.register(JinaBertRerankerConfig, fast_tokenizer_class=PreTrainedTokenizerFast)


def load(model: str | Path, **options: Any) -> JinaBertForSequenceClassification:
    """The transformers model of whatever a command takes as --model, in evaluation mode.

    options: of transformers' from_pretrained. Raises CheckpointError or ArtefactError with what to do.
    """
    return JinaBertForSequenceClassification.from_pretrained(model, **options)


def tokenizer(model: str | Path) -> PreTrainedTokenizerFast:
    """The transformers tokenizer of a model: [CLS] query [SEP] document [SEP], or whatever its tokenizer.json says."""
    folder = source(str(model))
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{folder} holds no tokenizer.json: fetch it with the model.")
    known = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # One that is not there would be added, with an id that has no embedding.
    special = {
        role: name
        for role, names in _SPECIAL.items()
        for name in names
        if known.token_to_id(name) is not None
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=known,
        model_max_length=JinaBertConfig.read(folder).max_position_embeddings,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="right",
        # Which token pads is of no matter: the mask hides it.
        **{"pad_token": known.id_to_token(0), **special},
    )


def cross_encoder(model: str | Path, **options: Any) -> CrossEncoder:
    """sentence_transformers' CrossEncoder of whatever a command takes as --model; its scores are sigmoids of the logits.

    An artefact's calibration is not applied: training makes another model of it.

    options: of CrossEncoder. Raises CheckpointError or ArtefactError with what to do.
    """
    from sentence_transformers import CrossEncoder

    model = str(model)
    folder = source(model)
    config = read_config(folder)
    # Everything is on this machine by now.
    options = {"local_files_only": True, **options}
    named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if named == JinaBertRerankerConfig.model_type:
        return CrossEncoder(str(folder), **options)
    weights = {"state_dict": read_weights(folder, config)}
    options["model_kwargs"] = weights | (options.get("model_kwargs") or {})
    # CrossEncoder loads folders only, and this one says "bert": the weights go round it.
    with tempfile.TemporaryDirectory() as form:
        _wrapped(config).save_pretrained(form)
        tokenizer(folder).save_pretrained(form)
        made = CrossEncoder(form, **options)
    made.model.config.pad_token_id = made.tokenizer.pad_token_id  # or a trainer says that it sets it
    made.model.name_or_path = made.model.config.name_or_path = made.tokenizer.name_or_path = model
    for name in ("is_local", "local_files_only"):  # would be saved with the tokenizer
        made.tokenizer.init_kwargs.pop(name, None)
    return made


def _wrapped(config: JinaBertConfig) -> JinaBertRerankerConfig:
    return JinaBertRerankerConfig(**asdict(config), architectures=["JinaBertForSequenceClassification"])
