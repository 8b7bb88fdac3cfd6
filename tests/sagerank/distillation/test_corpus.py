"""A person's documents as passages: what is read, where it is cut, and what is refused."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from sagerank.distillation import DistillationError, made
from sagerank.distillation.corpus import MAX_WORDS, UNSTATED, read_passages

from .conftest import write

MARKDOWN = """\
---
title: front matter
---
Before any heading there are five words.

# Moving **ice**

See [the valley](https://example.com/valley) and ![a moraine](moraine.png), where `ice` lies deep.

| rock | age |
| --- | --- |
| granite | old |

## Code

```sh
# no heading
ls -la moraines and other things
```
"""


def folder(tmp_path: Path, **files: str | bytes) -> Path:
    for name, text in files.items():
        path = tmp_path / "texts" / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / "texts"


def test_markdown_is_cut_at_its_headings_and_leaves_its_marks(tmp_path: Path) -> None:
    passages = list(read_passages(folder(tmp_path, deep__a_md=MARKDOWN)))
    assert [(passage.key, passage.title) for passage in passages] == [
        ("deep/a.md#1", ""),
        ("deep/a.md#2", "Moving ice"),
        ("deep/a.md#3", "Code"),
    ]
    assert passages[0].text == "Before any heading there are five words."
    assert passages[1].text == "See the valley and a moraine, where ice lies deep. rock age granite old"
    assert passages[2].text == "# no heading ls -la moraines and other things"
    assert {(passage.source, passage.licence) for passage in passages} == {("texts", UNSTATED)}


def test_long_text_is_cut_between_sentences_and_nothing_is_lost(tmp_path: Path) -> None:
    long = " ".join(f"Sentence {number} has exactly six words." for number in range(100))
    endless = " ".join(f"word{number}" for number in range(400))
    text = f"A heading of mine\n\n{long}\n\n{endless}\n"
    passages = list(read_passages(folder(tmp_path, a_txt=text)))
    assert " ".join(passage.text for passage in passages).split() == f"{long} {endless}".split()
    assert max(len(passage.text.split()) for passage in passages) <= MAX_WORDS
    assert passages[0].text.endswith("words.")
    assert [passage.title for passage in passages] == ["A heading of mine"] + [""] * (len(passages) - 1)


def test_other_files_hidden_ones_and_repetitions_are_no_passages(tmp_path: Path) -> None:
    footer = "The licence of this text is what it is."
    own = folder(
        tmp_path, a_txt=footer, b_txt=footer, c_html="six words that are not read", d_txt="too short"
    )
    (own / ".hidden").mkdir()
    (own / ".hidden" / "e.txt").write_text("six words that are not read")
    assert [passage.key for passage in read_passages(own)] == ["a.txt#1"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a_txt", b"\xff\xfe\x00", "a.txt is not UTF-8 from byte 0 on"),
        ("a_txt", b"\x00 zero", "a.txt is binary"),
        ("a_pdf", b"%PDF", "holds no .md or .txt file"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    with pytest.raises(DistillationError, match=reason):
        list(read_passages(folder(tmp_path, **{name: content})))


HEADINGS = {"# C#": "C#", "## The end ##": "The end", "# `a` | b": "a  b", "# one # two": "one # two"}


@pytest.mark.parametrize(
    "begun",
    [
        "[",
        "<!-- ",
        "[](",
        "# a #",
        "| - |\n",
        "a \n",
        "# a\n",
        "a-",
        "- ",
        "# a" + " " * 500_000,
        "| " + " " * 500_000,
    ],
)
def test_a_text_of_any_size_is_cut_in_time(tmp_path: Path, begun: str) -> None:
    """Half a million characters in quadratic time are minutes."""
    text = begun * (500_000 // len(begun) + 1) + "x"
    began = time.process_time()
    passages = list(read_passages(folder(tmp_path, a_md=f"{text}\n\nFive words and no more.")))
    made.make_queries(passages, 10, 0)
    assert time.process_time() - began < 10


def test_headings_keep_their_own_signs(tmp_path: Path) -> None:
    body = "Six words stand below this heading."
    text = "".join(f"{heading}\n{number} {body}\n" for number, heading in enumerate(HEADINGS))
    passages = read_passages(folder(tmp_path, a_md=text))
    assert [passage.title for passage in passages] == [*HEADINGS.values()]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "x", "text": "caf\xe9"}\n', "is not UTF-8"),
        (b'{"id": "x", "text": "half \\ud800"}\n', "mine.jsonl:2: text has half of a surrogate pair"),
        (b'{"id": "\\ud800", "text": "half"}\n', "mine.jsonl:2: id has half of a surrogate pair"),
        (b"[" * 200_000 + b"\n", "mine.jsonl:2: nested too deeply"),
    ],
)
def test_lines_that_no_file_or_tokenizer_takes_are_sentences(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "text": "Ice moves."}\n')
    assert [passage.key for passage in read_passages(path)] == ["a"], "as some editors write UTF-8"
    with path.open("ab") as file:
        file.write(line)
    with pytest.raises(DistillationError, match=reason):
        list(read_passages(path))


def test_a_damaged_gzip_file_is_a_sentence(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"id": str(number), "text": "Ice moves."}) + "\n" for number in range(300))
    whole = gzip.compress(rows.encode())
    path = tmp_path / "mine.jsonl.gz"
    for place in range(10, len(whole), 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(DistillationError):
            list(read_passages(path))


def test_lines_of_ones_own_need_a_text_and_an_id(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", [{"id": "a", "text": "Ice moves.", "title": "Ice"}])
    with path.open("a") as file:
        file.write('{"id": "b", "text": "The last line has no end."}')
    first, last = read_passages(path)
    assert (first.title, first.source, first.licence) == ("Ice", "mine", UNSTATED)
    assert last.key == "b", "a whole line without an end is a line"
    with pytest.raises(DistillationError, match=":1: source must be"):
        list(read_passages(path, stated=True))
    write(path, [{"id": "a", "text": "x", "license": "CC-BY-SA-4.0"}])
    with pytest.raises(DistillationError, match=":1: there is a license: write it licence"):
        list(read_passages(path))
