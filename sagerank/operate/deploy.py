"""`sagerank deploy`, step by step: the configuration, the place, the tools, the artefact, the stacks; and what was shown is deployed."""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagerank_inference.artefact import ArtefactError

from . import OperateError, artefact, cdk, stacks, stored, tools, updating
from .account import Account, look_up, sentences

if TYPE_CHECKING:
    from sagerank_infra.beside import Component, Variant
    from sagerank_infra.config import DeployConfig

LATER = "s3://not-yet/model.tar.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A configuration that can be deployed. Artefacts that are made from a model's name are at LATER."""

    config: DeployConfig
    file: Path | None
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where it goes. bootstrapped: whether the CDK's own stack is there; None, with account empty, where `unknown` says why."""

    region: str
    account: str = ""
    bootstrapped: bool | None = None
    unknown: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A deployment that is ready to be made. given: what the configuration was made of, with absolute paths."""

    config: DeployConfig
    place: Place
    assembly: cdk.Assembly
    given: Mapping[str, Any]


def chosen(options: argparse.Namespace, own: Sequence[str]) -> dict[str, str]:
    """The options of the configuration, from those of their own and from -c. Raises OperateError where they disagree."""
    given = {name: value for name in own if (value := getattr(options, name))}
    words = {name: f"--{name}" for name in given}
    for text in options.context:
        name, separator, value = text.partition("=")
        if not separator:
            raise OperateError(f"-c {text}: give OPTION=VALUE, such as -c autoscaling.max=8.")
        if given.get(name, value) != value:
            raise OperateError(
                f"{words[name]} is {given[name]!r} and -c {name} is {value!r}: give one of them."
            )
        given[name], words[name] = value, f"-c {name}"
    return given


def require_other(written: Path, option: str, wanted: Wanted) -> None:
    """Raise OperateError where a file that is to be written is one of those that the deployment is made of."""
    config = wanted.config
    own = [config.artefact, *(each.artefact for each in config.variants)]
    own += [each.artefact for each in config.components]
    for file in (wanted.file, *map(Path, filter(None, own))):
        if file and file.exists() and written.exists() and file.samefile(written):
            raise OperateError(
                f"{option} is {written}, which the deployment itself is made of: give another name."
            )


def named(file: Path | None, options: Mapping[str, str]) -> dict[str, Any]:
    """What the file and the options over it say, unchecked. Raises ConfigError for a file that cannot be read."""
    from sagerank_infra.config import given

    return given(file, options)


def want(file: Path | None, options: Mapping[str, str]) -> Wanted:
    """Read and check the configuration; nothing is built or asked for. Raises ConfigError for what cannot be deployed."""
    from sagerank_infra import fleet, rules
    from sagerank_infra.config import DeployConfig

    given, options = named(file, options), dict(options)
    if "artefact" not in given and given.get("mode") != "marketplace":
        options["artefact"] = LATER
    components = DeployConfig.read(file, options).components
    if components:
        options["components"] = _changed(components, lambda each: {"artefact": each.artefact or LATER})
    config = rules.read(file, options)
    if any(model.artefact == LATER and model.artefact_sha256 for model in fleet.models(config)):
        raise OperateError(
            "artefact_sha256 says which artefact is meant, and there is none: give artefact too."
        )
    return Wanted(config=config, file=file, options=options)


def _changed(items: Sequence[Variant] | Sequence[Component], change: Callable[[Any], dict[str, str]]) -> str:
    """Variants or components as an option's text, with what `change` says of each."""
    return json.dumps([asdict(each) | change(each) for each in items])


def pin(wanted: Wanted, account: Account) -> tuple[Wanted, list[str]]:
    """Name the artefacts in S3 that no sum is given for by those that lie there now; and say so, or why one is not pinned.

    Raises OperateError where there is none, or another than the one that is given.
    """

    config, options, notes = wanted.config, dict(wanted.options), list[str]()
    if not config.traits.own_container:
        return wanted, notes

    def pinned(own: DeployConfig | Variant | Component) -> str:
        given, address = own.artefact_sha256, own.artefact
        if address == LATER or not address.startswith("s3://"):
            return given
        try:
            found = _stored(account, address)
        except _Unreadable as error:
            notes.append(f"{address} is {'not looked at' if given else 'not pinned'}: {error}")
            return given
        if given not in ("", found):
            raise OperateError(
                f"artefact_sha256 is {given}, and the manifest at {address} has {found}: put the artefact back, or give its own."
            )
        if not given:
            notes.append(f"{address} is pinned to what lies there now, manifest {found}")
        return found

    if found := pinned(config):
        options["artefact_sha256"] = found
    for name, items in (("variants", config.variants), ("components", config.components)):
        if items:
            options[name] = _changed(items, lambda each: {"artefact_sha256": pinned(each)})
    return want(wanted.file, options), notes


class _Unreadable(OperateError):
    """Why AWS does not show what lies in S3."""


def _stored(account: Account, address: str) -> str:
    """SHA-256 of the manifest of the artefact that lies at an address now."""
    try:
        with sentences():
            text = stored.manifest_text(account, address)
    except OperateError as error:
        raise _Unreadable(str(error)) from None
    except ArtefactError as error:
        raise OperateError(str(error)) from None
    if text is None:
        raise OperateError(f"There is no artefact at {address}.")
    return hashlib.sha256(text).hexdigest()


def locate(account: Account, config: DeployConfig) -> Place:
    """Ask AWS whose account it is, and whether the CDK is set up there. Raises OperateError."""
    account.sign_in()
    version = f"/cdk-bootstrap/{config.bootstrap_qualifier or stacks.BOOTSTRAP_QUALIFIER}/version"
    bootstrapped = look_up(account.client("ssm").get_parameter, Name=version) is not None
    return Place(region=account.region, account=account.number, bootstrapped=bootstrapped)


def require_account(account: str, place: Place) -> None:
    """Raise OperateError where the account that is wanted is another. An empty one is any."""
    if account and place.account and account != place.account:
        raise OperateError(
            f"account is {account}, and the credentials are of {place.account}: sign in to the other, or leave account out."
        )


def require_tools(config: DeployConfig, *, reviewed: bool = False) -> None:
    """Raise OperateError unless this machine can deploy it: node, the CDK's command line, and Docker where the image is built.

    reviewed: it is a plan's, in which nothing can be changed any more.
    """
    tools.node()
    if config.traits.own_container and config.image == "dockerfile":
        if reviewed:
            tools.docker(
                "apply the plan where it is, or plan again with the address of an image in ECR, -c image="
            )
        else:
            tools.docker()
    tools.cdk()


@contextmanager
def plan(wanted: Wanted, place: Place, *, shape: bool = False, folder: Path | None = None) -> Iterator[Plan]:
    """Write the templates, for as long as the context lasts or into `folder`, after the artefact is built.

    shape: plan with the model's shape in place of the artefact. Raises ConfigError, CheckpointError, ArtefactError or OperateError.
    """
    from sagerank_infra import fleet, rules

    config, options = wanted.config, dict(wanted.options)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / "cdk.out").is_file():
            raise OperateError(
                f"{folder} holds other files: give an empty or a new folder for the templates."
            )
    with tempfile.TemporaryDirectory(prefix="sagerank-cdk-") as scratch:
        own = fleet.models(config) if config.traits.own_container else ()
        given_here = {model.artefact for model in own} | {variant.artefact for variant in config.variants}
        for given in given_here:
            if given and not given.startswith("s3://"):
                artefact.check(Path(given))
        made = {
            model.component: str(
                artefact.of_shape(model, Path(tempfile.mkdtemp(dir=scratch)))
                if shape
                else artefact.built(model.model, code=model.image == "dlc")
            )
            for model in own
            if model.artefact == LATER
        }
        if "" in made:
            options["artefact"] = made[""]
        if config.components:
            options["components"] = _changed(
                config.components, lambda each: {"artefact": made.get(each.name, each.artefact)}
            )
        if made:
            config = rules.read(wanted.file, options)
        options = absolute(config, options)
        assembly = cdk.synthesise(options, folder or Path(scratch) / "cdk.out", file=wanted.file)
        yield Plan(config=config, place=place, assembly=assembly, given=named(wanted.file, options))


def absolute(config: DeployConfig, options: Mapping[str, str]) -> dict[str, str]:
    """The options with absolute paths, because the CDK's app runs in another folder."""

    def path(artefact: str) -> str:
        return artefact if artefact.startswith("s3://") or not artefact else str(Path(artefact).resolve())

    found = dict(options)
    if config.traits.own_container:
        found["artefact"] = path(config.artefact)
    for name, items in (("variants", config.variants), ("components", config.components)):
        if items:
            found[name] = _changed(items, lambda each: {"artefact": path(each.artefact)})
    return found


def bootstrap(place: Place, account: Account, qualifier: str) -> None:
    """Make the CDK's bucket, repository and roles, once an account and region, from a folder without an app.

    Those of a qualifier are a stack of their own: the CDK would change its stack CDKToolkit, and whoever uses that has nothing.
    """
    own = ["--qualifier", qualifier, "--toolkit-stack-name", f"CDKToolkit-{qualifier}"] if qualifier else []
    with tempfile.TemporaryDirectory() as elsewhere:
        cdk.run(["bootstrap", f"aws://{place.account}/{place.region}", *own], account, cwd=Path(elsewhere))


def deploy(planned: Plan, words: Sequence[str], extra: Sequence[str], account: Account) -> None:
    """Deploy all stacks as they were shown, in the steps that AWS allows.

    words: for the `cdk deploy` of all stacks. extra: for every `cdk deploy` on the way. Raises OperateError where what is
    deployed cannot become this, before anything changes.
    """
    # The CDK would ask for each stack what was asked for all of them, before the first.
    every = ["deploy", "--all", "--require-approval", "never", "--app", str(planned.assembly.folder)]
    updating.update(
        account,
        planned.config.name,
        planned.assembly,
        lambda: cdk.run([*every, *words, *extra], account),
        extra,
    )
