"""The walkthroughs as they lie in git, without running them (`make notebooks` does), and the runner on one that fails."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from .conftest import ROOT
from .docs.commands import read
from .notebooks import NotebookError, execute, stripped

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = (
    "01_quickstart",
    "02_deploy_cdk",
    "03_deploy_sagemaker_sdk",
    "04_cost",
    "05_rag",
    "06_distil",
    "07_long_documents",
)
OURS = {"sagerank", "sagerank_cost", "sagerank_inference", "sagerank_infra"}
# Beside the standard library: what the extra `notebooks` brings, and the local AWS.
OTHERS = {"boto3", "IPython.display", "matplotlib", "numpy", "sagemaker", "tests.local_aws"}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path) -> list[nbformat.NotebookNode]:
    return list(nbformat.read(path, as_version=4).cells)


def code(path: Path) -> Iterator[ast.AST]:
    """Every node of the notebook's code; what IPython adds to Python, such as `!` and `%%bash`, as the calls it becomes."""
    for cell in cells(path):
        if cell.cell_type == "code":
            yield from ast.walk(ast.parse(TransformerManager().transform_cell(cell.source)))


def imported(path: Path) -> Iterator[str]:
    for node in code(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def test_they_are_those_of_the_readme() -> None:
    assert NOTEBOOKS
    assert {path.stem for path in NOTEBOOKS} <= set(NAMES)
    listed = re.findall(r"\]\((\w+)\.ipynb\)", (ROOT / "notebooks/README.md").read_text(encoding="utf-8"))
    assert set(listed) <= set(NAMES)
    assert {path.stem for path in NOTEBOOKS} <= set(listed)


@each_notebook
def test_it_is_valid_and_without_outputs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    nbformat.validate(nbformat.reads(text, as_version=4))
    assert text == stripped(text), "Take the outputs out: python -m tests.notebooks --strip"


@each_notebook
def test_it_defines_nothing_and_imports_what_is_installed(path: Path) -> None:
    defined = [node for node in code(path) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)]
    assert not defined
    for name in imported(path):
        standard = name.partition(".")[0] in sys.stdlib_module_names
        assert standard or f"{name}.".startswith(tuple(f"{each}." for each in OURS | OTHERS)), name


@each_notebook
def test_it_says_what_it_takes_and_cleans_up(path: Path) -> None:
    first, *_ = found = cells(path)
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert "**Time:**" in first.source
    assert re.search(r"\*\*Cost( on AWS)?:\*\*", first.source)
    assert any("What you saw" in cell.source for cell in found if cell.cell_type == "markdown")
    (last,) = [number for number, cell in enumerate(found) if "## Clean up" in cell.source]
    assert any(cell.cell_type == "code" for cell in found[last:])
    assert not any(re.search("^## ", cell.source, re.M) for cell in found[last + 1 :])


@each_notebook
def test_its_links_lead_somewhere(path: Path) -> None:
    for cell in cells(path):
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\(((?!https?:)[^)\s#]+)", cell.source):
                assert (path.parent / link).exists() or Path(link).stem in NAMES, link


def commands(path: Path) -> Iterator[str]:
    """What follows `sagerank` in shell cells, and in sentences that quote it with options."""
    for cell in cells(path):
        if cell.cell_type == "markdown":
            yield from re.findall(r"`sagerank ([^`]* -[^`]*)`", cell.source)
        else:
            yield from re.findall(r"^!?sagerank (.+)", cell.source, re.M)


@each_notebook
def test_its_sagerank_commands_are_accepted(path: Path) -> None:
    for command in commands(path):
        if "--help" not in command:
            read(command)


def test_the_walkthroughs_commands_touch_no_deployment_of_its_readers() -> None:
    (path,) = [path for path in NOTEBOOKS if path.stem == "02_deploy_cdk"]
    called = list(commands(path))
    assert {command.split()[0] for command in called} >= {"deploy", "status", "destroy"}
    assert all('"$NAME"' in command for command in called)


def test_the_runner_says_which_cell_failed_and_why(tmp_path: Path) -> None:
    """In the kernel of this interpreter, with another home folder, and without a way to the network."""
    notebook = nbformat.v4.new_notebook()
    look = "import os, sys, urllib.request\nprint(sys.executable, os.environ['HOME'])"
    notebook.cells = [
        nbformat.v4.new_code_cell(look),
        nbformat.v4.new_code_cell(
            "try:\n    urllib.request.urlopen('http://192.0.2.1')\nexcept OSError as error:\n    print(error)"
        ),
        nbformat.v4.new_code_cell("import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=1)"),
    ]
    path, output = tmp_path / "walk.ipynb", tmp_path / "copies/walk.ipynb"
    nbformat.write(notebook, path)
    with pytest.raises(
        NotebookError, match=r"(?s)walk.ipynb: code cell 3 failed.*192.0.2.1 is not this machine"
    ):
        execute(path, output)
    executable, home = cells(output)[0].outputs[0].text.split()
    assert executable == sys.executable
    assert not Path(home).exists()
    assert "refused" in cells(output)[1].outputs[0].text  # by the proxy that is none
