"""Docker, or podman in its place: which one there is, and what it has to be told on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

# systemd is not everywhere.
_CONTAINERS = """\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
# crun, which podman takes unless told, refuses a machine that has control groups of both versions.
_RUNC = 'runtime = "runc"\n'
# What is written for the engine to read.
FOLDER = Path(__file__).parent.parent / "build" / "containers"


class NoEngine(Exception):
    """Images cannot be built or run here; the text says why and what to install."""


class EngineError(subprocess.CalledProcessError):
    """A command of the engine failed; the text is what the engine said, and not the command, which may hold secrets."""

    def __str__(self) -> str:
        said = (self.stderr or b"").decode(errors="replace").strip()
        return f"{self.cmd[0]}: {said or f'it ended with {self.returncode} and gave no reason'}"


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
        """Run a command of it, in a folder. Raises EngineError where it fails.

        through: the words of a command that runs the one which follows.
        """
        done = subprocess.run(
            [*through, self.name, *arguments],
            env={**os.environ, **self.environ},
            cwd=folder,
            input=input,
            capture_output=True,
            check=False,
            timeout=seconds,
        )
        if done.returncode:
            command = [self.name, *arguments]
            raise EngineError(done.returncode, command, done.stdout, done.stderr)
        return done

    def has(self, image: str) -> bool:
        try:
            self.run("image", "inspect", image)
        except EngineError:
            return False
        return True


@cache
def find() -> Engine:
    """The engine of this machine. Raises NoEngine."""
    reasons = []
    for engine in (docker(), podman()):
        try:
            engine.run("info", seconds=60)
        except FileNotFoundError:
            reasons.append(f"there is no {engine.name}")
        except (EngineError, subprocess.TimeoutExpired) as error:
            reasons.append(f"{engine.name} does not answer ({str(error).splitlines()[-1]})")
        else:
            return engine
    raise NoEngine(
        f"{' and '.join(reasons)}: start Docker, or install podman and runc (`.ci/containers` does)."
    )


def docker() -> Engine:
    """Docker with BuildKit, also where that has to be asked for, and without attestations, which SageMaker refuses."""
    return Engine("docker", {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"})


def podman() -> Engine:
    """Podman, with settings of this checkout in place of the machine's where it is run by root."""
    return Engine("podman", podman_environment())


def unified() -> bool:
    """Whether this machine's control groups are of version 2 alone."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def podman_environment() -> dict[str, str]:
    """What podman and skopeo read their settings from; a user's own settings stay as they are."""
    if os.geteuid() != 0 or "CONTAINERS_CONF" in os.environ:
        return {}
    FOLDER.mkdir(parents=True, exist_ok=True)
    written = FOLDER / "containers.conf"
    text = _CONTAINERS + (_RUNC if not unified() and shutil.which("runc") else "")
    if not written.exists() or written.read_text(encoding="utf-8") != text:
        written.write_text(text, encoding="utf-8")
    return {"CONTAINERS_CONF": str(written), "BUILDAH_ISOLATION": "chroot"}


def options(flag: str, values: Mapping[str, str] | Sequence[str]) -> Iterator[str]:
    """Spell `flag` once for each value, or for each name=value."""
    pairs = [f"{name}={text}" for name, text in values.items()] if isinstance(values, Mapping) else values
    for each in pairs:
        yield from (flag, each)
