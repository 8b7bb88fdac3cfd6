"""Tokenizers of the kinds that are published for this architecture, variants of them, and texts to try them on."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from sagerank.models.build import MICRO
from sagerank_inference.spans import Span
from sagerank_inference.steps import finish
from sagerank_inference.tokenise import Tokeniser
from sagerank_inference.windows import Windows


@pytest.fixture(scope="session")
def tokeniser() -> Tokeniser:
    """Micro's, with a context small enough to overflow."""
    return Tokeniser.load(MICRO, query_tokens=8, max_tokens=40, overlap_tokens=6)


@pytest.fixture(scope="session")
def roomy() -> Tokeniser:
    return Tokeniser.load(MICRO)


def published_style(folder: Path) -> Path:
    """tokenizer.json with the pipeline of tiny and turbo: lower-casing, whitespace, character BPE,
    RobertaProcessing.

    The class named in tokenizer_config.json makes AutoTokenizer (transformers 5.6 and later) rebuild a
    byte-level pipeline from the vocabulary, which drops the upper-case letters and cuts the words: "What is
    Panda?" becomes h, a, t, is, a, nda, ?.
    """
    characters = "abcdefghijklmnopqrstuvwxyz?.,"
    words = ["what", "is", "panda"]
    vocabulary: dict[str, int] = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    merges: list[tuple[str, str]] = []
    for piece in characters:
        vocabulary[piece] = len(vocabulary)
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.enable_truncation(5)  # what is set in the file must not cut a document
    tokenizer.enable_padding(length=64, pad_id=1, pad_token="<pad>")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512, "add_prefix_space": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "pad_token_id": 0}))
    return folder


PARTS = {
    "words": [" ", " ", "a", "the", "Rain", "!", "'s", "é", ", "],
    "everything": [
        *"ab12_-'!?.,= \n\t\x00\x1c\x85Σςİé漢字한ा😀¨ﷺﬁ½²·\u00a0\u2003\u200b\u0301\u0338\u2028\ufffd\u0f73\u1100\u1161\ufeff\u00ad",
        *(
            "the",
            "Rain",
            "かな",
            "क्",
            "\u1e9b\u0323",
            "👨\u200d👩",
            "'s",
            "'ll",
            "...",
            "  ",
            "   ",
            "\r\n",
            "a_b",
        ),
        *("[SEP]", "</s>", "<mask>", " <mask> ", "[sep]"),
    ],
}


def texts(seed: int, count: int) -> Iterator[str]:
    chance = random.Random(seed)
    for _ in range(count):
        parts = PARTS[chance.choice(["words", "everything"])]
        yield "".join(chance.choice(parts) for _ in range(chance.randrange(1, 40)))


def byte_level(normalizer: normalizers.Normalizer | None = None, *, prefix: bool = False) -> Tokenizer:
    """A pipeline as RoBERTa's, GPT-2's expression over bytes, with its special tokens as its tokenizer.json has them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    if normalizer:
        tokenizer.normalizer = normalizer
    mask = AddedToken("<mask>", lstrip=True, normalized=True, special=True)
    return trained(tokenizer, ["<s>", "<pad>", "</s>", "<unk>", mask])


def trained(tokenizer: Tokenizer, special: list[str | AddedToken]) -> Tokenizer:
    """With merges of whatever stands together in the texts below, where a wrong cut would be seen."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts(1, 1000), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


PIPELINES = [
    "bert",
    "bert with case",
    "bytes",
    "bytes, NFC",
    "bytes, prefix",
    "bytes, lower case",
    "words",
    "published",
]


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """The kinds that are published for this architecture, and variants of them."""
    bert = [Tokenizer.from_file(str(MICRO / "tokenizer.json")) for _ in range(2)]
    bert[1].normalizer = normalizers.BertNormalizer(
        lowercase=False, strip_accents=True, handle_chinese_chars=False
    )
    lower = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    published = published_style(tmp_path_factory.mktemp("published")) / "tokenizer.json"
    bytes_ = [byte_level(), byte_level(normalizers.NFC()), byte_level(prefix=True), byte_level(lower)]
    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.normalizer, words.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    trained(words, ["<s>", "<pad>", "</s>", "<unk>"])
    return dict(zip(PIPELINES, [*bert, *bytes_, words, Tokenizer.from_file(str(published))], strict=True))


def own(tokenizer: Tokenizer) -> Tokeniser:
    return Tokeniser(
        Tokenizer.from_str(tokenizer.to_str()), query_tokens=8, max_tokens=10_000, overlap_tokens=0
    )


def packed(*windows: list[int]) -> list[array[int]]:
    return [array("i", ids) for ids in windows]


def document_ids(tokeniser: Tokeniser, text: str) -> list[int]:
    """The tokens of a document that fits, without the query and what frames it."""
    frame, ids = (list(tokeniser("a", [document]).ids[0]) for document in ("", text))
    end = len(tokeniser._frame.after)
    return ids[len(frame) - end : len(ids) - end]


def spans_of(tokeniser: Tokeniser, windows: Windows, documents: Sequence[str]) -> list[Span]:
    """The characters of every window."""
    texts = [documents[document] for document in windows.document]
    return [
        (0, len(text)) if place is None else finish(tokeniser.characters(text, place))
        for text, place in zip(texts, windows.place, strict=True)
    ]
