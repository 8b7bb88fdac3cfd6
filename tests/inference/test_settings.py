"""How many cores there are to use, on whatever system, and that reading it asks for nothing that a system lacks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sagerank_inference.settings import physical_cores

from ..conftest import run_python

V2 = "0::/pod/app\n"
V1 = "12:memory:/pod/app\n4:cpu,cpuacct:/pod/app\n1:name=systemd:/pod/app\n0::/pod/app\n"
EIGHT = {f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": str(cpu) for cpu in range(8)}
PAIRS = {name: f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}\n" for cpu, name in enumerate(EIGHT)}


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        (EIGHT, 8),
        (PAIRS, 4),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ({"sys/fs/cgroup/cpu.max": "300000 100000"}, 3),
        ({**PAIRS, "sys/fs/cgroup/cpu.max": "600000 100000"}, 4),
        ({"sys/fs/cgroup/cpu.max": "250000 100000"}, 2),
        ({"sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        # The process's own group, and each above it: the smallest counts.
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/pod/app/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/pod/cpu.max": "500000 100000"}, 5),
        (
            {
                "proc/self/cgroup": V2,
                "sys/fs/cgroup/pod/app/cpu.max": "max 100000",
                "sys/fs/cgroup/pod/cpu.max": "300000 100000",
                "sys/fs/cgroup/cpu.max": "700000 100000",
            },
            3,
        ),
        # A container that sees its own group at the root, under the path that the host gives it.
        ({"proc/self/cgroup": "0::/docker/0123\n", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
        ({"proc/self/cgroup": "0::/../../other\n", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
        # Version 1.
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/pod/app/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu/pod/app/cpu.cfs_period_us": "50000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/pod/app/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/pod/app/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
    ],
)
def test_cores_are_those_of_affinity_siblings_and_every_quota(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert physical_cores(tmp_path) == cores


def test_a_system_without_affinity_has_all_its_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert physical_cores(tmp_path) == 6


def _without(*names: str, code: str) -> str:
    """Code in a Python that lacks what a system does not have."""
    return f"""
import os, signal, socket, sys
for name in {names!r}:
    for module in (os, signal, socket):
        if hasattr(module, name):
            delattr(module, name)
sys.modules.update(dict.fromkeys({MODULES if "killpg" in names else ()!r}))
{code}
"""


MACOS = ("sched_getaffinity", "sched_setaffinity", "prctl")
WINDOWS = (*MACOS, "killpg", "getuid", "geteuid", "fork", "setsid", "SIGKILL", "SIGSTOP", "AF_UNIX")
MODULES = ("fcntl", "termios", "resource", "pwd", "grp")


@pytest.mark.parametrize("names", [MACOS, WINDOWS], ids=["macOS", "Windows"])
def test_what_clients_and_builds_import_needs_no_linux(names: tuple[str, ...]) -> None:
    modules = ("settings", "contract", "artefact", "checkpoint", "dialects", "plan", "engine", "handler")
    code = f"import {', '.join(f'sagerank_inference.{name}' for name in modules)}"
    check = "assert sagerank_inference.settings.Settings.from_env({}).threads >= 1"
    done = run_python(_without(*names, code=f"{code}\n{check}"))
    assert done.returncode == 0, done.stderr
