"""A virtual environment for a peer, made on demand of pinned packages."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..process import PYTHON, completed, last_words
from .catalogue import PeerError
from .once import once


def environment(
    requirements: Sequence[str], cache: Path, *, name: str = "peer", without: Sequence[str] = ()
) -> Path:
    """The interpreter of an environment under `cache` that holds `requirements`, without the packages of `without`.

    Equal ones are installed once, whatever the name. pip runs with its own configuration (index, certificates,
    constraints), from this machine's environment. Raises PeerError with pip's last words.
    """
    version = f"python {sys.version_info.major}.{sys.version_info.minor}"
    text = "\n".join([version, *sorted(requirements), *(f"not {package}" for package in sorted(without))])
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    made = next((cache / "environments").glob(f"*-{key}"), cache / "environments" / f"{name}-{key}")

    def install(folder: Path) -> None:
        python = folder / "bin" / "python"
        _run([*PYTHON, "-m", "venv", str(folder)], f"The environment of {name} cannot be made")
        pip = [str(python), "-P", "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
        _run([*pip, "install", *requirements], f"{name} cannot be installed")
        if without:
            _run([*pip, "uninstall", "--yes", *without], f"{', '.join(without)} cannot be removed")

    return once(made, install) / "bin" / "python"


def isolated(**more: str) -> dict[str, str]:
    """The environment variables of this process without what would show our packages to another interpreter."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in hidden} | more


def _run(command: list[str], failure: str) -> None:
    done = completed(command, env=isolated())
    if done.returncode:
        errors = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("WARNING"))
        raise PeerError(f"{failure}: {last_words(errors, f'pip ended with {done.returncode}')}")
