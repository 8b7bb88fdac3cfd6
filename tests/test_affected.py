"""`make check` runs the tests of what changed, and everything where it cannot tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from .affected import ALWAYS, affected


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (
        "inference/test_plan.py",
        "inference/test_dialects.py",
        "cost/test_bill.py",
        "sagerank/bench/test_load.py",
        "sagerank/test_cli.py",
    ):
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("from sagerank_inference import contract, settings\n")
    (tmp_path / "tests/sagerank/test_cli.py").write_text("from sagerank.demo import demonstrate\n")
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        ("inference/sagerank_inference/plan.py", {"tests/inference/test_plan.py"}),
        ("inference/sagerank_inference/dialects/jina.py", {"tests/inference/test_dialects.py"}),
        ("sagerank/bench/load.py", {"tests/sagerank/bench/test_load.py"}),
        ("sagerank/bench/memory.py", {"tests/sagerank/bench"}),
        ("sagerank/demo.py", {"tests/sagerank/test_cli.py"}),
        ("tests/inference/test_plan.py", {"tests/inference/test_plan.py"}),
        ("tests/cost/golden/report.txt", {"tests/cost"}),
        ("tests/inference/test_deleted.py", set()),
        ("docs/server.md", {"tests/docs"}),
        ("cost/README.md", set()),
        ("examples/rag.py", {f"tests/test_{name}.py" for name in ("examples", "compose", "prometheus")}),
        ("notebooks/04_cost.ipynb", {"tests/test_notebooks.py"}),
    ],
)
def test_a_change_runs_its_own_tests(changed: str, tests: set[str], checkout: Path) -> None:
    assert affected([changed], checkout) == ALWAYS | tests


def test_a_module_without_tests_of_its_own_runs_those_of_its_importers(checkout: Path) -> None:
    chosen = affected(["inference/sagerank_inference/settings.py"], checkout)
    assert chosen is not None
    assert {"tests/inference/test_plan.py", "tests/cost/test_bill.py"} < chosen
    assert "tests/sagerank/test_cli.py" not in chosen


@pytest.mark.parametrize(
    "changed",
    ["pyproject.toml", "Makefile", "tests/conftest.py", "tests/local_aws/docker.py", "sagerank/nobody.py"],
)
def test_what_cannot_be_mapped_runs_everything(changed: str, checkout: Path) -> None:
    assert affected(["docs/server.md", changed], checkout) is None


def test_nothing_changed_runs_what_is_about_all_files(checkout: Path) -> None:
    assert affected([], checkout) == ALWAYS
