"""A person's documents as passages: what is read, where it is cut, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagerank.distillation import DistillationError
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
