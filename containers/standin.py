"""A stand-in for the base image where no image registry is reached: Debian 12 with its own Python 3.11, from Debian's packages.

    python -m containers.standin [--arch arm64]

It is larger than `python:3.11-slim` and has Debian's Python, so sizes are measured without the base. Debian's mirror is the one
that apt is configured with.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .engine import Engine, NoEngine, podman

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SUITE = "bookworm"
# Debian's Python has no `python`, and refuses pip outside of an environment; the image's has both.
_AS_IN_THE_IMAGE = "rm -f /usr/lib/python3*/EXTERNALLY-MANAGED && ln -sf python3 /usr/bin/python"


def name(arch: str) -> str:
    return f"localhost/sagerank-base:{arch}"


def reason() -> str:
    """Why none can be made here; empty where one can."""
    if not shutil.which("mmdebstrap"):
        return "there is no mmdebstrap: `.ci/containers` installs it"
    if not Path(_KEYRING).exists():
        return f"there is no {_KEYRING}: install debian-archive-keyring"
    return ""


def ensure(arch: str = "amd64", engine: Engine | None = None) -> str:
    """Make the stand-in unless it is there, and return its name.

    arch: amd64, or arm64, which takes minutes under emulation. engine: whose store has it, else podman's, which tests run with.
    Raises NoEngine, and subprocess.CalledProcessError where a command fails.
    """
    engine = engine or podman()
    if not engine.has(name(arch)):
        if why := reason():
            raise NoEngine(f"No stand-in for the base image can be made: {why}.")
        _make(engine, arch)
    return name(arch)


def _make(engine: Engine, arch: str) -> None:
    with tempfile.TemporaryDirectory(prefix="sagerank-base-") as scratch:
        archive = Path(scratch) / "base.tar"
        subprocess.run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                f"--architectures={arch}",
                "--include=python3,python3-pip,python3-venv,ca-certificates",
                f"--customize-hook=chroot \"$1\" sh -c '{_AS_IN_THE_IMAGE}'",
                _SUITE,
                str(archive),
                f"deb [signed-by={_KEYRING}] {_mirror()} {_SUITE} main",
            ],
            check=True,
        )
        of = ("--platform", f"linux/{arch}") if engine.name == "docker" else ("--os", "linux", "--arch", arch)
        engine.run("import", *of, str(archive), name(arch))


def _mirror() -> str:
    sites = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    found = (line.split(" ", 1)[1] for line in sites if line.startswith(f"{_SUITE} "))
    return next(found, "http://deb.debian.org/debian")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m containers.standin", description="Make a base image.")
    parser.add_argument("--arch", choices=("amd64", "arm64"), default="amd64")
    try:
        sys.stdout.write(f"{ensure(parser.parse_args().arch)}\n")
    except (NoEngine, OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
