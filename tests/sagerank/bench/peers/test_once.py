"""Folders that are made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sagerank.bench.peers.once import once


def test_what_was_killed_on_the_way_is_made_again(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from sagerank.bench.peers.once import once\n"
        "once(Path(sys.argv[1]), lambda folder: ((folder / 'half').touch(), os._exit(9)))"
    )
    folder = tmp_path / "made"
    assert subprocess.run([sys.executable, "-c", code, folder], check=False).returncode == 9
    assert (folder / "half").exists()
    assert once(folder, lambda folder: (folder / "whole").touch()) == folder
    assert not (folder / "half").exists()
    once(folder, lambda folder: pytest.fail("made twice"))
