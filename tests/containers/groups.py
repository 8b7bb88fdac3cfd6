"""Control groups of containers, of version 1, with a tree for each kind of limit, or of version 2, with one for all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from containers.engine import unified

from ..servers import wait_for

GROUPS = Path("/sys/fs/cgroup")


def killed(pid: int, root: Path = Path("/")) -> int:
    """Processes that ended because the memory of a process's group was full. root: of the files that the kernel shows."""
    lines = (root / f"proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()
    paths = {
        name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")
    }
    kind, name = ("memory", "memory.oom_control") if "memory" in paths else ("", "memory.events")
    tree = root / GROUPS.relative_to("/") / kind
    group = tree / paths[kind].strip("/")
    # A group of version 2 may leave memory to the one that it is in.
    while not (group / name).exists() and group != tree:
        group = group.parent
    said = dict(line.split() for line in (group / name).read_text(encoding="ascii").splitlines())
    return int(said["oom_kill"])


@contextmanager
def one_cpu(name: str) -> Iterator[str]:
    """A group with a quota of one CPU, for containers to be in: its path. Raises OSError where none can be made."""
    folder = (GROUPS if unified() else GROUPS / "cpu") / name
    if unified():
        (GROUPS / "cgroup.subtree_control").write_text("+cpu")
    folder.mkdir()
    file, quota = ("cpu.max", "100000 100000") if unified() else ("cpu.cfs_quota_us", "100000")
    (folder / file).write_text(quota)
    yield f"/{name}"
    # What watched the container ends after it.
    wait_for(lambda: all(map(_removed, (GROUPS / name, *GROUPS.glob(f"*/{name}")))))


def _removed(folder: Path) -> bool:
    with suppress(OSError):
        for inner in (*folder.glob("*/"), folder):
            inner.rmdir()
    return not folder.exists()
