"""Environments that are made on demand."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from sagerank.bench.peers import PeerError
from sagerank.bench.peers.environment import environment


def wheel(folder: Path, name: str) -> None:
    """A package without dependencies, as pip installs it."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "WORD = 'here'\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


def test_an_environment_is_redone_after_a_failure_and_then_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip is configured by this process's environment, here to a folder as its only index."""
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))
    users = tmp_path / "users"
    users.mkdir()
    for name in ("venv", "pip", "json", "ensurepip"):
        (users / f"{name}.py").write_text("open('executed', 'w')\n")
    monkeypatch.chdir(users)
    pins = ("onepeer==1.0", "itsvision==1.0")
    with pytest.raises(
        PeerError, match=r"^first cannot be installed: .*No matching distribution found for onepeer==1.0"
    ):
        environment(pins, tmp_path, name="first", without=("itsvision",))
    wheel(packages, "onepeer")
    wheel(packages, "itsvision")
    python = environment(pins, tmp_path, name="first", without=("itsvision",))
    code = "import importlib.util as u, onepeer; print(onepeer.WORD, u.find_spec('itsvision'), u.find_spec('sagerank'))"
    done = subprocess.run(
        [python, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["here", "None", "None"]
    shutil.rmtree(packages)
    # Nothing is left to install from: it is the same one, whoever asks, in whatever order.
    assert environment(pins[::-1], tmp_path, name="second", without=("itsvision",)) == python
    assert not (users / "executed").exists(), "a file of the current directory was taken for a module"
