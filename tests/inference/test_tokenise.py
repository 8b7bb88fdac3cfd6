from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from sagerank.models.build import MICRO
from sagerank_inference.checkpoint import CheckpointError
from sagerank_inference.contract import TokenLimitExceeded, Truncation
from sagerank_inference.tokenise import Tokeniser

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
    assert tokeniser("What is Panda?", ["PANDA"]).ids == [[0, what, is_, panda, mark, 2, 2, panda, 2]]


def test_pair_template_is_the_files_own(tokeniser: Tokeniser) -> None:
    plain = Tokenizer.from_file(str(MICRO / "tokenizer.json"))
    assert tokeniser("red planet", ["mars is red"]).ids == [plain.encode("red planet", "mars is red").ids]


def test_a_document_as_long_as_the_room_is_one_window(tokeniser: Tokeniser) -> None:
    assert [len(ids) for ids in tokeniser("a", ["a " * 36]).ids] == [40]
    assert [len(ids) for ids in tokeniser("a", ["a " * 37]).ids] == [40, 40]


@given(st.integers(0, 300), st.integers(1, 30))
def test_windows_cover_every_token_and_the_last_is_full(
    tokeniser: Tokeniser, length: int, query: int
) -> None:
    words = [f"{number}" for number in range(length)]
    windows = tokeniser("a " * query, [" ".join(words)])
    head = min(query, 8)
    pieces = [ids[head + 2 : -1] for ids in windows.ids]
    whole = tokeniser.__class__.load(MICRO)("a", [" ".join(words)]).ids[0][3:-1]
    room = 40 - 3 - head
    assert all(len(ids) <= 40 for ids in windows.ids)
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
    from sagerank_inference import tokenise

    tokeniser = tokenise.Tokeniser.load(MICRO)
    documents = ["rain " * 5, "", "clouds " * 40, "a", "b", "snow " * 30]
    whole = tokeniser("what causes rain", documents)
    for size in (1, 7, 160, 300):
        monkeypatch.setattr(tokenise, "_SLICE", size)
        assert tokeniser("what causes rain", documents) == whole
        sizes = [len(text) for text in documents]
        ranges = list(tokenise._slices(sizes))
        assert [index for first, last in ranges for index in range(first, last)] == list(range(6))
        assert all(last - first == 1 or sum(sizes[first:last]) <= size for first, last in ranges)
