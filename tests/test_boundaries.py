"""Who may import whom: a table of rooms, no circle of files, and what a light import must not load."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.util import find_spec

import pytest

from .conftest import ROOT, run_python

PACKAGES = {
    "sagerank": ROOT / "sagerank",
    "sagerank_inference": ROOT / "inference/sagerank_inference",
    "sagerank_cost": ROOT / "cost/sagerank_cost",
    "sagerank_infra": ROOT / "infra/sagerank_infra",
}
MODULES = {
    ".".join((name, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): path
    for name, folder in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
}

_CLIENT = {"sagerank_inference", "sagerank.client"}
_MODELS = {"sagerank_inference", "sagerank_cost", "sagerank.models"}
# A room, and the other rooms that its files may import. What is not here is a file of the command line, which may import them all.
ARROWS = {
    "sagerank_inference": set[str](),
    "sagerank_cost": set[str](),
    "sagerank_infra": {"sagerank_inference", "sagerank_cost"},
    "sagerank.client": {"sagerank_inference"},
    "sagerank.models": {"sagerank_inference", "sagerank_cost"},
    "sagerank.evaluation": _CLIENT | _MODELS,
    "sagerank.distillation": _CLIENT | _MODELS | {"sagerank.evaluation"},
    "sagerank.bench": _MODELS | {"sagerank.evaluation"},
    "sagerank.hf": _MODELS - {"sagerank_cost"},
    "sagerank.adapters": _CLIENT | {"sagerank.models"},
    "sagerank.sagemaker": _CLIENT | _MODELS | {"sagerank.distillation", "sagerank.operate", "sagerank_infra"},
    "sagerank.operate": _CLIENT | _MODELS | {"sagerank_infra"},
}
# The client is files and not a folder: applications import it by these names.
_ROOM_OF = dict.fromkeys(
    ("sagerank", "sagerank.aws", "sagerank.client", "sagerank.transport", "sagerank.wire", "sagerank.errors"),
    "sagerank.client",
)


def room(module: str) -> str:
    if module in _ROOM_OF:
        return _ROOM_OF[module]
    return next((name for name in ARROWS if module == name or module.startswith(f"{name}.")), "command line")


def imports(module: str) -> Iterator[str]:
    """The full name of every module that a file imports, wherever the import stands in it."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            names = {f"{source}.{alias.name}" for alias in node.names}
            # `from package import module` names a file; anything else is a name inside `source`.
            yield from (names & MODULES.keys()) or {source}


@pytest.mark.parametrize("module", MODULES)
def test_arrows_go_down(module: str) -> None:
    here = room(module)
    if here not in ARROWS:
        return
    rooms = {room(name) for name in imports(module) if name in MODULES}
    assert rooms <= ARROWS[here] | {here}, f"{here} may not import {sorted(rooms - ARROWS[here] - {here})}"


def test_no_circle_of_files() -> None:
    TopologicalSorter({module: set(imports(module)) & MODULES.keys() for module in MODULES}).prepare()


@pytest.mark.parametrize("module", sorted(name for name in MODULES if room(name) == "sagerank_infra"))
def test_infra_asks_for_prices_and_settings_in_one_file_each(module: str) -> None:
    asked = {name.partition(".")[0] for name in imports(module)} & {"sagerank_cost", "sagerank_inference"}
    allowed = {
        "estimate": {"sagerank_cost"},
        "instances": {"sagerank_cost"},
        "environment": {"sagerank_inference"},
        "fitting": {"sagerank_inference"},  # which reads archives
        "image": {"sagerank_inference"},
    }
    assert asked <= allowed.get(module.rpartition(".")[2], set())


LIGHT = tuple(
    f"sagerank_inference.{name}."
    for name in ("contract", "settings", "plan", "checkpoint", "artefact", "dialects")
)


@pytest.mark.parametrize("module", [name for name in MODULES if f"{name}.".startswith(LIGHT)])
def test_the_light_modules_are_standard_library(module: str) -> None:
    top = {name.partition(".")[0] for name in imports(module)}
    assert top <= sys.stdlib_module_names | {"sagerank_inference"}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("sagerank.client", ["torch", "onnxruntime", "numpy", "tokenizers", "boto3", "starlette"]),
        ("sagerank.cli", ["torch", "onnxruntime", "numpy", "tokenizers", "boto3", "starlette"]),
        ("sagerank_cost.commands", ["numpy", "rich", "matplotlib", "boto3"]),
        ("sagerank_cost.memory", ["numpy", "rich", "matplotlib", "boto3"]),
        # It starts the model's process before it imports what serves requests, none of which that process needs.
        (
            "sagerank_inference.server",
            ["onnxruntime", "numpy", "tokenizers", "asyncio", "starlette", "uvicorn"],
        ),
        ("sagerank_inference.worker", ["onnxruntime", "numpy", "tokenizers", "asyncio"]),
        ("sagerank_inference.engine", ["onnxruntime", "torch", "asyncio", "sagerank_inference.dialects"]),
        ("sagerank_inference.handler", ["torch", "onnxruntime", "starlette", "onnx"]),
    ],
)
def test_light_imports_stay_light(module: str, heavy: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = run_python(code)
    assert done.stdout.strip() == "[]", done.stderr


def test_importing_is_silent() -> None:
    modules = [
        "sagerank.cli",
        "sagerank.client",
        "sagerank_inference.server",
        "sagerank_inference.handler",
        "sagerank_inference.engine",
        "sagerank_cost.reports.simulation",
        *(["sagerank.distillation.train"] if find_spec("torch") else []),
    ]
    done = run_python(f"import {', '.join(modules)}")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
