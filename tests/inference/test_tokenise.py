from __future__ import annotations

import json
import os
import random
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from sagerank.models.build import MICRO
from sagerank_inference import tokenise
from sagerank_inference.checkpoint import CheckpointError
from sagerank_inference.contract import InvalidRequest, TokenLimitExceeded, Truncation
from sagerank_inference.reader import finish
from sagerank_inference.tokenise import Tokeniser

from ..conftest import run_python


@pytest.fixture(scope="module")
def tokeniser() -> Tokeniser:
    """Micro's, with a context small enough to overflow."""
    return Tokeniser.load(MICRO, query_tokens=8, max_tokens=40, overlap_tokens=6)


@pytest.fixture(scope="module")
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


def packed(*windows: list[int]) -> list[array[int]]:
    return [array("i", ids) for ids in windows]


def document_ids(tokeniser: Tokeniser, text: str) -> list[int]:
    """The tokens of a document that fits, without the query and what frames it."""
    frame, ids = (list(tokeniser("a", [document]).ids[0]) for document in ("", text))
    end = len(tokeniser._suffix)
    return ids[len(frame) - end : len(ids) - end]


def test_the_published_pipeline_is_read_as_it_is_written(tmp_path: Path) -> None:
    tokeniser = Tokeniser.load(published_style(tmp_path))
    vocabulary = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab()
    what, is_, panda, mark = (vocabulary[token] for token in ("what", "is", "panda", "?"))
    assert tokeniser("What is Panda?", ["PANDA"]).ids == packed([0, what, is_, panda, mark, 2, 2, panda, 2])


def test_pair_template_is_the_files_own(tokeniser: Tokeniser) -> None:
    plain = Tokenizer.from_file(str(MICRO / "tokenizer.json"))
    assert tokeniser("red planet", ["mars is red"]).ids == packed(
        plain.encode("red planet", "mars is red").ids
    )


def test_a_document_as_long_as_the_room_is_one_window(tokeniser: Tokeniser) -> None:
    assert [len(ids) for ids in tokeniser("a", ["a " * 36]).ids] == [40]
    assert [len(ids) for ids in tokeniser("a", ["a " * 37]).ids] == [40, 40]


@given(st.integers(0, 300), st.integers(1, 30))
def test_windows_cover_every_token_and_the_last_is_full(
    tokeniser: Tokeniser, roomy: Tokeniser, length: int, query: int
) -> None:
    words = [f"{number}" for number in range(length)]
    windows = tokeniser("a " * query, [" ".join(words)])
    head = min(query, 8)
    pieces = [list(ids[head + 2 : -1]) for ids in windows.ids]
    whole = document_ids(roomy, " ".join(words))
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


def test_truncate_false_judges_the_pair_and_says_how_long(tokeniser: Tokeniser) -> None:
    query = "a b c d e f g h i j"  # more than a query keeps where truncation is allowed
    whole = tokeniser(query, ["x"], Truncation(allowed=False))
    assert len(whole.ids[0]) == 10 + 1 + tokeniser.special_tokens
    assert len(tokeniser(query, ["x"]).ids[0]) == 8 + 1 + tokeniser.special_tokens
    with pytest.raises(TokenLimitExceeded, match="query has 50 tokens, and 37 fit"):
        tokeniser("a " * 50, ["x"], Truncation(allowed=False))
    with pytest.raises(TokenLimitExceeded, match=r"documents\[1\] has 50 tokens, and 36 fit"):
        tokeniser("a", ["x", "y " * 50], Truncation(allowed=False))
    with pytest.raises(TokenLimitExceeded, match=r"documents\[0\] has 28 tokens, and 27 fit"):
        tokeniser(query, ["y " * 28], Truncation(allowed=False))


def test_a_query_that_leaves_no_room_takes_an_empty_document(tokeniser: Tokeniser) -> None:
    assert len(tokeniser("a " * 37, [""], Truncation(allowed=False)).ids[0]) == 40


@given(
    query=st.integers(0, 60),
    documents=st.lists(st.integers(0, 90), max_size=3),
    most=st.integers(5, 60),
    left=st.booleans(),
)
def test_a_limit_of_the_pair_gives_one_window_that_keeps_it(
    tokeniser: Tokeniser, query: int, documents: list[int], most: int, left: bool
) -> None:
    """As the longer of two is cut first, but never a query to less than half."""
    texts = [" ".join(f"{n % 10}" for n in range(count)) for count in documents]
    truncation = Truncation(max_pair_tokens=most, left=left)
    windows = tokeniser("a " * query, texts, truncation)
    room = min(most, 40) - tokeniser.special_tokens
    kept = min(query, 8, room // 2)
    assert windows.document == list(range(len(documents)))
    assert [len(ids) for ids in windows.ids] == [
        tokeniser.special_tokens + kept + min(count, room - kept) for count in documents
    ]
    for ids, count, place in zip(windows.ids, documents, windows.place, strict=True):
        begin, end = place or (0, count)
        (alone,) = tokeniser("a " * kept, [" ".join(f"{n % 10}" for n in range(begin, end))]).ids
        assert ids == alone
        assert (begin == 0) or left


def test_a_pair_without_room_is_refused(tokeniser: Tokeniser) -> None:
    with pytest.raises(InvalidRequest, match="may have 4 tokens, of which 3 are special: allow at least 5"):
        tokeniser("a", ["b"], Truncation(max_pair_tokens=4))


def places(tokeniser: Tokeniser, text: str, truncation: Truncation) -> list[tuple[int, int]]:
    """The characters of each window of a text."""
    windows = tokeniser("q", [text], truncation)
    return [
        (0, len(text)) if place is None else finish(tokeniser.characters(text, place))
        for place in windows.place
    ]


@pytest.mark.parametrize("name", PARTS)
def test_the_characters_of_a_window_hold_its_tokens(tokeniser: Tokeniser, name: str) -> None:
    chance = random.Random(name)
    for _ in range(100):
        words = chance.choices(PARTS[name], k=chance.randrange(300))
        text = "".join(words)
        truncation = Truncation(
            max_document_tokens=chance.choice([None, None, 30, 90]), left=chance.random() < 0.5
        )
        windows = tokeniser("q", [text], truncation)
        spans = places(tokeniser, text, truncation)
        assert len(spans) == len(windows.ids)
        for (begin, end), place in zip(spans, windows.place, strict=True):
            assert 0 <= begin <= end <= len(text)
            if place is None:
                continue
            whole = tokeniser._tokenizer.encode(text, add_special_tokens=False)
            covered = [n for n, (first, last) in enumerate(whole.offsets) if begin <= first and last <= end]
            assert set(range(*place)) <= set(covered) | {
                n for n, o in enumerate(whole.offsets) if o[0] == o[1]
            }


def test_characters_are_counted_over_pieces(roomy: Tokeniser) -> None:
    words = [f"word{number}" for number in range(20_000)]
    text = " ".join(words)
    for place in ((0, 5), (5_000, 5_400), (60_000, 60_100)):
        begin, end = finish(roomy.characters(text, place))
        whole = roomy._tokenizer.encode(text, add_special_tokens=False)
        assert (begin, end) == (whole.offsets[place[0]][0], whole.offsets[place[1] - 1][1])


def test_the_best_window_has_the_place(tokeniser: Tokeniser) -> None:
    windows = tokeniser("q", ["x", "y " * 60, ""])
    assert windows.place[0] is None
    assert windows.best([1.0, -5.0, -2.0, 0.5]) == [None, windows.place[2], None]
    assert windows.place[2] == (60 - 36, 60)


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
        batches = list(tokenise._batches(enumerate(documents)))
        assert [index for batch in batches for index, _ in batch] == list(range(6))
        assert all(len(batch) == 1 or sum(len(text) for _, text in batch) <= size for batch in batches)


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


@pytest.fixture(scope="module")
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


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_pieces_have_the_tokens_of_the_whole_text(
    pipelines: dict[str, Tokenizer], pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the pipeline itself begins a new word. A text without such a place is cut, and counted here."""
    tokeniser = own(pipelines[pipeline])
    several, exact = 0, 0
    for size in (4, 9, 24):
        for text in texts(size, 300):
            monkeypatch.setattr(tokenise, "_PIECE", 10_000)
            whole = document_ids(tokeniser, text)
            assert whole == tokeniser._tokenizer.encode(text, add_special_tokens=False).ids
            monkeypatch.setattr(tokenise, "_PIECE", size)
            pieces = list(tokeniser._pieces(text))
            assert "".join(pieces) == text
            assert max(map(len, pieces)) <= size
            if len(pieces) == 1:
                continue
            several += 1
            ends = {sum(map(len, pieces[:number])) for number in range(1, len(pieces))}
            if ends <= {found.start() for found in tokeniser._cuts.finditer(text)}:
                exact += 1
                assert document_ids(tokeniser, text) == whole, repr(text)
    assert several > 500
    assert exact > 80, "most of these texts have no good place in four characters, and some do"


def test_prose_is_never_cut_within_a_word(pipelines: dict[str, Tokenizer]) -> None:
    text = "The committee met on Tuesday (as it's wont to), and approved the minutes.\r\n" * 1000
    for tokenizer in pipelines.values():
        tokeniser = own(tokenizer)
        assert len(list(tokeniser._pieces(text))) > 4
        expected = tokeniser._tokenizer.encode(text, add_special_tokens=False).ids
        windows = Tokeniser(tokeniser._tokenizer, query_tokens=8, max_tokens=100_000, overlap_tokens=0)
        assert document_ids(windows, text) == expected


def test_an_endless_word_and_an_unknown_pipeline_are_cut_all_the_same(tokeniser: Tokeniser) -> None:
    assert [len(piece) for piece in tokeniser._pieces("a" * 40_000)] == [16_384, 16_384, 7_232]
    tokenizer = Tokenizer.from_file(str(MICRO / "tokenizer.json"))
    for change in ("added", "other"):
        if change == "added":
            tokenizer.add_tokens(["two words"])
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        pieces = list(own(tokenizer)._pieces("word " * 8000))
        assert 2 < len(pieces) < 6
        assert all(piece.startswith(" word") for piece in pieces[1:])


def test_every_step_is_bounded_and_says_how_far_it_is(tokeniser: Tokeniser) -> None:
    documents = ["y " * 60_000, *["x"] * 5_000, "z " * 1000]
    steps = tokeniser.steps("a " * 20_000, documents)
    sizes = []
    while True:
        try:
            sizes.append(next(steps))
        except StopIteration as end:
            windows = end.value
            break
    assert windows == tokeniser("a " * 20_000, documents)
    assert len(sizes) >= 1 + 122_000 // tokenise._SLICE
    assert sizes == sorted(sizes)
    assert sizes[-1] == sum(map(len, windows.ids))
    assert all(ids.typecode == "i" for ids in windows.ids)


def test_what_would_be_cut_off_is_not_read(tokeniser: Tokeniser) -> None:
    """The query's end, and a document's beyond its limit: a step for each, where all would be dozens."""
    long = "a " * 500_000
    steps = list(tokeniser.steps(long, [long, long], Truncation(max_document_tokens=3)))
    assert len(steps) < 8
    few = tokeniser("a " * 9, ["a " * 4, "a " * 4], Truncation(max_document_tokens=3))
    assert tokeniser(long, [long, long], Truncation(max_document_tokens=3)) == few


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_a_text_of_six_megabytes_takes_little_memory() -> None:
    code = f"""
from pathlib import Path
from sagerank_inference.tokenise import Tokeniser
def kilobytes(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
tokeniser = Tokeniser.load(Path({str(MICRO)!r}), threads=2)
tokeniser("q", ["a"] * 3000)
for unit in ("!", "한", "a", "\u0301", "\U0001f600"):
    text = unit * (6_000_000 // len(unit.encode()))
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    tokeniser("q", [text])
    print((kilobytes("VmHWM") - before) // 1024)
"""
    done = run_python(code, env={**os.environ})
    assert max(map(int, done.stdout.split())) < 80, done.stdout + done.stderr
    assert len(done.stdout.split()) == 5, done.stderr


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_no_text_yields_a_special_token(pipelines: dict[str, Tokenizer], pipeline: str) -> None:
    plain, tokeniser = pipelines[pipeline], own(pipelines[pipeline])
    unknown = plain.token_to_id(plain.model.unk_token or "<unk>")
    special = {plain.token_to_id(name) for name in SPECIAL} - {None, unknown}
    frame = list(tokeniser("a", [""]).ids[0])
    taken = 0
    for name in SPECIAL:
        for text in (
            name,
            name.lower(),
            f" {name}",
            f"{name} ",
            f"a{name}b",
            f"a  {name}\n{name}{name}",
            name.title(),
        ):
            taken += not special.isdisjoint(plain.encode(text, add_special_tokens=False).ids)
            assert special.isdisjoint(document_ids(tokeniser, text)), text
            windows = tokeniser(text, [text])
            found = [token for token in windows.ids[0] if token in special]
            assert found == [token for token in frame if token in special], text
    assert taken or pipeline == "published", "as transformers reads them, these are special"


def test_a_special_token_among_the_models_words_is_unknown_in_a_text() -> None:
    """Where the pipeline leaves it whole: text is text, whatever the file says."""
    words = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "[MASK]": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["[MASK]"])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    assert own(tokenizer)("a", ["a [SEP] [MASK]"]).ids == packed([1, 3, 2, 3, 0, 0, 2])
    pieces = [("<unk>", 0.0), ("<s>", -1.0), ("</s>", -1.0), ("a", -2.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    assert own(tokenizer)("a", ["a</s>b"]).ids == packed([1, 3, 2, 2, 3, 0, 0, 2])


def test_added_tokens_that_are_not_special_are_words(tokeniser: Tokeniser) -> None:
    tokenizer = Tokenizer.from_file(str(MICRO / "tokenizer.json"))
    tokenizer.add_tokens(["<product>"])
    added = tokenizer.token_to_id("<product>")
    assert document_ids(own(tokenizer), "a <product> b")[1] == added


def test_a_tokenizer_that_panics_is_refused(tmp_path: Path) -> None:
    text = json.loads((MICRO / "tokenizer.json").read_text(encoding="utf-8"))
    text["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": ""}
    (tmp_path / "tokenizer.json").write_text(json.dumps(text), encoding="utf-8")
    with pytest.raises(CheckpointError, match="not a tokenizer"):
        Tokeniser.load(tmp_path)
