from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from sagerank.models.build import MICRO
from sagerank_inference import tokenise
from sagerank_inference.checkpoint import CheckpointError
from sagerank_inference.contract import TokenLimitExceeded, Truncation
from sagerank_inference.tokenise import Tokeniser, Windows

from ..conftest import run_python


@pytest.fixture(scope="module")
def tokeniser() -> Tokeniser:
    """Micro's, with a context small enough to overflow."""
    return Tokeniser.load(MICRO, query_tokens=8, max_tokens=40, overlap_tokens=6)


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


def test_the_published_pipeline_is_read_as_it_is_written(tmp_path: Path) -> None:
    tokeniser = Tokeniser.load(published_style(tmp_path))
    vocabulary = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab()
    what, is_, panda, mark = (vocabulary[token] for token in ("what", "is", "panda", "?"))
    assert ids(tokeniser("What is Panda?", ["PANDA"])) == [[0, what, is_, panda, mark, 2, 2, panda, 2]]


def test_pair_template_is_the_files_own(tokeniser: Tokeniser) -> None:
    plain = Tokenizer.from_file(str(MICRO / "tokenizer.json"))
    assert ids(tokeniser("red planet", ["mars is red"])) == [plain.encode("red planet", "mars is red").ids]


def test_a_document_as_long_as_the_room_is_one_window(tokeniser: Tokeniser) -> None:
    assert [len(window) for window in tokeniser("a", ["a " * 36]).ids] == [40]
    assert [len(window) for window in tokeniser("a", ["a " * 37]).ids] == [40, 40]


@given(st.integers(0, 300), st.integers(1, 30))
def test_windows_cover_every_token_and_the_last_is_full(
    tokeniser: Tokeniser, length: int, query: int
) -> None:
    words = [f"{number}" for number in range(length)]
    windows = tokeniser("a " * query, [" ".join(words)])
    head = min(query, 8)
    pieces = [window[head + 2 : -1] for window in ids(windows)]
    whole = ids(tokeniser.__class__.load(MICRO)("a", [" ".join(words)]))[0][3:-1]
    room = 40 - 3 - head
    assert all(len(window) <= 40 for window in windows.ids)
    assert pieces[0] == whole[:room]
    if len(whole) > room:
        assert pieces[-1] == whole[-room:]
    covered: list[int] = []
    for piece in pieces:
        overlap = next(
            size for size in range(len(piece), -1, -1) if covered[len(covered) - size :] == piece[:size]
        )
        assert not covered or overlap >= min(6, room // 4)
        covered += piece[overlap:]
    assert covered == whole


def test_the_query_keeps_its_first_tokens(tokeniser: Tokeniser) -> None:
    long, cut = tokeniser("a b c d e f g h i j", ["x"]), tokeniser("a b c d e f g h", ["x"])
    assert long.ids == cut.ids
    assert (
        tokeniser("a b c d e f g h i j", ["x"], Truncation(left=True)).ids
        == tokeniser("c d e f g h i j", ["x"]).ids
    )


def test_truncate_false_refuses_and_says_how_long(tokeniser: Tokeniser) -> None:
    with pytest.raises(TokenLimitExceeded, match="query has 10 tokens, more than 8"):
        tokeniser("a b c d e f g h i j", ["x"], Truncation(allowed=False))
    with pytest.raises(TokenLimitExceeded, match=r"documents\[1\] has 50 tokens, and 36 fit"):
        tokeniser("a", ["x", "y " * 50], Truncation(allowed=False))


def test_max_document_tokens_clips_either_end(tokeniser: Tokeniser) -> None:
    first = tokeniser("q", ["a b c d"], Truncation(max_document_tokens=2)).ids
    last = tokeniser("q", ["a b c d"], Truncation(max_document_tokens=2, left=True)).ids
    assert first == tokeniser("q", ["a b"]).ids
    assert last == tokeniser("q", ["c d"]).ids


def test_counts_are_as_the_dialects_bill_them(tokeniser: Tokeniser) -> None:
    windows = tokeniser("where is the dog", ["the red dog", "", "x " * 100])
    assert (windows.query_tokens, windows.document_tokens) == (6, [5, 2, 40])


def test_scatter_takes_the_maximum_over_windows(tokeniser: Tokeniser) -> None:
    windows = tokeniser("q", ["x", "y " * 60, ""])
    assert windows.document == [0, 1, 1, 2]
    assert windows.scatter([1.0, -5.0, -2.0, 0.5]) == [1.0, -2.0, 0.5]


def test_wrong_files_and_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        Tokeniser.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a tokenizer"):
        Tokeniser.load(tmp_path)
    bare = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    bare.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="post_processor"):
        Tokeniser.load(tmp_path)
    with pytest.raises(CheckpointError, match="leaves no room"):
        Tokeniser.load(MICRO, query_tokens=512, max_tokens=512)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.parametrize(("variable", "threads"), [("", 3), ("5", 5)])
def test_the_librarys_threads_are_as_many_as_the_models_unless_the_user_says(
    variable: str, threads: int
) -> None:
    code = f"""
import os
from pathlib import Path
from sagerank_inference.tokenise import Tokeniser
before = dict(os.environ)
tokeniser = Tokeniser.load(Path({str(MICRO)!r}), threads=3)
tokeniser("q", ["a"] * 500)
assert dict(os.environ) == before
print(len(os.listdir("/proc/self/task")) - 1)
"""
    environment = {name: text for name, text in os.environ.items() if name != "RAYON_NUM_THREADS"}
    done = run_python(code, env={**environment, **({"RAYON_NUM_THREADS": variable} if variable else {})})
    assert done.stdout.strip() == str(threads), done.stderr


def test_long_lists_are_tokenised_in_slices_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices only bound what is held at once: the windows are the same, whatever their size."""
    tokeniser = Tokeniser.load(MICRO)
    documents = ["rain " * 5, "", "clouds " * 40, "a", "b", "snow " * 30]
    whole = tokeniser("what causes rain", documents)
    for size in (1, 7, 160, 300):
        monkeypatch.setattr(tokenise, "_SLICE", size)
        assert tokeniser("what causes rain", documents) == whole
        slices = list(tokenise._slices(documents, 100))
        assert [number for pieces in slices for number, _, last in pieces if last] == list(range(6))
        assert all(len(one) == 1 or sum(len(text) for _, text, _ in one) <= size for one in slices)


WORDS = [
    "the",
    "it's",
    "dog",
    "É",
    "café",
    "e\u0301",
    "\u0301",
    "Σ",
    "ΟΔΟΣ",
    "12",
    "3.5",
    "ﬁ",
    "雪",
    "中文",
    "한글",
]
WORDS += ["[SEP]", "[sep]", "</s>", " <mask>", "!", "!!!", "...", "'s", "-", "_", "(", ")", "。", "、"]
WORDS += [" ", "  ", "\n", "\r\n", "\t", "\x00", "\x1c", "\x85", "\u2028", "\u200b", "🐈", "👩\u200d🚀"]


@pytest.mark.parametrize("kind", ["bert", "roberta", "published", "micro"])
def test_a_text_in_pieces_has_the_ids_that_it_has_whole(kind: str, tmp_path: Path) -> None:
    whole = tokenizers(tmp_path)[kind]
    whole.no_truncation()
    whole.no_padding()
    copy = Tokenizer.from_str(whole.to_str())
    tokeniser = Tokeniser(copy, query_tokens=8, max_tokens=8192, overlap_tokens=0, piece=24)
    whole.encode_special_tokens = True
    dice, cut = random.Random(15), 0
    for _ in range(3_000):
        text = "".join(dice.choice(WORDS) for _ in range(dice.randrange(3, 30)))
        pieces = [piece for one in tokenise._slices([text], 24) for _, piece, _ in one]
        assert "".join(pieces) == text
        ends = [len("".join(pieces[:count])) for count in range(1, len(pieces))]
        soft = {
            match.start() for one in (tokenise._SPACE, tokenise._PUNCTUATION) for match in one.finditer(text)
        }
        if soft.issuperset(ends):  # else somewhere there was no other way
            cut += len(ends)
            (window,) = ids(tokeniser("a", [text]))
            assert window[-1 - len(whole.encode(text, add_special_tokens=False).ids) : -1] == (
                whole.encode(text, add_special_tokens=False).ids
            ), text
    assert cut > 1_000


def test_a_text_without_any_place_to_cut_is_cut_all_the_same(tmp_path: Path) -> None:
    tokeniser = Tokeniser(
        tokenizers(tmp_path)["bert"], query_tokens=8, max_tokens=8192, overlap_tokens=0, piece=24
    )
    assert ids(tokeniser("a", ["!" * 100])) == ids(tokeniser("a", ["! " * 100]))
    pieces = [
        piece for one in tokenise._slices(["e" + "\u0301" * 3 + "e\u0301" * 40], 24) for _, piece, _ in one
    ]
    assert all(piece[0] == "e" for piece in pieces), "an accent stays with its letter"


@pytest.mark.parametrize("kind", ["bert", "roberta", "published", "micro", "words"])
def test_no_text_yields_a_special_token(kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizers(tmp_path)[kind]
    added = tokenizer.get_added_tokens_decoder()
    special = {id for id, token in added.items() if token.special} - {
        tokenizer.token_to_id("[UNK]"),
        tokenizer.token_to_id("<unk>"),
    }
    spelt = [token.content for token in added.values()]
    assert spelt
    texts = [
        text for token in spelt for text in (token, f" {token} ", f"a{token}b", token.lower(), token * 3)
    ]
    tokeniser = Tokeniser(tokenizer, query_tokens=64, max_tokens=512, overlap_tokens=0)
    for text in texts:
        plain, forged = ids(tokeniser("a", ["b"]))[0], ids(tokeniser(f"a {text}", [f"b {text}"]))[0]
        assert [id for id in forged if id in special] == [id for id in plain if id in special], text


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM in /proc")
@pytest.mark.parametrize("text", ["'!' * 1_500_000", "'a ' * 750_000", "'가' * 500_000"])
def test_a_long_text_takes_little_more_memory_than_its_ids(text: str) -> None:
    """Encoded whole, each took some 500 bytes a character."""
    code = f"""
from pathlib import Path
from sagerank_inference.tokenise import Tokeniser
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000
tokeniser = Tokeniser.load(Path({str(MICRO)!r}), threads=2)
tokeniser("q", ["a"] * 500)
before, text = peak(), {text}
tokeniser("q", [text])
print(peak() - before)
"""
    done = run_python(code)
    assert float(done.stdout) < 80, done.stderr


def ids(windows: Windows) -> list[list[int]]:
    return [list(window) for window in windows.ids]


def tokenizers(folder: Path) -> dict[str, Tokenizer]:
    """Pipelines as the field has them, over vocabularies of our own."""
    texts = [
        "the quick brown fox. it's a [test], isn't it? 12 3.5 É café 雪 中文。한글",
        "Hello!!! ... ΟΔΟΣ straße ﬁ",
    ]
    bert = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    bert.normalizer, bert.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    bert.train_from_iterator(texts * 9, trainers.WordPieceTrainer(vocab_size=300, special_tokens=names))
    bert.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    roberta = Tokenizer(models.BPE())
    roberta.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    roberta.train_from_iterator(
        texts * 9,
        trainers.BpeTrainer(
            vocab_size=500,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)],
        ),
    )
    roberta.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    # Whole words in the vocabulary, split at spaces alone: [SEP] is one of them.
    words = Tokenizer(
        models.WordLevel({"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "a": 3, "b": 4}, unk_token="[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens(["[CLS]", "[SEP]", "[UNK]"])
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    micro = Tokenizer.from_file(str(MICRO / "tokenizer.json"))
    published = Tokenizer.from_file(str(published_style(folder) / "tokenizer.json"))
    published.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    return {"bert": bert, "roberta": roberta, "words": words, "micro": micro, "published": published}
