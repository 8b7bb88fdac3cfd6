"""What a deployment needs of this machine: Node.js, Docker, the CDK's command line at the version that package.json pins, a file to write."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import sagerank_infra

from ..models.build import default_cache
from . import OperateError

# Beside the CDK app where it is installed, and at a checkout's root.
_FILES = ("cdk.json", "package.json", "package-lock.json")
OLDEST_NODE = 20  # its major version


def require_writable(file: Path, option: str) -> None:
    """Raise OperateError where a file of that name cannot be written."""
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise OperateError(
            f"{option} is {file}, where no file can be written: give the name of a new file in a folder that is there."
        )


def node() -> None:
    """Raise OperateError unless there is the Node.js that the CDK's library and its command run on."""
    path = shutil.which("node")
    asked = [path, "--version"] if path else None
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout if asked else ""
    major = re.match(r"v(\d+)\.", said)
    if major is None or int(major[1]) < OLDEST_NODE:
        there = f"the one on PATH is {said.strip()}" if major else "there is none on PATH"
        raise OperateError(
            f"The CDK needs Node.js {OLDEST_NODE} or newer, and {there}: install it from https://nodejs.org."
        )


def docker(instead: str = "or give the address of an image in ECR with -c image=") -> None:
    """Raise OperateError unless Docker, or what CDK_DOCKER names in its place, is there and its daemon answers.

    instead: what else can be done about it.
    """
    command = os.environ.get("CDK_DOCKER", "docker")
    if shutil.which(command) is None:
        raise OperateError(
            f"The image is built with Docker, and there is no {command}: install it, {instead}."
        )
    asked = subprocess.run([command, "version"], capture_output=True, check=False)
    if asked.returncode:
        raise OperateError(
            f"The image is built with Docker, and `{command} version` finds no daemon: start it, {instead}."
        )
    # Some systems call podman so.
    if "CDK_DOCKER" not in os.environ and b"podman" in asked.stdout.lower():
        raise OperateError(
            "The image is built with Docker, and docker is podman here: set CDK_DOCKER=podman."
        )
    if Path(command).stem == "docker":
        _buildkit(command, instead)


def _buildkit(command: str, instead: str) -> None:
    """Raise OperateError for a Docker that cannot say which manifest it writes: SageMaker refuses that of others."""
    if os.environ.get("DOCKER_BUILDKIT") == "0":
        raise OperateError(
            f"The image is built with Docker's BuildKit, and DOCKER_BUILDKIT=0 turns it off: unset it, {instead}."
        )
    if subprocess.run([command, "buildx", "version"], capture_output=True, check=False).returncode:
        raise OperateError(
            f"The image is built with Docker's BuildKit, and {command} has no buildx: install docker-buildx-plugin, {instead}."
        )


def cdk() -> tuple[str, Path]:
    """The pinned command, installed once by npm, and the folder of its cdk.json. Raises OperateError where it cannot be had."""
    project = _project()
    command = _command(project)
    if command is None:
        raise OperateError(f"`npm ci` left no cdk in {project}: remove its node_modules, and try again.")
    return command, project


def _project() -> Path:
    """The folder with cdk.json and the command that package-lock.json pins, installed by npm where it is missing.

    That is a checkout's root, or a folder of the cache where there is no checkout: the installed files are not ours to
    write beside.
    """
    package = Path(sagerank_infra.__file__).parent
    if not (package / "cdk.json").is_file():  # not installed: this is a checkout
        root = package.parents[1]
        if _command(root) is None:
            _install(root, root)
        return root
    pinned = hashlib.sha256(b"".join((package / name).read_bytes() for name in _FILES)).hexdigest()[:16]
    folder = default_cache() / "cdk" / pinned
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: another deployment may do the same, or this one be stopped.
        with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as made:
            for name in _FILES:
                shutil.copyfile(package / name, Path(made) / name)
            _install(Path(made), folder)
            try:
                Path(made).rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
    return folder


def _command(project: Path) -> str | None:
    """The pinned command, never another that PATH may hold."""
    return shutil.which("cdk", path=project / "node_modules/.bin")


def _install(folder: Path, shown: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise OperateError(
            f"The CDK's command line needs Node.js {OLDEST_NODE} or newer with npm: install it from https://nodejs.org."
        )
    sys.stderr.write(f"Installing the CDK's command line into {shown} (once)\n")
    done = subprocess.run(
        # Without a network it would try for more than a minute.
        [
            npm,
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
            "--fetch-retries=1",
            "--fetch-retry-mintimeout=1000",
        ],
        cwd=folder,
        # No package of others needs to see credentials.
        env={name: text for name, text in os.environ.items() if not name.startswith("AWS_")},
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise OperateError(
            f"`npm ci` for the CDK's command line failed, which needs the npm registry once: {' '.join(done.stderr.split()[-30:])}"
        )
