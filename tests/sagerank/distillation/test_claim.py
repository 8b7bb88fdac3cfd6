"""Whose a work folder is."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sagerank.distillation import DistillationError
from sagerank.distillation.claim import claimed, seal, settle, whole
from sagerank.distillation.recipe import Recipe

HOLDER = """
import sys
from pathlib import Path
from sagerank.distillation.claim import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_have_one_folder_and_a_killed_one_leaves_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    refusal = rf"in use by another run \(process {holder.pid} on .+\): wait for it"
    for _ in range(2):
        with pytest.raises(DistillationError, match=refusal), claimed(tmp_path):
            pass
    holder.kill()
    holder.communicate()
    with claimed(tmp_path):
        assert (tmp_path / "lock").read_text().count("process") == 1
    with claimed(tmp_path):
        pass


@pytest.fixture
def recipe(tmp_path: Path, documents: Path) -> Recipe:
    return Recipe(passages=str(documents), teachers=("https://u:secret@host/=2", "micro"), student="tiny")


def test_a_folder_is_known_by_what_its_inputs_hold_and_not_by_where_they_lie(
    tmp_path: Path, documents: Path, recipe: Recipe
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    settle(work, dataclasses.replace(recipe, passages="mistyped"))
    settle(work, recipe)  # nothing had been made of the other
    (work / "candidates.jsonl").write_text("mined\n")
    assert "secret" not in "".join(path.read_text() for path in work.iterdir())
    elsewhere = documents.rename(tmp_path / "elsewhere")
    moved = dataclasses.replace(recipe, passages=str(elsewhere), retention=0.1, gate_queries=5)
    settle(work, moved)
    assert json.loads((work / "recipe.json").read_text())["passages"] == str(elsewhere)
    with next(elsewhere.rglob("*.md")).open("a") as file:
        file.write("\n\nOne sentence more than there was.")
    with pytest.raises(DistillationError, match="begun with another passages: go on with those"):
        settle(work, moved)
    for change in ({"heldout": 3}, {"seed": 9}, {"teachers": ("micro",)}, {"gate": ("g",)}):
        with pytest.raises(DistillationError, match="begun with another"):
            settle(work, dataclasses.replace(moved, **change))


def test_a_folder_of_the_version_before_goes_on(tmp_path: Path, corpus: tuple[Path, Path]) -> None:
    recipe = Recipe(passages=str(corpus[0]), queries=str(corpus[1]), teachers=("micro",), gate=("g",))
    old = {
        name: value for name, value in recipe.to_json().items() if name not in ("gate", "heldout", "dtype")
    }
    (tmp_path / "recipe.json").write_text(json.dumps(old))
    (tmp_path / "candidates.jsonl").write_text("mined\n")
    settle(tmp_path, recipe)
    settle(tmp_path, recipe)
    with pytest.raises(DistillationError, match="another steps"):
        settle(tmp_path, dataclasses.replace(recipe, steps=1))


def test_a_finished_step_that_lost_something_on_the_way_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "candidates.jsonl"
    assert not whole(path)
    path.write_text("whole\n")
    assert whole(path), "of a version that did not remember sums"
    seal(path)
    seal(path)
    assert whole(path)
    path.write_text("who")
    with pytest.raises(DistillationError, match="candidates.jsonl is not as it was written: copy the folder"):
        whole(path)


@pytest.mark.parametrize("name", ["recipe.json", "inputs.json"])
@pytest.mark.parametrize("content", ['{"seed": ', "[1]", "[" * 100_000])
def test_a_folder_whose_recipe_lost_something_is_a_sentence(
    tmp_path: Path, recipe: Recipe, name: str, content: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    settle(work, recipe)
    part = work / "candidates.jsonl"
    part.write_text("{}")
    (work / name).write_text(content)
    with pytest.raises(DistillationError, match=f"{name} is not as it was written: copy the folder again"):
        settle(work, recipe)
    (work / "stages.json").write_text(content)
    with pytest.raises(DistillationError, match="stages.json is not as it was written"):
        whole(part)
