"""Remove what a local AWS leaves behind: its containers, podman in the midst of a pull, a start or a build, and its folder.

The folder says what is its own: the store of a container, the settings that a podman was started with. Nothing else of this machine's
is touched. Whoever needs a folder holds a lock on it, which the kernel takes back however that process ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from containers.engine import podman

_PREFIX = "local-aws-store-"
_GONE = "-gone"
# What changes the folder, and so has to end before it is swept; and what stays with a container.
_WRITERS = frozenset(
    {"podman", "buildah", "skopeo", "exe", "docker-registry"}
)  # exe: what podman starts of itself
_ALL = _WRITERS | {"conmon", "runc"}


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder of a local AWS, after those of local AWSs that are no more are removed; at the end it is gone, too."""
    leftovers()
    made = Path(tempfile.mkdtemp(prefix=_PREFIX))
    held = hold(made)
    try:
        (made / "auth.json").write_text("{}", encoding="utf-8")  # podman wants the file that is named
        yield made
    finally:
        # The registry's process removes it, unless there is none yet or any more.
        while made.exists():
            with suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                sweep(made)
            time.sleep(0.05)
        os.close(held)


def hold(folder: Path) -> int:
    """Keep others from taking a folder for a leftover while this process lives; the open file that does."""
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    return held


def leftovers() -> None:
    """Sweep the folders that no process holds."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Without it, whoever made it has not got round to hold it.
        if not (left / "auth.json").exists() and not left.name.endswith(_GONE):
            continue
        with suppress(OSError):  # another one took it first, or holds it
            held = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                sweep(left)
            finally:
                os.close(held)


def sweep(folder: Path) -> None:
    """Remove the containers, what they mounted, and the folder; the files in it take a while, which nobody need wait for."""
    _end(folder, _WRITERS)
    store = folder / "instances"
    if store.exists():
        # The store's own options: podman takes the machine's store where settings that are named are not there.
        own = ("--root", str(store), "--runroot", f"{store}-run", "--storage-driver", "overlay")
        for _ in range(2):  # of a container without its monitor podman finds that out in the first
            with suppress(OSError, subprocess.SubprocessError):
                podman().run(*own, "rm", "--all", "--force", "--time", "0", seconds=60)
    _end(folder, _ALL)  # of a start that podman had not written down
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for mount in sorted((each for each in mounts if each.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    gone = folder if folder.name.endswith(_GONE) else folder.rename(f"{folder}{_GONE}")
    shutil.rmtree(gone, ignore_errors=True)


def _end(folder: Path, names: frozenset[str], seconds: float = 20) -> None:
    """Kill the folder's processes of these names, until there is none: each may have started another."""
    deadline = time.monotonic() + seconds
    while (found := list(processes(folder, names))) and time.monotonic() < deadline:
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def processes(folder: Path, names: frozenset[str] = _ALL) -> Iterator[int]:
    """The processes of these names that work in a folder's stores, and with all of them those in its containers."""
    own = f"{folder}/".encode()
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            named = (each / "comm").read_text().strip() in names
            words = [
                *(each / "cmdline").read_bytes().split(b"\0"),
                *(each / "environ").read_bytes().split(b"\0"),
            ]
            if (
                named
                and any(word.removeprefix(b"CONTAINERS_STORAGE_CONF=").startswith(own) for word in words)
            ) or (names == _ALL and _inside(each, folder)):
                yield int(each.name)


def _inside(process: Path, folder: Path) -> bool:
    """Whether its root is a layer of the folder's stores."""
    for line in (process / "mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.split(maxsplit=5)[4] == "/":
            return f"upperdir={folder}/" in line
    return False
