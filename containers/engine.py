"""Docker, or podman in its place: which one there is, and what it has to be told on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

# crun refuses a machine that has control groups of both versions, and systemd is not everywhere.
_CONTAINERS = """\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
# What is written for the engine to read.
FOLDER = Path(__file__).parent.parent / "build" / "containers"


class NoEngine(Exception):
    """Images cannot be built or run here; the text says why and what to install."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A command line that builds and runs images; `environ` is what it needs beside the caller's environment."""

    name: str  # docker or podman
    environ: Mapping[str, str] = field(default_factory=dict)

    def run(
        self,
        *arguments: str,
        input: bytes | None = None,
        seconds: float = 1800,
        folder: Path | None = None,
        through: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command of it, in a folder. Raises subprocess.CalledProcessError, with its output, where it fails.

        through: the words of a command that runs the one which follows.
        """
        return subprocess.run(
            [*through, self.name, *arguments],
            env={**os.environ, **self.environ},
            cwd=folder,
            input=input,
            capture_output=True,
            check=True,
            timeout=seconds,
        )

    def has(self, image: str) -> bool:
        try:
            self.run("image", "inspect", image)
        except subprocess.CalledProcessError:
            return False
        return True


@cache
def find() -> Engine:
    """The engine of this machine. Raises NoEngine."""
    reasons = []
    for engine in (Engine("docker"), podman()):
        try:
            engine.run("info", seconds=60)
        except FileNotFoundError:
            reasons.append(f"there is no {engine.name}")
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            last = (error.stderr or b"").decode(errors="replace").strip().splitlines()
            reasons.append(f"{engine.name} does not answer ({last[-1] if last else 'no reason given'})")
        else:
            return engine
    raise NoEngine(
        f"{' and '.join(reasons)}: start Docker, or install podman, buildah and runc (`.ci/containers` does)."
    )


def podman() -> Engine:
    """Podman, with settings of this checkout in place of the machine's where it is run by root."""
    return Engine("podman", podman_environment())


def podman_environment() -> dict[str, str]:
    """What podman, buildah and skopeo read their settings from; a user's own settings stay as they are."""
    if os.geteuid() != 0 or "CONTAINERS_CONF" in os.environ or not shutil.which("runc"):
        return {}
    FOLDER.mkdir(parents=True, exist_ok=True)
    written = settled(FOLDER / "containers.conf", _CONTAINERS)
    return {"CONTAINERS_CONF": str(written), "BUILDAH_ISOLATION": "chroot"}


def settled(file: Path, text: str) -> Path:
    """Write the text of a file in a folder, where it is another; who reads it meanwhile sees it whole, or as it was."""
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
            whole = Path(scratch, file.name)
            whole.write_text(text, encoding="utf-8")
            whole.replace(file)
    return file


def options(flag: str, values: Mapping[str, str] | Sequence[str]) -> Iterator[str]:
    """Spell `flag` once for each value, or for each name=value."""
    pairs = [f"{name}={text}" for name, text in values.items()] if isinstance(values, Mapping) else values
    for each in pairs:
        yield from (flag, each)
