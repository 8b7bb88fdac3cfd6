"""Another architecture's image on this machine: qemu runs its programs, one at a time, where binfmt_misc knows it.

qemu before 8.1 shows a program for Arm this machine's own /proc/cpuinfo, and ONNX Runtime, which looks for Arm's lines there, dies
of a segmentation fault as it is imported. So an Arm processor's is mounted over it. What the processor can do is asked of qemu, which
says it for the processor that `QEMU_CPU` names; but of a Neoverse N1 ONNX Runtime takes for granted that it has dot products, and dies
of an illegal instruction where the emulated one has none. So the one that is shown is the oldest of Graviton's, which has nothing more.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from shlex import quote

from .engine import FOLDER, settled

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_FORMATS = Path("/proc/sys/fs/binfmt_misc")
_SHOWN = "/proc/cpuinfo"
_PROCESSOR = """\
processor\t: {number}
BogoMIPS\t: 50.00
Features\t: fp asimd
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""  # a Cortex-A72


def emulated(arch: str) -> bool:
    """Whether programs of `arch` (amd64 or arm64) are not this machine's own, and this kernel would hand them to qemu.

    Elsewhere than on Linux containers run in a virtual machine, which has a qemu of its own.
    """
    return platform.system() == "Linux" and platform.machine() != _MACHINES[arch]


def reason(arch: str) -> str:
    """Why no image of `arch` is built or run by podman here; empty where one is."""
    if emulated(arch) and not (_FORMATS / f"qemu-{_MACHINES[arch]}").exists():
        return f"no {arch} here, nor qemu for it: install qemu-user-static and binfmt-support"
    if _shown_another(arch) and os.geteuid() != 0:
        return f"podman needs root to emulate {arch} here: run this as root, or start Docker"
    return ""


def _shown_another(arch: str) -> bool:
    return arch == "arm64" and emulated(arch)


def mounts(arch: str) -> dict[Path, str]:
    """Files of this machine that a container of `arch` has to see, and where: none unless it is an emulated Arm."""
    if not _shown_another(arch):
        return {}
    FOLDER.mkdir(parents=True, exist_ok=True)
    shown = "".join(_PROCESSOR.format(number=number) for number in range(os.cpu_count() or 1))
    return {settled(FOLDER / "cpuinfo-arm64", shown): _SHOWN}


def through(arch: str) -> list[str]:
    """A command that runs a build of `arch`, whose steps see this machine's /proc, with those files in place; it needs root."""
    script = " && ".join(f"mount --bind {quote(str(file))} {where}" for file, where in mounts(arch).items())
    return ["unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh"] if script else []
