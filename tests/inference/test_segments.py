"""Which tokens are of segment 1: as the tokenizer of the original code says it, in every implementation."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import AutoTokenizer

import sagerank.hf
from sagerank.models.build import MICRO, build
from sagerank_inference import jina_bert, segments
from sagerank_inference.checkpoint import CheckpointError, JinaBertConfig
from sagerank_inference.engine import Engine
from sagerank_inference.onnx_model import OnnxModel
from sagerank_inference.segments import read_config
from sagerank_inference.settings import Settings
from sagerank_inference.torch_model import TorchModel

from ..conftest import SMALL, random_model
from .test_jina_bert import naive_logit

CLS, SEP = 101, 102  # of micro's tokenizer
SPECIAL = {
    name: {"id": name, "ids": [id_], "tokens": [name]} for name, id_ in (("[CLS]", CLS), ("[SEP]", SEP))
}


def template(*pair: tuple[str, int]) -> dict[str, Any]:
    """Of pieces and their segments; A and B are the texts."""

    def piece(name: str, segment: int) -> dict[str, Any]:
        return {"Sequence" if name in "AB" else "SpecialToken": {"id": name, "type_id": segment}}

    pieces = [piece(*part) for part in pair]
    return {"type": "TemplateProcessing", "single": pieces[:3], "pair": pieces, "special_tokens": SPECIAL}


BERT = template(("[CLS]", 0), ("A", 0), ("[SEP]", 0), ("B", 1), ("[SEP]", 1))
FLAT = template(("[CLS]", 0), ("A", 0), ("[SEP]", 0), ("B", 0), ("[SEP]", 0))
# The last separator has 0 where a template is written as a string, and MPNet has two between the texts.
ENDS_IN_0 = template(("[CLS]", 0), ("A", 0), ("[SEP]", 0), ("B", 1), ("[SEP]", 0))
TWICE = template(("[CLS]", 0), ("A", 0), ("[SEP]", 0), ("[SEP]", 0), ("B", 1), ("[SEP]", 1))
BARE = template(("[CLS]", 0), ("A", 0), ("B", 1), ("[SEP]", 1))
OLD_BERT = {"type": "BertProcessing", "sep": ["[SEP]", SEP], "cls": ["[CLS]", CLS]}
ROBERTA = {**OLD_BERT, "type": "RobertaProcessing", "trim_offsets": True, "add_prefix_space": False}


def published_style(
    folder: Path, post_processor: dict[str, Any], named: dict[str, Any] | None = None, **config: Any
) -> Path:
    """A model folder whose config.json names no segments. named: what tokenizer_config.json holds; None: there is none."""
    folder.mkdir(exist_ok=True)
    raw = {**SMALL.to_json(), "architectures": ["JinaBertModel"]}
    del raw["segment_separator_id"]
    (folder / "config.json").write_text(json.dumps({**raw, **config}))
    tokenizer = json.loads((MICRO / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["post_processor"] = post_processor
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    if named is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(named))
    return folder


def of(kind: str | None, *inputs: str) -> dict[str, Any]:
    return {"tokenizer_class": kind, **({"model_input_names": list(inputs)} if inputs else {})}


@pytest.mark.parametrize(
    ("post_processor", "named", "separator"),
    [
        (BERT, of("BertTokenizer"), SEP),
        (OLD_BERT, of("BertTokenizerFast"), SEP),
        (BERT, of("PreTrainedTokenizerFast"), SEP),
        (BERT, None, SEP),
        (BERT, of(None), SEP),
        ({"type": "Sequence", "processors": [BERT]}, None, SEP),
        (ROBERTA, of("RobertaTokenizer"), None),
        (BERT, of("RobertaTokenizerFast"), None),
        (ROBERTA, None, None),
        (FLAT, of("SomeTokenizer"), None),
        (BERT, of("BertTokenizer", "input_ids", "attention_mask"), None),
        (BERT, of("RobertaTokenizer", "input_ids", "token_type_ids"), SEP),
    ],
)
def test_segments_are_those_that_the_tokenizer_gives(
    post_processor: dict[str, Any], named: dict[str, Any] | None, separator: int | None, tmp_path: Path
) -> None:
    assert read_config(published_style(tmp_path, post_processor, named)).segment_separator_id == separator


@pytest.mark.parametrize(
    ("post_processor", "named", "sentence"),
    [
        (ROBERTA, of("BertTokenizer"), "gives the document segment 1, and the post_processor .* segment 0"),
        (BERT, of("MPNetTokenizer"), "whether tokenizer_class MPNetTokenizer hands it to the model"),
        (ENDS_IN_0, None, r"the segments \[0, 0, 0, 1, 0\]"),
        (TWICE, None, r"the segments \[0, 0, 0, 0, 1, 1\]"),
        (BARE, None, r"the segments \[0, 0, 1, 1\]"),
    ],
)
def test_what_does_not_tell_is_refused_and_a_field_decides(
    post_processor: dict[str, Any], named: dict[str, Any] | None, sentence: str, tmp_path: Path
) -> None:
    folder = published_style(tmp_path, post_processor, named)
    with pytest.raises(CheckpointError, match=f'{sentence}.*add "segment_separator_id" to config.json'):
        read_config(folder)
    for separator in (SEP, None):
        published_style(tmp_path, post_processor, named, segment_separator_id=separator)
        assert read_config(folder).segment_separator_id == separator


def test_what_ours_wrote_before_and_one_segment_need_no_tokenizer(tmp_path: Path) -> None:
    folder = published_style(tmp_path, BERT, type_vocab_size=1)
    assert read_config(folder).segment_separator_id is None
    published_style(folder, BERT, model_type="sagerank_jina_bert")
    assert read_config(folder).segment_separator_id is None
    published_style(folder, BERT)
    (folder / "manifest.json").write_text("{}")
    assert read_config(folder).segment_separator_id is None
    (folder / "manifest.json").unlink()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="holds no tokenizer.json, which tells a pair's segments"):
        read_config(folder)


def test_the_published_tokenizer_is_known_without_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = published_style(tmp_path, BERT)
    found = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    monkeypatch.setattr(segments, "PUBLISHED", found)
    assert read_config(folder).segment_separator_id is None
    published_style(folder, BERT, of("BertTokenizer"))
    assert read_config(folder).segment_separator_id == SEP


def test_a_model_without_segments_says_so_and_keeps_it(tmp_path: Path) -> None:
    jina_bert.save(random_model(), tmp_path, torch.float32)
    assert json.loads((tmp_path / "config.json").read_text())["segment_separator_id"] is None
    shutil.copyfile(MICRO / "tokenizer.json", tmp_path / "tokenizer.json")
    assert read_config(tmp_path) == SMALL


QUERY, DOCUMENTS = (
    "why is mars red",
    ["Mars is red: its dust holds iron oxide.", "bread", "Venus is hot. " * 40],
)


@pytest.mark.parametrize(
    ("kind", "post_processor", "segment"), [("BertTokenizer", BERT, 1), ("RobertaTokenizer", ROBERTA, 0)]
)
def test_every_implementation_scores_as_the_original_codes_tokenizer_has_it(
    kind: str, post_processor: dict[str, Any], segment: int, tmp_path: Path
) -> None:
    model = random_model()
    source = tmp_path / "source"
    jina_bert.save(model, source, torch.float32)
    published_style(source, post_processor, of(kind))
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    original, expected, other = AutoTokenizer.from_pretrained(source), [], []
    pairs = [[CLS, *_words(QUERY), *[SEP] * (2 - segment), *_words(text), SEP] for text in DOCUMENTS]
    for text, ids in zip(DOCUMENTS, pairs, strict=True):
        # What it calls the segments; none is 0 to the model. Its ids are RoBERTa's own bytes in newer versions.
        given = original(QUERY, text)
        types = given.get("token_type_ids", [0] * len(ids))
        assert types == [0] * (len(ids) - len(_words(text)) - 1) + [segment] * (len(_words(text)) + 1)
        expected.append(naive_logit(weights, SMALL, torch.tensor(ids), torch.tensor(types)))
        other.append(naive_logit(weights, SMALL, torch.tensor(ids), torch.tensor(types) * 0 + 1 - segment))
    assert max(abs(a - b) for a, b in zip(expected, other, strict=True)) > 0.1, "segments matter here"
    built = tmp_path / "built"
    built.mkdir()
    build(str(source), built)
    assert JinaBertConfig.read(built).segment_separator_id == (SEP if segment else None)
    right = pytest.approx(expected, abs=2e-5)
    assert Engine.load(built, Settings(model_dir=built)).score(QUERY, DOCUMENTS).values == right
    assert OnnxModel(built, threads=1)(pairs) == right
    for folder in (source, built):
        assert TorchModel(folder, device="cpu", threads=1)(pairs) == right
        made = sagerank.hf.cross_encoder(str(folder), device="cpu")
        assert _logits(made) == right
    made.save_pretrained(str(tmp_path / "saved"))
    assert _logits(CrossEncoder(str(tmp_path / "saved"), device="cpu")) == right


def _words(text: str) -> list[int]:
    from tokenizers import Tokenizer

    known = Tokenizer.from_file(str(MICRO / "tokenizer.json"))
    ids: list[int] = known.encode(text, add_special_tokens=False).ids
    return ids


def _logits(model: CrossEncoder) -> list[float]:
    pairs = [(QUERY, document) for document in DOCUMENTS]
    logits: list[float] = model.predict(pairs, activation_fn=torch.nn.Identity()).tolist()
    return logits
