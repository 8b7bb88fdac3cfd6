"""Tables and sentences at any width: nothing is lost, nothing is broken, and no line is too long but for a word that is."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagerank_cost.text import command, fit, fits, hang, prose, record, table, width

WORDS = st.text("abcxyz0189.,%-/", min_size=1, max_size=12)
CELL = st.lists(WORDS, max_size=4).map(" ".join)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    row = st.tuples(WORDS, *[CELL] * draw(st.integers(0, 5))).map(list)
    return draw(st.lists(row, min_size=2, max_size=5))


@given(tables(), st.integers(12, 120))
def test_a_table_fits_or_is_records_and_loses_nothing(cells: list[list[str]], columns: int) -> None:
    shown = table(cells, columns)
    for line in shown.splitlines():
        assert len(line) <= columns or len(line.split()) == 1
    words = shown.split()
    for row in cells[1:]:
        for cell in row:
            for word in cell.split():
                assert word in words, "whole"
    assert fits(cells, columns) == ("─" in shown)


@given(tables())
def test_without_a_width_a_row_is_a_line(cells: list[list[str]]) -> None:
    head, rule, *rows = table(cells, None).splitlines()
    assert len(rows) == len(cells) - 1
    assert set(rule) == {"─"} or not rule
    for line, row in zip([head, *rows], cells, strict=True):
        assert line.split() == [word for cell in row for word in cell.split()]


@given(st.lists(WORDS, min_size=1, max_size=30), st.integers(0, 8), st.integers(10, 60))
def test_sentences_keep_their_words_and_their_indent(words: list[str], indent: int, columns: int) -> None:
    shown = prose(" " * indent + " ".join(words), columns)
    assert shown.split() == words
    for line in shown.splitlines():
        assert len(line) <= columns or len(line.split()) == 1
        assert line.startswith(" " * min(indent, 2 * columns // 3))


def test_how_it_looks() -> None:
    cells = [["model", "USD a month", "note"], ["turbo", "1,234.50", "cheap"], ["tiny", "-", "nothing fits"]]
    assert table(cells, None).splitlines() == [
        "model  USD a month  note",
        "────────────────────────────────",
        "turbo     1,234.50  cheap",
        "tiny             -  nothing fits",
    ]
    assert table(cells, 31).splitlines() == [
        "          USD a",
        "model     month  note",
        "─────────────────────────────",
        "turbo  1,234.50  cheap",
        "tiny          -  nothing fits",
    ]
    assert table(cells, 24).splitlines() == [
        "turbo",
        "  USD a month  1,234.50",
        "  note         cheap",
        "",
        "tiny",
        "  USD a month  -",
        "  note         nothing",
        "               fits",
    ]
    assert record("", [("a", ""), ("bc", "x")], 80) == "-\n  bc  x"
    assert hang("ok  name  ", "many words here", 20) == "ok  name  many words\n          here"


def test_the_width_is_the_terminals_or_columns_and_a_pipe_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    with (tmp_path / "file").open("w") as file:
        assert width(file) is None
        assert fit("a " * 200, [["b"], ["c"]], stream=file).count("\n") == 3
        monkeypatch.setenv("COLUMNS", "72")
        assert width(file) == 72
        for useless in ("0", "wide", ""):
            monkeypatch.setenv("COLUMNS", useless)
            assert width(file) is None
    monkeypatch.setattr(sys, "stdout", None)
    assert width() is None


@pytest.mark.parametrize(
    ("variables", "command"),
    [
        ({}, ["cost", "fit", "--region", "eu-south-1"]),
        ({"NO_COLOR": "1", "TERM": "dumb"}, ["cost", "fit", "--region", "eu-south-1"]),
        ({}, ["doctor"]),
    ],
)
def test_a_command_on_a_terminal_of_80_columns(variables: dict[str, str], command: list[str]) -> None:
    """On a real one, which has its width from the kernel. There is no colour, so NO_COLOR changes nothing."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    given = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | variables
    with subprocess.Popen(
        [sys.executable, "-m", "sagerank.cli", *command], stdout=child, env=given
    ) as process:
        os.close(child)
        shown = b""
        # Linux ends a terminal that nobody writes to any more with an error, macOS with nothing.
        with contextlib.suppress(OSError):
            while part := os.read(parent, 65_536):
                shown += part
    os.close(parent)
    assert process.returncode == 0
    lines = shown.decode().splitlines()
    assert len(lines) > 5
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in shown.decode()


def test_a_long_command_breaks_between_options() -> None:
    line = "sagerank cost measure --endpoint NAME --region us-east-1 --instance ml.c7g.4xlarge --yes --model 'tiny>base@20'"
    shown = command(line, 60).splitlines()
    assert all(len(part) <= 60 for part in shown)
    assert [part.split()[0] for part in shown[1:]] == ["--region", "--model"]
    assert " ".join(part.removesuffix(" \\").strip() for part in shown) == line
    assert command(line, 40).splitlines()[-1] == "    --model 'tiny>base@20'"
