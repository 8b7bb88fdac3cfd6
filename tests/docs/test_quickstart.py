"""docs/quickstart.md, run as it stands: each shell block in one folder, and what it prints beside the block that follows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from .. import golden
from ..conftest import ROOT
from .blocks import blocks

PAGE = ROOT / "docs/quickstart.md"


def commands(folder: Path) -> dict[str, str]:
    """An environment with `sagerank` and `python` of this checkout, 80 columns wide."""
    programs = {"sagerank": f'"{sys.executable}" -P -m sagerank.cli', "python": f'"{sys.executable}" -P'}
    folder.mkdir()
    for name, call in programs.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        (folder / name).chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    # Never set up for AWS, whatever its user has: a dry run would ask there.
    kept = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
    nowhere = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), str(folder / "none"))
    own = {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80"}
    return {**kept, **nowhere, **own, "AWS_EC2_METADATA_DISABLED": "true"}


def shown(printed: str, before: str) -> str:
    """What a page shows of an output: all, or as many lines as it has before its `...`."""
    lines = [re.sub(r"\d+ days", "N days", line.rstrip()) for line in printed.splitlines()]
    kept = before.splitlines()
    if "..." in kept:
        lines = [*lines[: kept.index("...") or 12], "..."]
    return "\n".join([*lines, ""])


def test_the_quick_start_prints_what_it_says(tmp_path: Path) -> None:
    environment = commands(tmp_path / "bin")
    page, printed = PAGE.read_text(encoding="utf-8"), ""
    ran = 0
    for block in blocks(page):
        if block.mark:
            continue
        if block.language == "sh":
            done = subprocess.run(
                ["sh", "-e", "-c", block.text],
                cwd=tmp_path,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=300,
            )
            assert done.returncode == 0, done.stdout
            printed, ran = done.stdout, ran + 1
        if block.language == "text":
            page = page.replace(f"```text\n{block.text}```", f"```text\n{shown(printed, block.text)}```", 1)
            assert max(map(len, printed.splitlines())) > 0
    assert ran == 3
    golden.check(page, PAGE)
