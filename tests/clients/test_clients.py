"""What `make clients` rests on, without the network: its comparison, how a script is run, pins, and the table that it wrote."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sagerank.models.build import MICRO
from sagerank_inference.dialects import sigmoid
from sagerank_inference.engine import Engine
from sagerank_inference.settings import Settings

from . import __main__ as program
from . import groups, table
from .compare import fault
from .groups import Group, Row

LOGITS = [2.0, -1.0, 0.5]
SCORES: list[float | None] = [sigmoid(logit) for logit in LOGITS]
ROW = Row(client="client", asked="rerank", version="1.0", scores=SCORES)
SCRIPT = """
import socket
from rows import DOCUMENTS, ordered, row
print("what a client prints is no row")
@row("pytest", "exits")
def _():
    raise SystemExit("the client gave up,\\nand left")
@row("pytest", "calls home")
def _():
    try:
        socket.create_connection(("example.org", 443))
    except OSError:
        return [0.5] * len(DOCUMENTS)
@row("pytest", "answers", top=1)
async def _():
    return ordered([{"index": 1, "relevance_score": 0.25}])
"""


def test_equal_scores_are_no_fault() -> None:
    assert not fault(ROW, LOGITS)
    assert not fault(replace(ROW, scores=[2.0, -1.0, 0.5], raw=True), LOGITS)
    assert not fault(replace(ROW, scores=[SCORES[0], None, SCORES[2]], top=2), LOGITS)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (replace(ROW, scores=None, error="KeyError: 'data'"), "KeyError"),
        (replace(ROW, scores=SCORES[:2]), "2 scores of 3"),
        (replace(ROW, scores=[SCORES[0], None, SCORES[2]]), "2 scores of 3"),
        (replace(ROW, scores=[SCORES[1], SCORES[0], SCORES[2]]), "document 0 has"),
        (replace(ROW, scores=[SCORES[0], SCORES[1], sigmoid(0.5) + 2e-6]), "document 2 has"),
        (replace(ROW, scores=[float("nan"), *SCORES[1:]]), "document 0 has nan"),
        (replace(ROW, raw=True), "document 0 has"),
        (replace(ROW, scores=[None, SCORES[1], None], top=1), "others are better"),
    ],
)
def test_what_differs_is_said(row: Row, said: str) -> None:
    assert said.replace("others", "other documents") in fault(row, LOGITS)


def test_a_script_is_run_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "HERE", tmp_path)
    monkeypatch.setattr(groups, "BUILT", tmp_path / "build")
    (tmp_path / "pytest.py").write_text(SCRIPT)  # the name of a package that is installed
    (tmp_path / "request.json").write_text(json.dumps({"query": "q", "documents": ["a", "b"]}))
    python = tmp_path / "build/pytest/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)

    exits, home, answers, script = Group("pytest").run("http://127.0.0.1:9", tmp_path / "request.json")
    assert (exits.error, exits.scores) == ("SystemExit: the client gave up, and left", None)
    assert home.scores == [0.5, 0.5]
    assert (answers.scores, answers.top, answers.version) == ([None, 0.25], 1, pytest.__version__)
    assert answers.began <= answers.ended
    assert script.error == "asked for other machines: example.org"


def test_a_script_that_fails_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "HERE", tmp_path)
    (tmp_path / "empty.py").write_text("import none_such")
    group = Group("empty")
    monkeypatch.setattr(Group, "_interpreter", lambda self: [sys.executable, str(tmp_path / "empty.py")])
    (row,) = group.run("http://127.0.0.1:9", tmp_path)
    assert "ended with status 1" in row.error
    assert "No module named 'none_such'" in row.error


def test_scores_are_far_enough_apart() -> None:
    """A client that mixed two documents up would be seen, but for those of equal text."""
    values = Engine.load(MICRO, Settings()).score(program.QUERY, program.DOCUMENTS).values
    scores = sorted(
        {text: sigmoid(value) for text, value in zip(program.DOCUMENTS, values, strict=True)}.values()
    )
    assert min(high - low for low, high in zip(scores, scores[1:], strict=False)) > 1e-4


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node.js")
@pytest.mark.parametrize("address", ["http://example.org/", "https://192.0.2.1/"])
def test_node_reaches_no_other_machine(tmp_path: Path, address: str) -> None:
    refused = tmp_path / "refused"
    code = f"fetch({address!r}).then(() => {{ throw 1; }}, (error) => console.log(error.cause.message))"
    done = subprocess.run(
        ["node", f"--import={groups.SHARED / 'offline.mjs'}", "--eval", code],
        env={**os.environ, "OFFLINE_REFUSED": str(refused)},
        capture_output=True,
        text=True,
        check=True,
    )
    host = address.split("/")[2]
    assert f"{host} is not this machine" in done.stdout
    assert refused.read_text() == f"{host}\n"


@pytest.mark.parametrize("name", groups.groups())
def test_every_group_is_pinned(name: str) -> None:
    if (groups.HERE / f"{name}.py").exists():
        pins = (groups.HERE / f"{name}.txt").read_text().splitlines()
        wanted = (groups.HERE / f"{name}.in").read_text().split()
        assert {re.sub(r"\[.*", "", each) for each in wanted} <= {pin.split("==")[0] for pin in pins}
        assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+( ; .+)?", pin) for pin in pins)
    else:
        lock = json.loads((groups.HERE / name / "package-lock.json").read_text())
        assert all("integrity" in package for path, package in lock["packages"].items() if path)


def pinned() -> set[tuple[str, str]]:
    """Names, as PyPI compares them, and versions of all that any group installs."""
    pins = [line for path in groups.HERE.glob("*.txt") for line in path.read_text().splitlines()]
    found = {tuple(pin.partition(" ")[0].split("==")) for pin in pins}
    for path in groups.HERE.glob("*/package-lock.json"):
        packages = json.loads(path.read_text())["packages"]
        found |= {
            (name.removeprefix("node_modules/"), each["version"]) for name, each in packages.items() if name
        }
    return {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in found}


def test_the_table_is_of_these_pins() -> None:
    lines = table.read()
    known = pinned()
    for text in lines.values():
        name, version = (cell.strip() for cell in text.strip("| \n").split(" | ")[:2])
        assert (re.sub(r"[-_.]+", "-", name).lower(), version) in known, text
    equal = [text for text in lines.values() if re.search(r"\| equal( logits)? \|$", text)]
    assert len(equal) >= 40
