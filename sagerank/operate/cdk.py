"""The CDK's own command line, unmodified, at the version that package.json pins."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sagerank_infra

from ..models.build import default_cache
from . import OperateError

# Beside the CDK app where it is installed, and at a checkout's root.
_FILES = ("cdk.json", "package.json", "package-lock.json")
_NODE = 20  # the oldest major version


@dataclass(frozen=True, slots=True)
class Assembly:
    """A folder of templates. stacks: how many resources of each type; estimate: the month's cost, as the stacks' own output states it."""

    folder: Path
    stacks: Mapping[str, Mapping[str, int]]
    estimate: str

    @classmethod
    def read(cls, folder: Path) -> Assembly:
        artifacts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
        templates: dict[str, Any] = {
            name: json.loads((folder / each["properties"]["templateFile"]).read_text(encoding="utf-8"))
            for name, each in artifacts.items()
            if each["type"] == "aws:cloudformation:stack"
        }
        outputs = {
            key: output["Value"]
            for template in templates.values()
            for key, output in template.get("Outputs", {}).items()
        }
        stacks = {
            name: Counter(resource["Type"] for resource in template["Resources"].values())
            for name, template in templates.items()
        }
        return cls(folder, stacks, str(outputs.get("EstimatedMonthlyCost", "")))


def check() -> None:
    """Raise ModuleNotFoundError where the CDK's library is not installed, without loading it."""
    if importlib.util.find_spec("aws_cdk") is None:
        raise ModuleNotFoundError("No module named 'aws_cdk'", name="aws_cdk")


def require_node() -> None:
    """Raise OperateError unless there is the Node.js that the CDK's library and its command run on."""
    node = shutil.which("node")
    said = (
        subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
        if node
        else ""
    )
    major = re.match(r"v(\d+)\.", said)
    if major is None or int(major[1]) < _NODE:
        found = f"the one on PATH is {said.strip()}" if major else "there is none on PATH"
        raise OperateError(
            f"The CDK needs Node.js {_NODE} or newer, and {found}: install it from https://nodejs.org."
        )


def require_docker() -> None:
    """Raise OperateError unless Docker, or what CDK_DOCKER names in its place, is there and its daemon answers."""
    docker = os.environ.get("CDK_DOCKER", "docker")
    instead = "or give the address of an image in ECR with -c image="
    if shutil.which(docker) is None:
        raise OperateError(
            f"The image is built with Docker, and there is no {docker}: install it, {instead}."
        )
    if subprocess.run([docker, "version"], capture_output=True, check=False).returncode:
        raise OperateError(
            f"The image is built with Docker, and `{docker} version` finds no daemon: start it, {instead}."
        )


def require() -> None:
    """Have the pinned command line, installed once by npm. Raises OperateError where it cannot be had."""
    _found()


def synthesise(
    file: Path | None, options: Mapping[str, str], folder: Path, *, validate: bool = True
) -> Assembly:
    """Write the templates of a configuration by our app itself: neither AWS nor the CDK's command is asked.

    validate: let the CDK check every property too, which takes most of the time.
    """
    given = [part for name, text in options.items() for part in ("-c", f"{name}={text}")]
    config = ["--config", str(file.resolve())] if file else []
    done = subprocess.run(
        # -P: nothing is imported from the working directory.
        [
            sys.executable,
            "-P",
            "-m",
            "sagerank_infra.app",
            "--output",
            str(folder.resolve()),
            *config,
            *given,
        ],
        env={**os.environ, **({} if validate else {"CDK_VALIDATION": "false"})},
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise OperateError("The stacks could not be synthesised: what the CDK says is above.")
    return Assembly.read(folder)


def run(arguments: Sequence[str], *, cwd: Path | None = None, profile: str | None = None) -> None:
    """Run `cdk`, by default beside its cdk.json, and show its output as progress.

    Raises OperateError where it fails. Ctrl-C reaches it too; it is waited for, so that nothing writes to the terminal
    after us.
    """
    command, project = _found()
    signed = ["--profile", profile] if profile else []
    with subprocess.Popen(
        [command, *arguments, *signed],
        cwd=cwd or project,
        stdout=sys.stderr.fileno(),
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
    if process.returncode:
        raise OperateError(
            f"`cdk {arguments[0]}` failed with exit code {process.returncode}: what it says is above; docs/deploy.md of sagerank's repository lists causes."
        )


def _found() -> tuple[str, Path]:
    """The pinned command, and the folder of its cdk.json."""
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
    pinned = hashlib.sha256((package / "package-lock.json").read_bytes()).hexdigest()[:16]
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
            "The CDK's command line needs Node.js 20 or newer with npm: install it from https://nodejs.org."
        )
    sys.stderr.write(f"Installing the CDK's command line into {shown} (once)\n")
    done = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
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
        raise OperateError(f"`npm ci` failed: {' '.join(done.stderr.split()[-30:])}")
