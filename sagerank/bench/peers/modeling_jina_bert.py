"""The dense JinaBERT as a class of transformers, named by `auto_map` in the config.json of the folder that peers load."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import BertConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .dense import DenseJinaBert


class JinaBertForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    config_class = BertConfig
    base_model_prefix = "dense"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.dense = DenseJinaBert(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **options: Any,
    ) -> SequenceClassifierOutput:
        # Exporters expect BERT's inputs, but the model makes its own; and the answer is wrapped, whatever a caller wants.
        del token_type_ids, options
        mask = input_ids.new_ones(input_ids.shape) if attention_mask is None else attention_mask
        return SequenceClassifierOutput(logits=self.dense(input_ids, mask))
