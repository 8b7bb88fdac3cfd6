from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from sagerank.models.build import MICRO
from sagerank_inference import pieces
from sagerank_inference.checkpoint import CheckpointError
from sagerank_inference.contract import Truncation
from sagerank_inference.tokenise import Tokeniser

from ..conftest import run_python
from .conftest import PIPELINES, document_ids, own, packed, published_style, texts


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
        monkeypatch.setattr(pieces, "_SLICE", size)
        assert tokeniser("what causes rain", documents) == whole
        batches = list(pieces.batches(enumerate(documents)))
        assert [index for batch in batches for index, _ in batch] == list(range(6))
        assert all(len(batch) == 1 or sum(len(text) for _, text in batch) <= size for batch in batches)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_pieces_have_the_tokens_of_the_whole_text(
    pipelines: dict[str, Tokenizer], pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the pipeline itself begins a new word. A text without such a place is cut, and counted here."""
    tokeniser = own(pipelines[pipeline])
    several, exact = 0, 0
    for size in (4, 9, 24):
        for text in texts(size, 300):
            monkeypatch.setattr(pieces, "_PIECE", 10_000)
            whole = document_ids(tokeniser, text)
            assert whole == tokeniser._tokenizer.encode(text, add_special_tokens=False).ids
            monkeypatch.setattr(pieces, "_PIECE", size)
            parts = list(pieces.pieces(text, tokeniser._cuts))
            assert "".join(parts) == text
            assert max(map(len, parts)) <= size
            if len(parts) == 1:
                continue
            several += 1
            ends = {sum(map(len, parts[:number])) for number in range(1, len(parts))}
            if ends <= {found.start() for found in tokeniser._cuts.finditer(text)}:
                exact += 1
                assert document_ids(tokeniser, text) == whole, repr(text)
    assert several > 500
    assert exact > 80, "most of these texts have no good place in four characters, and some do"


def test_prose_is_never_cut_within_a_word(pipelines: dict[str, Tokenizer]) -> None:
    text = "The committee met on Tuesday (as it's wont to), and approved the minutes.\r\n" * 1000
    for tokenizer in pipelines.values():
        tokeniser = own(tokenizer)
        assert len(list(pieces.pieces(text, tokeniser._cuts))) > 4
        expected = tokeniser._tokenizer.encode(text, add_special_tokens=False).ids
        windows = Tokeniser(tokeniser._tokenizer, query_tokens=8, max_tokens=100_000, overlap_tokens=0)
        assert document_ids(windows, text) == expected


def test_an_endless_word_and_an_unknown_pipeline_are_cut_all_the_same(tokeniser: Tokeniser) -> None:
    assert [len(piece) for piece in pieces.pieces("a" * 40_000, tokeniser._cuts)] == [16_384, 16_384, 7_232]
    tokenizer = Tokenizer.from_file(str(MICRO / "tokenizer.json"))
    for change in ("added", "other"):
        if change == "added":
            tokenizer.add_tokens(["two words"])
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        parts = list(pieces.pieces("word " * 8000, own(tokenizer)._cuts))
        assert 2 < len(parts) < 6
        assert all(part.startswith(" word") for part in parts[1:])


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
    assert len(sizes) >= 1 + 122_000 // pieces._SLICE
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
from sagerank_inference.steps import finish
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
    windows = tokeniser("q", [text])
    finish(tokeniser.characters(text, windows.place[-1] or (0, 1)))
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


def test_a_pool_of_threads_that_cannot_be_started_is_no_fault_of_the_tokenizer() -> None:
    """In a process of its own, as the first in one decides; with memory for one stack, and much left for what says so."""
    code = f"""
import resource
from pathlib import Path
from sagerank_inference.tokenise import Tokeniser
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (700 << 20)
resource.setrlimit(resource.RLIMIT_AS, (size, size))
Tokeniser.load(Path({str(MICRO)!r}))
"""
    environment = {**os.environ, "RAYON_NUM_THREADS": "200", "RUST_MIN_STACK": str(400 << 20)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert "CheckpointError: The tokenizer's 200 threads cannot be started" in done.stderr
    assert "set RAYON_NUM_THREADS or SAGERANK_THREADS lower" in done.stderr
