"""Folders that are made once: killed on the way, they are made again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from .catalogue import PeerError

FINISHED = ".finished"


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """`folder`, after `make` has filled it; two processes that ask at the same time make one.

    It is made in its place, since an environment's scripts hold its path. The marker is written last. Raises PeerError
    on Windows, where peers do not run.
    """
    try:
        import fcntl
    except ImportError:
        raise PeerError("Peers run on Linux and macOS: on Windows, measure them in WSL.") from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / FINISHED).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / FINISHED).touch()
    return folder
