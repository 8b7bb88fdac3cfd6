"""A student's first weights, cut out of a BERT or a JinaBERT, and its vocabulary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from sagerank.distillation import DistillationError
from sagerank.distillation.bert import read_bert
from sagerank.distillation.student import from_bert, from_layers
from sagerank.distillation.vocabulary import pruned_wordpiece, train_wordpiece
from sagerank_inference import jina_bert
from sagerank_inference.checkpoint import JinaBertConfig

from ...conftest import random_model


def bert_state(
    generator: torch.Generator, *, vocabulary: int = 90, h: int = 24, f: int = 40, layers: int = 3
) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}

    def put(name: str, *shape: int, spread: float = 0.3, centre: float = 0.0) -> None:
        state[name] = centre + spread * torch.randn(*shape, generator=generator)

    def affine(name: str, out: int, inner: int) -> None:
        put(f"{name}.weight", out, inner)
        put(f"{name}.bias", out)

    def norm(name: str) -> None:
        put(f"{name}.weight", h, spread=0.1, centre=1.0)
        put(f"{name}.bias", h, spread=0.1, centre=0.05)

    put("bert.embeddings.word_embeddings.weight", vocabulary, h)
    put("bert.embeddings.token_type_embeddings.weight", 2, h)
    state["bert.embeddings.position_embeddings.weight"] = torch.zeros(512, h)
    norm("bert.embeddings.LayerNorm")
    for i in range(layers):
        layer = f"bert.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            affine(f"{layer}.attention.self.{name}", h, h)
        affine(f"{layer}.attention.output.dense", h, h)
        norm(f"{layer}.attention.output.LayerNorm")
        affine(f"{layer}.intermediate.dense", f, h)
        affine(f"{layer}.output.dense", h, f)
        norm(f"{layer}.output.LayerNorm")
    affine("bert.pooler.dense", h, h)
    affine("classifier", 1, h)
    return state


def transformers_logit(state: dict[str, torch.Tensor], ids: list[int], segments: list[int]) -> float:
    from transformers import BertConfig, BertForSequenceClassification

    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=90,
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=40,
            num_labels=1,
        )
    ).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("position_ids" in name for name in missing)
    with torch.inference_mode():
        return float(model(torch.tensor([ids]), token_type_ids=torch.tensor([segments])).logits)


def test_a_bert_becomes_a_jinabert_exactly_but_for_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no position embeddings and flat slopes nothing is left to differ: biases become part of the gate."""
    state = bert_state(torch.Generator().manual_seed(1))
    ids = [2, 17, 30, 3, 44, 51, 17, 3]
    expected = transformers_logit(state, ids, [0, 0, 0, 0, 1, 1, 1, 1])
    monkeypatch.setattr(jina_bert, "alibi_slopes", lambda heads: [0.0] * heads)
    model = from_bert(state, range(90), layers=range(3), neurons=40, heads=4, separator=3, sample=[ids])
    with torch.inference_mode():
        assert float(model(torch.tensor([ids]), torch.tensor([8]))) == pytest.approx(expected, abs=1e-4)


def test_a_student_keeps_the_chosen_layers_neurons_and_tokens() -> None:
    state = bert_state(torch.Generator().manual_seed(1))
    rows = [2, 3, 17, 30, 44]
    model = from_bert(state, rows, layers=[0, 2], neurons=16, heads=4, separator=1, sample=[[0, 2, 1, 3, 1]])
    assert model.config == JinaBertConfig(
        vocab_size=5,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=16,
        segment_separator_id=1,
    )
    words = model.state_dict()["bert.embeddings.word_embeddings.weight"]
    assert torch.equal(words[2], state["bert.embeddings.word_embeddings.weight"][17])
    kept = model.state_dict()["bert.encoder.layer.1.mlp.wo.weight"]
    columns = state["bert.encoder.layer.2.output.dense.weight"]
    assert all(any(torch.equal(column, other) for other in columns.T) for column in kept.T)


def test_an_int8_onnx_bert_gives_its_weights_back(tmp_path: Path) -> None:
    """The form that dynamic quantisation leaves: named vectors, transposed int8 matrices known by their node."""
    weight = np.random.default_rng(0).integers(-127, 127, (24, 40)).astype(np.int8)
    initializers = [
        numpy_helper.from_array(weight, "onnx::MatMul_1_quantized"),
        numpy_helper.from_array(np.array(0.02, np.float32), "onnx::MatMul_1_scale"),
        numpy_helper.from_array(np.array(3, np.int8), "onnx::MatMul_1_zero_point"),
        numpy_helper.from_array(
            np.zeros((9, 24), np.uint8) + 130, "bert.embeddings.word_embeddings.weight_quantized"
        ),
        numpy_helper.from_array(np.array(0.1, np.float32), "bert.embeddings.word_embeddings.weight_scale"),
        numpy_helper.from_array(np.array(128, np.uint8), "bert.embeddings.word_embeddings.weight_zero_point"),
        numpy_helper.from_array(np.ones(40, np.float32), "bert.encoder.layer.0.intermediate.dense.bias"),
    ]
    nodes = [
        helper.make_node(
            "Gather",
            ["bert.embeddings.word_embeddings.weight_quantized", "input_ids"],
            ["x"],
            "/bert/embeddings/word_embeddings/Gather",
        ),
        helper.make_node(
            "MatMulInteger",
            ["x", "onnx::MatMul_1_quantized"],
            ["y"],
            "/bert/encoder/layer.0/intermediate/dense/MatMul_quant",
        ),
    ]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["s"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT32, ["s", 40])]
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "q", inputs, outputs, initializers)),
        tmp_path / "model.onnx",
    )
    state = read_bert(tmp_path)
    assert state["bert.encoder.layer.0.intermediate.dense.weight"].numpy() == pytest.approx(
        (weight.T.astype(np.float32) - 3) * 0.02
    )
    assert state["bert.embeddings.word_embeddings.weight"].numpy() == pytest.approx(0.2)
    with pytest.raises(ValueError, match="holds neither"):
        read_bert(tmp_path / "none")


def test_turbo_is_layers_of_base() -> None:
    base = random_model()
    turbo = from_layers(base, [0, 2])
    assert turbo.config.num_hidden_layers == 2
    old, new = base.state_dict(), turbo.state_dict()
    assert torch.equal(new["bert.encoder.layer.1.mlp.wo.weight"], old["bert.encoder.layer.2.mlp.wo.weight"])
    with pytest.raises(DistillationError, match="Layer 3 does not exist: the donor has layers 0 to 2"):
        from_layers(base, [0, 3])


def test_a_pruned_vocabulary_still_cuts_every_word() -> None:
    full = train_wordpiece(["glacier ice valley glaciers iceland river"] * 10, size=120)
    counts = {"glacier": 9.0, "ice": 5.0}
    raw, rows = pruned_wordpiece(full.to_str(), counts, 40)
    small = Tokenizer.from_str(raw)
    assert small.get_vocab_size() == len(rows) == 40
    for token, index in small.get_vocab().items():
        assert full.token_to_id(token) == rows[index]
    encoded = small.encode("glacier", "ice valley river")
    assert "[UNK]" not in encoded.tokens
    assert encoded.tokens[:3] == ["[CLS]", "glacier", "[SEP]"]
    assert encoded.ids[0] == small.token_to_id("[CLS]"), "the template follows the new ids"
