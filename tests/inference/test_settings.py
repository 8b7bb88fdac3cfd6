"""What the environment may say, and how many cores there are to use, on whatever system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sagerank_inference.settings import Settings, SettingsError, physical_cores

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


@pytest.mark.parametrize(
    "variables",
    [
        # As Kubernetes writes them for services called sagerank, sagerank-foo and sagerank-max-documents.
        {
            "SAGERANK_SERVICE_HOST": "10.0.0.11",
            "SAGERANK_SERVICE_PORT": "8080",
            "SAGERANK_SERVICE_PORT_HTTP": "8080",
            "SAGERANK_PORT": "tcp://10.0.0.11:8080",
            "SAGERANK_PORT_8080_TCP": "tcp://10.0.0.11:8080",
            "SAGERANK_PORT_8080_TCP_PROTO": "tcp",
            "SAGERANK_PORT_8080_TCP_PORT": "8080",
            "SAGERANK_PORT_8080_TCP_ADDR": "10.0.0.11",
            "SAGERANK_PORT_53_UDP": "udp://[fd00::b]:53",
        },
        {
            "SAGERANK_FOO_SERVICE_HOST": "10.0.0.12",
            "SAGERANK_FOO_SERVICE_PORT_GRPC_WEB": "80",
            "SAGERANK_FOO_PORT": "sctp://10.0.0.12:80",
            "SAGERANK_FOO_PORT_80_SCTP": "sctp://10.0.0.12:80",
            "SAGERANK_MAX_DOCUMENTS_PORT": "tcp://10.0.0.13:80",
        },
    ],
)
def test_what_kubernetes_says_of_services_is_no_setting(variables: dict[str, str]) -> None:
    assert Settings.from_env(variables) == Settings.from_env({})
    assert Settings.from_env({**variables, "SAGEMAKER_BIND_TO_PORT": "9000"}).port == 9000
    assert Settings.from_env({**variables, "SAGERANK_THREADS": "3"}).threads == 3


@pytest.mark.parametrize(
    ("variable", "text", "reason"),
    [
        ("SAGERANK_FOO_PORT", "8080", "SAGERANK_FOO_PORT is not a setting"),
        ("SAGERANK_SERVICE_PORTS", "8080", "SAGERANK_SERVICE_PORTS is not a setting"),
        ("SAGERANK_PORT_TCP", "8080", "did you mean SAGERANK_PORT?"),
        ("SAGERANK_PORT", "http://10.0.0.11:8080", "give a whole number"),
        ("SAGERANK_" + "X" * 100_000, "1", "is not a setting: known are"),
        ("SAGERANK_DRAIN_SECONDS", "inf", "give a number"),
        ("SAGERANK_DRAIN_SECONDS", "nan", "give a number"),
        ("SAGERANK_DRAIN_SECONDS", "1e400", "give at most 2147483647"),
        ("SAGERANK_REQUEST_SECONDS", "1e300", "give at most 2147483647"),
        ("SAGERANK_DRAIN_SECONDS", "-1", "is -1.0: give a positive number"),
        ("SAGERANK_DRAIN_SECONDS", "1_0", "give a number"),
        ("SAGERANK_DRAIN_SECONDS", "\u0663", "give a number"),
        ("SAGERANK_MAX_TOKENS", "8_192", "give a whole number"),
        ("SAGERANK_MAX_TOKENS", "\u0663\u0664", "give a whole number"),
        ("SAGERANK_MAX_TOKENS", "9" * 5000, "give a whole number"),
        ("SAGERANK_MAX_TOKENS", "9" * 18, "give at most 2147483647"),
        ("SAGERANK_BATCH_TOKENS", "-5", "give a positive number"),
        ("SAGERANK_THREADS", "1025", "give at most 1024"),
        ("SAGERANK_PORT", "65536", "give at most 65535"),
        ("SAGERANK_PORT", "0", "give a positive number"),
        ("SAGEMAKER_BIND_TO_PORT", "eighty", "SAGEMAKER_BIND_TO_PORT is 'eighty': give a whole number"),
        ("SAGEMAKER_BIND_TO_PORT", "99999", "SAGEMAKER_BIND_TO_PORT is 99999: give at most 65535"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "0", "SAGEMAKER_MODEL_SERVER_WORKERS is 0: give a positive"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "9" * 5000, "give a whole number"),
        ("SAGERANK_HOST", "127.0.0.1 ", "give one address or name"),
        ("SAGERANK_HOST", "a b", "give one address or name"),
        ("SAGERANK_HOST", "a\0b", "give one address or name"),
        ("SAGERANK_HOST", "\udcff", "give one address or name"),
        ("SAGERANK_MANIFEST_SHA256", "A" * 64, "give 64 hexadecimal digits"),
        ("SAGERANK_MODEL_DIR", "a\0b", "give the path of a folder"),
        ("SAGERANK_DEVICE", "cuda:x", "give cpu, cuda or cuda:N"),
        ("SAGERANK_BACKEND", "onnx" * 100_000, "give onnx or torch"),
        *(
            (f"SAGERANK_{name}", "", "is empty")
            for name in ("HOST", "MODEL_DIR", "PORT", "DRAIN_SECONDS", "DEVICE")
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(variable: str, text: str, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({variable: text})
    assert reason in str(caught.value)
    assert variable[:100] in str(caught.value)
    assert len(str(caught.value)) < 900


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), (" 1.5\n", 1.5), (".5", 0.5), ("1e3", 1000), ("2.", 2)]
)
def test_numbers_as_people_write_them(text: str, seconds: float) -> None:
    assert Settings.from_env({"SAGERANK_DRAIN_SECONDS": text}).drain_seconds == seconds


def test_what_settings_write_they_read() -> None:
    settings = Settings(request_seconds=1e-7, drain_seconds=2.0**31 - 1, threads=2, model_dir=Path("a b"))
    assert Settings.from_env(settings.to_env()) == settings


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
