"""Who may import whom."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import run_python

ROOT = Path(__file__).parent.parent
OURS = {"sagerank", "inference", "infra", "cost", "evaluation", "distillation"}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Level and module of every import, wherever it stands in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


@pytest.mark.parametrize("path", sorted((ROOT / "inference").glob("*.py")), ids=lambda path: path.stem)
def test_inference_ships_alone(path: Path) -> None:
    for level, module in imports(path):
        assert level == 1 or module.split(".")[0] not in OURS, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", sorted((ROOT / "infra").glob("*.py")), ids=lambda path: path.stem)
def test_infra_asks_cost_in_one_file_and_the_container_for_its_settings(path: Path) -> None:
    ours = {module for level, module in imports(path) if not level and module.split(".")[0] in OURS}
    allowed = {"estimate": "cost", "environment": "inference.settings"}.get(path.stem, "nothing")
    assert all(module == allowed or module.startswith(f"{allowed}.") for module in ours), ours


@pytest.mark.parametrize("path", sorted((ROOT / "cost").glob("*.py")), ids=lambda path: path.stem)
def test_cost_imports_nothing_of_ours(path: Path) -> None:
    for level, module in imports(path):
        assert level == 1 or module.split(".")[0] not in OURS, f"{path.name} imports {module}"


@pytest.mark.parametrize("name", ["contract", "settings", "plan", "checkpoint", "artefact", "dialects"])
def test_the_light_modules_are_standard_library(name: str) -> None:
    for level, module in imports(ROOT / "inference" / f"{name}.py"):
        assert level or module.split(".")[0] in sys.stdlib_module_names, f"{name} imports {module}"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("sagerank.client", ["torch", "onnxruntime", "numpy", "tokenizers", "boto3", "starlette"]),
        ("sagerank.cli", ["torch", "onnxruntime", "numpy", "tokenizers", "boto3", "starlette"]),
        ("cost.commands", ["numpy", "rich", "matplotlib", "boto3"]),
        ("cost.memory", ["numpy", "rich", "matplotlib", "boto3"]),
        ("inference.server", ["torch", "onnxruntime", "numpy", "onnx"]),
        ("inference.handler", ["torch", "onnxruntime", "starlette", "onnx"]),
    ],
)
def test_light_imports_stay_light(module: str, heavy: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = run_python(code)
    assert done.stdout.strip() == "[]", done.stderr


def test_importing_is_silent() -> None:
    done = run_python(
        "import sagerank.cli, sagerank.client, inference.server, inference.handler, inference.engine, distillation.train, cost.answers"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
