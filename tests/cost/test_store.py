"""Files that are written whole or not at all, and CSV as Excel and others write it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from sagerank_cost import CostError
from sagerank_cost.store import DATA, rows, write_text
from sagerank_cost.traffic import from_log


def test_writing_replaces_the_whole_file_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]
    write_text(path, "\udce9.csv")  # what Python makes of a file name that is not UTF-8
    assert path.read_bytes() == b"\xe9.csv"
    with pytest.raises(CostError, match="cannot be written"):
        write_text(tmp_path / "none" / "a.csv", "x")


def test_a_link_stays_and_a_pipe_is_written_to(tmp_path: Path) -> None:
    target, link = tmp_path / "a.csv", tmp_path / "link.csv"
    write_text(target, "old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == "new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)
    assert pipe.is_fifo()
    for path in (tmp_path, Path("/dev/full")):
        with pytest.raises(
            CostError, match="cannot be written: (Is a directory|No space left on device). Name another"
        ):
            write_text(path, "x")
    assert Path("/dev/full").is_char_device()


TABLE = [
    {"time": "0.5", "documents": "10", "tokens": "100"},
    {"time": "60.25", "documents": "20", "tokens": "90"},
]
PLAIN = "time,documents,tokens\n0.5,10,100\n60.25,20,90\n"


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (PLAIN.encode(), [2, 3]),
        (PLAIN.encode("utf-8-sig"), [2, 3]),
        (PLAIN.replace("\n", "\r\n").encode("utf-8-sig"), [2, 3]),
        (PLAIN.replace("\n", "\r").encode(), [2, 3]),
        (PLAIN.replace("\n", "\n\n").encode(), [3, 5]),
        (b"\n;;\n" + PLAIN.replace("\n", ",,\n,,,,\n").encode(), [5, 7]),
        (PLAIN.replace(",", ";").replace(".", ",").encode("utf-8-sig"), [2, 3]),
        (PLAIN.replace(",", "\t").encode(), [2, 3]),
        (PLAIN.replace("time,", " time , ").rstrip().encode(), [2, 3]),
        (b'"time","documents","tokens"\n"0.5","10","100"\n"60.25","20","90"', [2, 3]),
    ],
)  # fmt: skip
def test_tables_as_spreadsheets_write_them(content: bytes, lines: list[int], tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    numbered = rows(path, "time", "documents", "tokens")
    assert [dict(row) for _, row in numbered] == TABLE
    assert [line for line, _ in numbered] == lines
    assert from_log(path).documents == 15


def test_text_with_semicolons_between_cells_keeps_its_commas(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("name;usd;text\na;1,5;b, c, 1,5 and 2,5\n", encoding="utf-8")
    assert rows(path) == [(2, {"name": "a", "usd": "1.5", "text": "b, c, 1,5 and 2,5"})]


def test_the_packages_own_files_are_read_as_they_were() -> None:
    for path in DATA.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            assert [dict(row) for _, row in rows(path)] == list(csv.DictReader(file))
