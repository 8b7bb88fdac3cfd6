"""JinaBERT in transformers and sentence-transformers: our scores there, trained and judged there, and back again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSequenceClassification

import sagerank.hf
from sagerank.models.build import MICRO, archive, build, resolve
from sagerank.models.extras import install
from sagerank_inference.checkpoint import CheckpointError
from sagerank_inference.engine import Engine
from sagerank_inference.jina_bert import Layer
from sagerank_inference.settings import Settings

from ..conftest import run_python
from .conftest import DOCUMENTS, QUERY

PAIRS = [(QUERY, document) for document in DOCUMENTS]
LOGIT = torch.nn.Identity()


@pytest.fixture(scope="module")
def model() -> CrossEncoder:
    return sagerank.hf.cross_encoder("micro", device="cpu")


def engine_scores(folder: Path) -> Any:
    engine = Engine.load(folder, Settings(model_dir=folder))
    return pytest.approx(engine.score(QUERY, DOCUMENTS).values, abs=1e-5)


def test_scores_are_the_engines_whatever_is_padded(model: CrossEncoder, second: Path) -> None:
    assert model.predict(PAIRS, activation_fn=LOGIT).tolist() == engine_scores(MICRO)
    # 12 heads, no segments, and an artefact in one file.
    other = sagerank.hf.cross_encoder(str(second), device="cpu")
    assert other.predict(PAIRS, activation_fn=LOGIT, batch_size=3).tolist() == engine_scores(second)


def test_the_cross_encoder_is_set_up_for_reranking(model: CrossEncoder) -> None:
    assert (model.max_seq_length, model.num_labels) == (8192, 1)
    best = model.rank(QUERY, DOCUMENTS)[0]
    assert best["corpus_id"] in (0, 2, 6)
    assert 0 < best["score"] < 1
    tokens = model.tokenizer(QUERY, "ice").tokens()
    assert (tokens[0], tokens.count("[SEP]"), tokens[-1]) == ("[CLS]", 2, "[SEP]")


def test_a_tokenizer_with_other_names_gets_no_new_tokens(small_folder: Path, tmp_path: Path) -> None:
    words = ["<s>", "<pad>", "</s>", "<unk>", "ice", "valley"]
    own = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    own.pre_tokenizer = Whitespace()
    own.post_processor = TemplateProcessing(
        pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    own.save(str(tmp_path / "tokenizer.json"))
    shutil.copyfile(small_folder / "config.json", tmp_path / "config.json")
    made = sagerank.hf.tokenizer(str(tmp_path))
    assert len(made) == len(words)
    pairs = made(["ice", "ice"], ["valley", "valley valley"], padding=True)
    assert pairs["input_ids"] == [[0, 4, 2, 2, 5, 2, 1], [0, 4, 2, 2, 5, 5, 2]]
    assert pairs["attention_mask"] == [[1, 1, 1, 1, 1, 1, 0], [1] * 7]


def test_what_is_saved_is_built_and_loaded_again(second: Path, tmp_path: Path) -> None:
    archive(str(second), tmp_path / "model.tar.gz")
    model = sagerank.hf.cross_encoder(str(tmp_path / "model.tar.gz"), device="cpu")
    model.save_pretrained(str(tmp_path / "saved"))
    (tmp_path / "built").mkdir()
    build(str(tmp_path / "saved"), tmp_path / "built")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "built" / name).read_bytes() == (second / name).read_bytes(), name
    scores = engine_scores(second)
    assert engine_scores(tmp_path / "built").expected == scores
    for again in (
        CrossEncoder(str(tmp_path / "saved"), device="cpu"),
        sagerank.hf.cross_encoder(str(tmp_path / "saved"), device="cpu"),
    ):
        assert again.predict(PAIRS, activation_fn=LOGIT).tolist() == scores
    automatic = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    inputs = sagerank.hf.tokenizer(str(tmp_path / "saved"))(
        *map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt"
    )
    assert automatic(**inputs).logits[:, 0].tolist() == scores


def test_sentence_transformers_trains_it(small_folder: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments

    model = sagerank.hf.cross_encoder(str(small_folder), device="cpu")
    labels = [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    rows = {"query": [QUERY] * len(DOCUMENTS), "document": DOCUMENTS, "label": labels}
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(tmp_path), max_steps=10, per_device_train_batch_size=7, learning_rate=3e-3, logging_steps=1,
        save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = CrossEncoderTrainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows))
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < 0.5 * losses[0]


def test_sentence_transformers_judges_it(model: CrossEncoder) -> None:
    samples = [{"query": QUERY, "positive": [DOCUMENTS[0]], "negative": [DOCUMENTS[1], DOCUMENTS[5]]}]
    judge = CrossEncoderRerankingEvaluator(samples, at_k=3, show_progress_bar=False, write_csv=False)
    assert judge(model)["mrr@3"] == 1.0


def test_checkpointing_computes_layers_again_to_the_same_gradients(
    small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed, forward = [], Layer.forward

    def counted(*given: Any) -> Any:
        computed.append(1)
        return forward(*given)

    monkeypatch.setattr(Layer, "forward", counted)
    ids, gradients, counts = torch.tensor([[2, 12, 3, 20, 3], [2, 12, 3, 30, 0]]), [], []
    for checkpointing in (False, True):
        model = sagerank.hf.load(str(small_folder)).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        output = model(ids, attention_mask=(ids > 0).int(), labels=torch.tensor([1, 0]))
        output.loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        counts.append(len(computed))
        computed.clear()
    assert counts == [3, 6]
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)
    # transformers' own loss for one output.
    torch.testing.assert_close(output.loss, ((output.logits[:, 0] - torch.tensor([1.0, 0.0])) ** 2).mean())


def test_what_would_score_wrongly_is_refused(model: CrossEncoder, second: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="padding_side to 'right'"):
        model.model(torch.tensor([[0, 2, 3]]), attention_mask=torch.tensor([[0, 1, 1]]))
    with pytest.raises(CheckpointError, match="num_labels is 3"):
        sagerank.hf.cross_encoder("micro", num_labels=3)
    with pytest.raises(CheckpointError, match="is a cascade"):
        sagerank.hf.load(str(resolve(f"micro>{second}@2", cache=tmp_path / "cache")))
    with pytest.raises(CheckpointError, match="There is no model 'mikro'"):
        sagerank.hf.load("mikro")
    broken = tmp_path / "broken"
    shutil.copytree(second, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["odd"] = tensors.pop("bert.pooler.dense.bias")
    save_file(tensors, broken / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing bert\.pooler\.dense\.bias; unexpected bert\.odd"):
        sagerank.hf.load(str(broken))


def test_precision_and_dropout_are_had_on_request(model: CrossEncoder) -> None:
    assert model.model.dtype is torch.float32
    assert sagerank.hf.load("micro", dtype="bfloat16").dtype is torch.bfloat16
    half = sagerank.hf.cross_encoder("micro", device="cpu", model_kwargs={"dtype": torch.float16})
    assert half.model.dtype is torch.float16
    assert half.predict(PAIRS, activation_fn=LOGIT).tolist() == pytest.approx(
        model.predict(PAIRS, activation_fn=LOGIT).tolist(), abs=0.02
    )
    other = sagerank.hf.cross_encoder("micro", device="cpu", config_kwargs={"classifier_dropout": 0.25})
    assert other.model.dropout.p == 0.25
    # As a trainer with bf16=True runs it.
    with torch.autocast("cpu", torch.bfloat16):
        rounded = other.predict(PAIRS, activation_fn=LOGIT)
    assert rounded.tolist() == pytest.approx(model.predict(PAIRS, activation_fn=LOGIT).tolist(), abs=0.2)


def test_a_missing_extra_is_one_sentence() -> None:
    done = run_python("import sys; sys.modules['torch'] = None; import sagerank.hf")
    last = done.stderr.strip().splitlines()[-1]
    assert (
        last == f"ImportError: sagerank.hf needs PyTorch and transformers (torch is missing): {install('hf')}"
    )
