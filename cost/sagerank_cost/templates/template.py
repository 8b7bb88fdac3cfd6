"""Synthesised CloudFormation templates as line items: what stands there every hour, and what is used where a usage file says so.

Prices what hosts a reranker (endpoints, their volumes, provisioned concurrency) and what stands beside it (interface endpoints, NAT
gateways, alarms, dashboards, keys). What may cost something and has no price here is an unknown line, never nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

from .. import CostError
from ..catalogue import Catalogue
from ..lines import Statement
from .files import load
from .intrinsics import plain
from .stack import Stack
from .usage import Usage

# Prices the configuration file of a deployment: what such a file says is not for this package to know.
Configured = Callable[[Path, Catalogue], Statement]


def read(
    path: Path,
    catalogue: Catalogue,
    region: str,
    configured: Configured | None = None,
    usage: Usage | None = None,
) -> Statement:
    """The month of a template, of a folder of them (cdk.out), or of a deployment's configuration, which `configured` prices.

    `region` is where a template does not say its own; `usage` is of the endpoints of templates. Raises CostError for a file
    that cannot be read; what is in it and cannot be priced is an unknown line of the statement.
    """
    folder = path if path.is_dir() else path.parent
    found = [*path.glob("*.template.json"), *path.glob("assembly-*/*.template.json")]
    files = sorted(found) if path.is_dir() else [path]
    if not files:
        raise CostError(
            f"{path} holds no *.template.json: give a folder that `cdk synth` wrote, or one template."
        )
    stacks, beside = [], frozenset(file.name for file in files)
    for file in files:
        content = {} if file.suffix == ".toml" else load(file)
        if "Resources" in content:
            name = file.relative_to(folder).as_posix().removesuffix(".template.json")
            # A template alone is compared with one of another name.
            prefix = plain(f"{name}/") if path.is_dir() else ""
            statement = Statement(catalogue, _region(file, region))
            try:
                stacks.append(Stack(prefix, content, statement, beside, usage))
            except RecursionError:
                raise CostError(f"{file} is nested too deeply to be read.") from None
            except CostError as error:
                raise CostError(f"{file}: {error}.") from None
        elif configured is None or path.is_dir():
            raise CostError(
                f"{file} has no Resources, so it is no template: give what `cdk synth` wrote. `sagerank cost diff` takes the configuration of a deployment, too."
            )
        else:
            statement = configured(file, catalogue)
            if usage is not None:
                statement.notes.append(f"{file.name} says its own traffic: the usage file is not of it")
            return statement
    _count_door(stacks)
    whole = Statement(catalogue, region)
    for stack in stacks:
        whole.lines |= stack.statement.lines
        whole.unknown |= stack.statement.unknown
        whole.by_use |= stack.statement.by_use
        whole.notes += stack.statement.notes
    whole.notes = list(dict.fromkeys(whole.notes))
    return whole


def _region(file: Path, default: str) -> str:
    """The region in cdk.out's manifest, whose environment reads aws://ACCOUNT/REGION."""
    manifest = file.parent / "manifest.json"
    if not (file.name.endswith(".template.json") and manifest.exists()):
        return default
    artifacts = load(manifest).get("artifacts")
    for artifact in artifacts.values() if isinstance(artifacts, dict) else ():
        match artifact:
            case {"properties": {"templateFile": file.name}, "environment": str(environment)}:
                region = environment.rpartition("/")[2]
                return region if region and region != "unknown-region" else default
    return default


def _count_door(stacks: Sequence[Stack]) -> None:
    """Add what goes through the interface endpoint that requests to SageMaker take, where there is one and use is known."""
    through = sum((stack.through for stack in stacks), Decimal(0))
    for stack in stacks:
        if through and stack.door:
            key = f"{stack.door}: data in and out"
            stack.statement.by_use.pop(f"{stack.door}: data", None)
            stack.statement.add("vpc_endpoint_gb", through, "data in and out", key=key, label=key)
            stack.statement.notes.append(f"all requests are taken to go through {stack.door}")
            return
