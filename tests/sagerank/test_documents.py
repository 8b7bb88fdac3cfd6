"""What a person gives `sagerank rerank`: read as it is meant, or refused in a sentence that names the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagerank.documents import DocumentsError, read, sample


@pytest.mark.parametrize(
    ("raw", "documents"),
    [
        (b"one\r\n\n two \xe2\x80\xa8 three\n", ["one", " two \u2028 three"]),
        (b'\xef\xbb\xbf{"text": "a", "id": 1}\n\n{"text": "b"}', [{"text": "a", "id": 1}, {"text": "b"}]),
        (b'plain\n{"id": 1}\n', ["plain", '{"id": 1}']),
        (b'"quoted"\n42\n', ['"quoted"', "42"]),
        (b"[" * 5_000 + b"\n", ["[" * 5_000]),
    ],
)
def test_lines_and_json_lines(raw: bytes, documents: list[object], tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(raw)
    assert read(str(tmp_path / "given")) == documents


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b'{"text": "a"}\n\n{"body": "b"}\n', 'given, line 3: the object has no "text"'),
        (b'{"text": null}\n', 'line 1: the object has no "text"'),
        (b'{"text": "a"}\nplain\n', "line 2: not a JSON object"),
        (b'{"text": "a", "x": 1e999}\n', "line 1: the object holds what JSON cannot carry"),
        (b'{"text": "a"}\n{"text": "b", "x": [NaN]}\n', "line 2: the object holds what JSON cannot carry"),
        (b'{"text": "a", "x": "\\ud800"}\n', "line 1: the object holds what JSON cannot carry"),
        (b'["a", "b"]\n', "one JSON value"),
        (b'{\n "text": "a"\n}\n', "one JSON value"),
        (b"a\0b\n", "binary, or UTF-16"),
        ("text".encode("utf-16"), "binary, or UTF-16|not UTF-8"),
        ("naïve".encode("latin-1"), "not UTF-8 from byte 2 on"),
        (b" \n\n", "There are no documents in"),
    ],
)
def test_what_is_refused(raw: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(raw)
    with pytest.raises(DocumentsError, match=sentence) as caught:
        read(str(tmp_path / "given"))
    assert not any(word in str(caught.value) for word in ("plain", "naïve", "body"))


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DocumentsError, match="There is no file .*nowhere: give a file .* or take --sample"):
        read(str(tmp_path / "nowhere"))
    with pytest.raises(DocumentsError, match="is a folder|cannot be read"):
        read(str(tmp_path))


def test_the_sample_is_the_demos_passages() -> None:
    assert len(sample()) == 36
    assert all(isinstance(text, str) and text for text in sample())
