"""The tests of what differs from main, one path a line, for `make check`; nothing where the whole suite is needed.

A source's tests mirror its path: `sagerank/bench/load.py` has `tests/sagerank/bench/test_load.py`, or else one of
its folders has (`tests/sagerank/test_bench.py`, `tests/sagerank/bench/`). A source without those is tested by what
imports it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent
# Fast, and about all files at once.
ALWAYS = {"tests/test_boundaries.py", "tests/test_docs.py"}
_PAGES = re.compile(
    r".*\.md|mkdocs\.yml|LICENSE|\.github/.*|\.devcontainer/.*|\.ci/.*|\.pre-commit-config\.yaml|\.gitignore"
)
# Folders whose tests are about all of them.
_WHOLE = {
    "docs": {"tests/docs"},
    "examples": {f"tests/test_{name}.py" for name in ("examples", "compose", "prometheus")},
    "notebooks": {"tests/test_notebooks.py"},
}


def affected(changed: Iterable[str], root: Path = ROOT) -> set[str] | None:
    """Test files and folders for changed files, all relative to `root`; None for the whole suite."""
    chosen = set(ALWAYS)
    for name in changed:
        tests = _tests_of(PurePosixPath(name), root)
        if not tests:
            return None
        chosen |= tests
    return chosen


def _tests_of(path: PurePosixPath, root: Path) -> set[str]:
    whole = _WHOLE.get(path.parts[0], set())
    if whole or _PAGES.fullmatch(str(path)):
        return ALWAYS | whole
    if path.parts[0] == "tests":
        if path.name.startswith("test_"):
            # A deleted one has nothing left to run.
            return {str(path)} if (root / path).exists() else ALWAYS
        # Fixtures and golden files of a room: the room. Those of all rooms: everything.
        return {"/".join(path.parts[:2])} if len(path.parts) > 2 and path.parts[1] != "local_aws" else set()
    if path.suffix != ".py" or len(path.parts) < 2:
        return set()
    # inference/sagerank_inference/plan.py is the module sagerank_inference.plan; tests/inference/ has its tests.
    nested = path.parts[1] == f"sagerank_{path.parts[0]}"
    folder = PurePosixPath("tests", path.parts[0], *path.parent.parts[2 if nested else 1 :])
    mirrors = [folder / f"test_{path.stem}.py"]
    while len(folder.parts) > 2:
        mirrors += [folder.parent / f"test_{name}.py" for name in (path.stem, folder.name)] + [folder]
        folder = folder.parent
    for mirror in mirrors:
        if (root / mirror).exists():
            return {str(mirror)}
    return _importers(".".join(path.with_suffix("").parts[1 if nested else 0 :]), root)


def _importers(module: str, root: Path) -> set[str]:
    """Test files that import the module."""
    return {
        path.relative_to(root).as_posix()
        for path in (root / "tests").rglob("test_*.py")
        if module in _imported(path.read_text(encoding="utf-8"))
    }


def _imported(source: str) -> Iterator[str]:
    """What may be a module among the names that a file imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.split("\0" if "-z" in arguments else None)


def changed_files() -> set[str]:
    """Files that differ from the last commit shared with main, committed or not."""
    base = next((sha for name in ("main", "origin/main") for sha in _git("merge-base", "HEAD", name)), "HEAD")
    different = _git("diff", "-z", "--name-only", "--no-renames", base)
    return {name for name in (*different, *_git("ls-files", "-z", "--others", "--exclude-standard")) if name}


if __name__ == "__main__":
    files = changed_files()
    tests = affected(files)
    listed = "the whole suite" if tests is None else " ".join(sorted(tests))
    sys.stderr.write(f"{len(files)} files differ from main: {listed}\n")
    sys.stdout.writelines(f"{test}\n" for test in sorted(tests or ()))
