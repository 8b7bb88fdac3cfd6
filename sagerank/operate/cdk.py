"""The CDK: our app, which writes templates, and its own command line, unmodified."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..models.build import default_cache
from . import OperateError, tools
from .account import Account

# Podman's images would have manifests that SageMaker refuses.
_PODMAN = {"BUILDAH_FORMAT": "docker"}
# The CDK's library shows a banner of ten lines on it, over what a failure says; docs/install.md says which versions there are.
_NODE = {"JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": str(tools.OLDEST_NODE)}


@dataclass(frozen=True, slots=True)
class Assembly:
    """A folder of templates."""

    folder: Path
    stacks: Mapping[str, Mapping[str, int]]  # how many resources of each type
    templates: Mapping[str, Mapping[str, Any]]  # by the stacks' names
    estimate: str  # the month's cost, as the stacks' own output states it
    activation: str  # the command without which their budget counts nothing; empty where they have none

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
        estimate, activation = (
            str(outputs.get(name, "")) for name in ("EstimatedMonthlyCost", "BudgetActivation")
        )
        return cls(folder, stacks, templates, estimate, activation)


def _jsii() -> Mapping[str, str]:
    """Where the CDK's library is unpacked if not below the home, as where that cannot be written it fails, or tries for ever."""
    name = "JSII_RUNTIME_PACKAGE_CACHE_ROOT"
    if name in os.environ:
        return {}
    own = Path(os.path.expanduser("~/.cache"))
    try:
        own.mkdir(exist_ok=True)
    except OSError:
        return {name: str(default_cache() / "jsii")}
    return {} if os.access(own, os.W_OK) else {name: str(default_cache() / "jsii")}


def check() -> None:
    """Raise ModuleNotFoundError where the CDK's library is not installed, without loading it."""
    if importlib.util.find_spec("aws_cdk") is None:
        raise ModuleNotFoundError("No module named 'aws_cdk'", name="aws_cdk")


def synthesise(
    options: Mapping[str, str],
    folder: Path,
    *,
    file: Path | None = None,
    validate: bool = True,
    plain: bool = False,
) -> Assembly:
    """Write the templates of a configuration by our app itself: neither AWS nor the CDK's command is asked.

    validate: let the CDK check every property too, which takes most of the time. plain: as one template, which needs no CDK.
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
            *(["--plain"] if plain else []),
        ],
        env={
            **os.environ,
            **_PODMAN,
            **_NODE,
            **_jsii(),
            **({} if validate else {"CDK_VALIDATION": "false"}),
        },
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


def run(arguments: Sequence[str], account: Account, *, cwd: Path | None = None) -> None:
    """Run `cdk` in the account that we ask too, by default beside its cdk.json, and show its output as progress.

    Raises OperateError where it fails. Ctrl-C reaches it too; it is waited for, so that nothing writes to the terminal
    after us.
    """
    words, environment, project = _command(arguments, account)
    with subprocess.Popen(
        words, cwd=cwd or project, env=environment, stdout=sys.stderr.fileno(), stderr=subprocess.STDOUT
    ) as process:
        try:
            process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
    _require(arguments, process.returncode)


def read(arguments: Sequence[str], account: Account) -> str:
    """What `cdk` prints, its tables as wide as they are, without signs that steer a terminal.

    Raises OperateError where it fails.
    """
    words, environment, project = _command(arguments, account)
    environment.pop("COLUMNS", None)
    done = subprocess.run(
        words,
        cwd=project,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
    _require(arguments, done.returncode)
    lines = (line.rstrip() for line in done.stdout.strip().splitlines())
    return "\n".join("".join(sign if sign.isprintable() else "?" for sign in line) for line in lines)


def _command(arguments: Sequence[str], account: Account) -> tuple[list[str], dict[str, str], Path]:
    """The words and the environment of the CDK's command in an account, and the folder of its cdk.json."""
    command, project = tools.cdk()
    signed = ["--profile", account.profile] if account.profile else []
    there = {"AWS_ENDPOINT_URL": account.endpoint_url} if account.endpoint_url else {}
    # In a folder without our cdk.json it would fetch notices.
    words = [command, *arguments, "--no-notices", *signed]
    return words, {**os.environ, **_PODMAN, **there}, project


def _require(arguments: Sequence[str], code: int) -> None:
    if code:
        raise OperateError(
            f"`cdk {arguments[0]}` failed with exit code {code}: what it says is above; docs/deploy.md of sagerank's repository lists causes."
        )
