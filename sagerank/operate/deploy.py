"""`sagerank deploy`: the configuration is checked, the artefact built, the stacks are synthesised, and what was shown is deployed."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import OperateError, cdk
from .account import Account, look_up

if TYPE_CHECKING:
    from sagerank_infra.config import DeployConfig

_BOOTSTRAP = "/cdk-bootstrap/hnb659fds/version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A deployment that is ready to be made. bootstrapped: whether the CDK's own stack is in the account and region."""

    config: DeployConfig
    account: str
    region: str
    bootstrapped: bool
    assembly: cdk.Assembly

    def __str__(self) -> str:
        config = self.config
        where = f"account {self.account}, {self.region}"
        what = f"{config.name}: {config.model}, {config.mode}{f' on {config.instance}' if config.instance else ''}, preset {config.preset}, {where}"
        cost = "\n".join(part.strip() for part in self.assembly.estimate.split(";"))
        return f"{what}\nStacks: {', '.join(self.assembly.stacks)}\nEstimated cost: {cost}"


@contextmanager
def plan(
    file: Path | None, context: Mapping[str, str], make_account: Callable[[str], Account]
) -> Iterator[Plan]:
    """Do everything up to the first change in AWS; the templates live as long as the context.

    Raises ConfigError, CheckpointError, ArtefactError or OperateError for what cannot be deployed.
    """
    given = dict(context)
    if file:
        given["config"] = str(file.resolve())
    config = _configure(file, given)
    account = make_account(config.region)
    if config.account and config.account != account.number:
        raise OperateError(
            f"account is {config.account}, and the credentials are of {account.number}: sign in to the other, or leave account out."
        )
    bootstrapped = look_up(account.client("ssm").get_parameter, Name=_BOOTSTRAP) is not None
    with tempfile.TemporaryDirectory(prefix="sagerank-cdk-") as folder:
        yield Plan(
            config=config,
            account=account.number,
            region=config.region,
            bootstrapped=bootstrapped,
            assembly=cdk.synthesise(given, Path(folder) / "cdk.out"),
        )


def _configure(file: Path | None, given: dict[str, str]) -> DeployConfig:
    """Read the configuration; where it names no artefact, one is built from the model's name.

    `given` gets absolute paths, because the CDK's app runs in another folder.
    """
    from sagerank_infra import rules
    from sagerank_infra.config import read_file

    named = {**(read_file(file) if file else {}), **given}
    options = {name: text for name, text in given.items() if name != "config"}
    if "artefact" not in named and named.get("mode") != "marketplace":
        # Whatever else is wrong comes before the build, which may download.
        early = rules.read(file, {**options, "artefact": "s3://not-yet/model.tar.gz"})
        options["artefact"] = str(_build(early.model, code=early.image == "dlc"))
    config = rules.read(file, options)
    if config.traits.own_container:
        given["artefact"] = _absolute(config.artefact)
    if any(variant.artefact for variant in config.variants):
        given["variants"] = json.dumps(
            [
                asdict(variant) | {"artefact": variant.artefact and _absolute(variant.artefact)}
                for variant in config.variants
            ]
        )
    return config


def _absolute(artefact: str) -> str:
    return artefact if artefact.startswith("s3://") else str(Path(artefact).resolve())


def _build(model: str, *, code: bool) -> Path:
    """The archive of a model by name, from the cache where it was built before."""
    from sagerank.models.build import archive, default_cache, resolve

    folder = resolve(model)
    name = hashlib.sha256((folder / "manifest.json").read_bytes() + bytes([code])).hexdigest()[:16]
    cache = default_cache() / "deploy" / name
    if code or not (cache / "model.tar.gz").is_file():  # code/ changes with this source
        archive(model, cache / "model.tar.gz", code=code)
    return cache / "model.tar.gz"


def bootstrap(account: str, region: str) -> None:
    """Make the CDK's bucket, repository and roles, once an account and region, from a folder without an app."""
    with tempfile.TemporaryDirectory() as elsewhere:
        cdk.run(["bootstrap", f"aws://{account}/{region}"], cwd=Path(elsewhere))


def deploy(planned: Plan, extra: list[str]) -> None:
    """Deploy all stacks as they were shown. `extra` goes to `cdk deploy`."""
    cdk.run(["deploy", "--all", "--require-approval", "never", "--app", str(planned.assembly.folder), *extra])
