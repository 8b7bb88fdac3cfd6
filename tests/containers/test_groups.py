"""What the kernel says of a container's group is found in either version, and in what is nested in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .groups import killed

V1 = "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"
V2 = "memory.events", "low 0\nhigh 0\nmax 31\noom 3\noom_kill 2\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("groups", "folder", "file"),
    [
        ("9:name=systemd:/\n4:memory:/libpod/a\n2:cpu,cpuacct:/libpod/a\n", "memory/libpod/a", V1),
        ("4:memory:/libpod/a\n0::/\n", "memory/libpod/a", V1),
        ("0::/libpod/a\n", "libpod/a", V2),
        ("0::/machine.slice/libpod-a.scope/container\n", "machine.slice/libpod-a.scope", V2),
    ],
)
def test_what_memory_ended_is_counted(
    tmp_path: Path, groups: str, folder: str, file: tuple[str, str]
) -> None:
    held = tmp_path / "sys/fs/cgroup" / folder
    held.mkdir(parents=True)
    (held / file[0]).write_text(file[1])
    process = tmp_path / "proc/7"
    process.mkdir(parents=True)
    (process / "cgroup").write_text(groups)
    assert killed(7, tmp_path) == 2
