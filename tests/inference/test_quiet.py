"""Telemetry of others is off before they are loaded, unless somebody wants it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sagerank_inference import quiet

from ..conftest import ROOT, alone, run_python

NAME = "ORT_DISABLE_TELEMETRY"


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("", "1"), ("0", "0"), ("yes", "yes")])
def test_what_is_set_stays(before: str | None, after: str, tmp_path: Path) -> None:
    given = {} if before is None else {NAME: before}
    env = alone(ROOT / "inference") | {"HOME": str(tmp_path), "CI": "1"} | given
    code = f"import os, sagerank_inference.onnx_model; print(os.environ[{NAME!r}])"
    done = run_python(code, env=env)
    assert done.stdout.strip() == after, done.stderr


def test_only_what_is_needed_is_set_in_an_application(tmp_path: Path) -> None:
    """Its other libraries are its own, and a client sets nothing at all."""
    code = (
        "import os; before = dict(os.environ); import sagerank.client; assert os.environ == before\n"
        "import sagerank_inference.engine, sagerank_inference.onnx_model\n"
        "print(sorted(os.environ.keys() - before.keys()))"
    )
    done = run_python(code, env=alone(ROOT, ROOT / "inference") | {"HOME": str(tmp_path)})
    assert done.stdout.strip() == str(sorted(quiet.ONNX_RUNTIME)), done.stderr


def test_onnx_runtime_is_imported_in_one_place() -> None:
    """The peers' two programs run by other interpreters, which are given the variables, and one runs inside the image, which has them."""
    elsewhere = {
        "sagerank/bench/peers/runner.py",
        "sagerank/bench/peers/prepare.py",
        "tests/containers/inside.py",
    }
    folders = (
        "containers",
        "cost",
        "docs",
        "examples",
        "inference",
        "infra",
        "notebooks",
        "sagerank",
        "tests",
    )
    importing = {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".ipynb") and "node_modules" not in path.parts
        if re.search(r'^[ "]*(import|from) onnxruntime', path.read_text(encoding="utf-8"), re.M)
    }
    assert importing == elsewhere | {"inference/sagerank_inference/onnx_runtime.py"}
