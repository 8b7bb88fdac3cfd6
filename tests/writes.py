"""What a program writes, wherever that is: the files and folders that it and its children open to write or make, by strace."""

from __future__ import annotations

import os
import re
from pathlib import Path

# A question mark: not every processor has the older ones.
_CALLS = (
    "?creat,?link,?mkdir,?mknod,?open,?rename,?symlink,"
    "linkat,mkdirat,mknodat,openat,?openat2,?renameat,renameat2,symlinkat,truncate"
)
_TO_WRITE = re.compile(r"O_(WRONLY|RDWR|CREAT|TRUNC)")
# A path behind the folder that it starts from, where the call has one.
_PATH = re.compile(r'(?:<([^>"]*)>, )?"((?:[^"\\]|\\.)*)"')
_LINE = re.compile(r"(\d+) +(<\.\.\. )?(\w+)( resumed>|\()(.*)")
# The kernel's, and no files.
_DEVICES = ("/dev/", "/proc/", "/sys/")


def tracing(report: Path) -> list[str]:
    """What stands before a command so that `written` can read the report of it."""
    return [
        "strace",
        "--follow-forks",
        "--seccomp-bpf",
        "-qq",
        "-y",
        "-o",
        str(report),
        "-e",
        f"trace={_CALLS}",
    ]


def written(report: Path, cwd: Path) -> set[Path]:
    """Paths that were written, or made and removed since. cwd: of the command."""
    found = set[Path]()
    begun: dict[str, str] = {}
    for line in report.read_text(encoding="utf-8", errors="replace").splitlines():
        if not (parts := _LINE.fullmatch(line)):
            continue  # a signal, or an end
        process, resumed, call, _, rest = parts.groups()
        rest = begun.pop(process, "") + rest if resumed else rest
        if rest.endswith("<unfinished ...>"):
            begun[process] = rest.removesuffix("<unfinished ...>")
            continue
        if re.search(r"\) += -1 ", rest) or (call.startswith("open") and not _TO_WRITE.search(rest)):
            continue
        *_, (folder, name) = _PATH.findall(rest)  # of two, the second is made
        path = os.path.normpath(cwd / folder / name)
        if not path.startswith(_DEVICES):
            found.add(Path(path))
    return found
