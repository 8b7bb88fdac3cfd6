"""The CDK's own command line, unmodified, at the version that package.json pins."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import OperateError

ROOT = Path(__file__).parent.parent.parent
_BINARY = ROOT / "node_modules/.bin/cdk"


@dataclass(frozen=True, slots=True)
class Assembly:
    """A folder that `cdk synth` wrote. estimate: the month's cost, as the stacks' own output states it."""

    folder: Path
    stacks: tuple[str, ...]
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
        return cls(folder, tuple(templates), str(outputs.get("EstimatedMonthlyCost", "")))


def synthesise(context: Mapping[str, str], folder: Path) -> Assembly:
    """Write the templates; no AWS call is made."""
    given = [part for name, text in context.items() for part in ("--context", f"{name}={text}")]
    run(["synth", "--quiet", "--output", str(folder), *given], quiet=True)
    return Assembly.read(folder)


def run(arguments: Sequence[str], *, cwd: Path = ROOT, quiet: bool = False) -> None:
    """Run `cdk` and pass on what it says, as progress; `quiet`: only where it fails. Raises OperateError then.

    Ctrl-C reaches it too; it is waited for, so that nothing writes to the terminal after us.
    """
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    output = subprocess.PIPE if quiet else sys.stderr.fileno()
    with subprocess.Popen(
        [str(_installed()), *arguments],
        cwd=cwd,
        env={**os.environ, "PATH": path},
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            said, _ = process.communicate()
        except KeyboardInterrupt:
            process.wait()
            raise
    if process.returncode:
        sys.stderr.write(said or "")
        raise OperateError(
            f"`cdk {arguments[0]}` failed with exit code {process.returncode}: what it says is above; docs/deploy.md lists causes."
        )


def _installed() -> Path:
    """The command, installed by npm where it is missing."""
    if not (ROOT / "cdk.json").is_file():
        raise OperateError(
            f"There is no cdk.json in {ROOT}: deploy from a checkout of the repository, installed with `pip install -e .`."
        )
    if importlib.util.find_spec("aws_cdk") is None:
        raise ModuleNotFoundError("No module named 'aws_cdk'", name="aws_cdk")
    if not _BINARY.is_file():
        npm = shutil.which("npm")
        if npm is None:
            raise OperateError(
                "The CDK's command line needs Node.js 20 or newer with npm: install it from https://nodejs.org."
            )
        sys.stderr.write(f"Installing the CDK's command line into {_BINARY.parent.parent} (once)\n")
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise OperateError(f"`npm ci` failed: {' '.join(done.stderr.split()[-30:])}")
    return _BINARY
