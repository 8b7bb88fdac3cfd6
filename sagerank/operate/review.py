"""A plan as a file: a reviewer reads what would be deployed, and `--apply` deploys that and nothing else.

The file is a .tar.gz of equal bytes for equal plans. DIFFERENCE.md comes first, for people. PLAN.json has the configuration, the place, the
state it was compared with and the SHA-256 of every file. Below assembly/ is what the CDK deploys: templates, image sources, artefacts.

Of a plan that comes back only the configuration and its artefacts are used. The stacks are synthesised again from them and have to be, byte for
byte, the ones in the file: so it can ask for nothing that this program would not make of a configuration.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from sagerank_inference.archive import limit, members, pack
from sagerank_inference.artefact import ArtefactError, sha256

from .. import __version__
from . import OperateError, cdk
from .deploy import Plan

FORMAT = 1
# Of image_build: files of the machine that builds the image, which no plan may name.
SECRETS = ("pip", "certificates")
COLUMNS = 150  # of the tables in DIFFERENCE.md
TEXT, _FACTS, _ASSEMBLY = "DIFFERENCE.md", "PLAN.json", "assembly/"
_MOST_TEXT = 16 << 20
# How this machine builds the image (CDK_DOCKER, secrets of the build) stands in them alone; the hash of what is built is in the templates.
_OF_THE_MACHINE = ".assets.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A plan as it stands in its file. deployed: the state that the difference was shown against."""

    name: str
    account: str
    region: str
    configuration: Mapping[str, Any]
    versions: Mapping[str, str]
    deployed: Mapping[str, Mapping[str, str]]
    files: Mapping[str, str]  # name -> SHA-256
    format: int = FORMAT

    def require(self, assembly: cdk.Assembly) -> None:
        """Raise OperateError unless the stacks that were synthesised now are those of the file."""
        made = dict(_assembly(assembly.folder))
        for name in sorted({*made, *self.files} - {TEXT}):
            if name.endswith(_OF_THE_MACHINE):
                continue
            if name not in made or sha256(made[name]) != self.files.get(name):
                raise OperateError(
                    f"{name} of the plan is not what this configuration makes here: the file was changed, or made by another version; plan again."
                )


def versions() -> dict[str, str]:
    """What the templates depend on beside the configuration."""
    return {"sagerank": __version__, "aws-cdk-lib": metadata.version("aws-cdk-lib")}


def write(
    planned: Plan,
    deployed: Mapping[str, Mapping[str, str]],
    heading: Iterable[str],
    difference: str,
    file: Path,
) -> str:
    """Write a plan and return its SHA-256. heading, difference: what DIFFERENCE.md says, the latter in the CDK's own words."""
    assembly = dict(_assembly(planned.assembly.folder))
    sums = {name: sha256(path) for name, path in assembly.items()}
    configuration = _portable(planned.given, {digest: name for name, digest in sums.items()})
    place = planned.place
    title = f"# {planned.config.name} in account {place.account}, {planned.config.region}\n\n"
    parts = {
        "What this plan would deploy": "\n".join(heading),
        "Its configuration": shown(configuration),
        "The difference to what is deployed": difference,
    }
    blocks = "\n".join(f"## {part}\n\n```text\n{block}\n```\n" for part, block in parts.items())
    text = f"{title}{blocks}".encode()
    review = Review(
        name=planned.config.name,
        account=place.account,
        region=planned.config.region,
        configuration=configuration,
        versions=versions(),
        deployed=deployed,
        files={TEXT: hashlib.sha256(text).hexdigest(), **sums},
    )
    facts = json.dumps(asdict(review), indent=2, sort_keys=True, ensure_ascii=False)
    try:
        pack({**assembly, TEXT: text, _FACTS: f"{facts}\n".encode()}, file)
        return sha256(file)
    except (ArtefactError, OSError) as error:
        raise OperateError(f"The plan cannot be written to {file}: {error}") from None


def shown(configuration: Mapping[str, Any]) -> str:
    """A configuration as text that steers no terminal."""
    return json.dumps(configuration, indent=2, sort_keys=True)


def _assembly(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield f"{_ASSEMBLY}{path.relative_to(folder).as_posix()}", path


def _artefacts(configuration: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The configuration itself, its variants and components, where they name a local artefact that is deployed."""
    if configuration.get("mode") == "marketplace":  # whose package brings its own
        return
    for each in (configuration, *configuration.get("variants", ()), *configuration.get("components", ())):
        artefact = each.get("artefact", "")
        if artefact and isinstance(artefact, str) and not artefact.startswith("s3://"):
            yield each


def _portable(configuration: Mapping[str, Any], by_sum: Mapping[str, str]) -> dict[str, Any]:
    """The configuration with the artefacts' names in the file in place of their paths, and without the secrets of a build."""
    found: dict[str, Any] = json.loads(json.dumps(configuration))
    for name in ("image_build", "variants", "components"):  # which a command line writes as JSON
        if isinstance(found.get(name), str):
            found[name] = json.loads(found[name])
    build = found.get("image_build", {})
    for name in SECRETS:
        build.pop(name, None)
    for each in _artefacts(found):
        each["artefact"] = by_sum[sha256(Path(each["artefact"]))]
    return found


def read(file: Path, folder: Path) -> tuple[Review, Path]:
    """Check a plan's file; return it, and its configuration as a file in `folder`, with its artefacts beside it.

    Raises OperateError for what `write` would not have written, and for another version's.
    """
    if file.exists() and not (file.is_file() or file.is_dir()):
        raise OperateError(f"{file} is no file, and its SHA-256 could not be said: give the plan as a file.")
    try:
        with file.open("rb") as opened:
            if opened.peek(2)[:2] != b"\x1f\x8b":
                raise ArtefactError("it is not even a .tar.gz file")
            review = _read(opened, file, folder)
    except ArtefactError as error:
        why = str(error).removeprefix(f"{file} ").partition(": build or fetch")[0].removesuffix(".")
        raise OperateError(
            f"{file} is no plan of `sagerank deploy --plan`: {why}: give the file as it was written, or plan again."
        ) from None
    except OSError as error:
        raise OperateError(f"{file} cannot be read: {error.strerror}.") from None
    if review.versions != versions():
        made, here = (
            ", ".join(f"{name} {version}" for name, version in sorted(each.items()))
            for each in (review.versions, versions())
        )
        raise OperateError(
            f"{file} was made by {made}, and here is {here}: apply it with those, or plan again."
        )
    configuration = folder / "configuration.json"
    given = json.loads(json.dumps(review.configuration))
    for each in _artefacts(given):
        each["artefact"] = str(_place(folder, each["artefact"]))
    configuration.write_text(json.dumps(given), encoding="utf-8")
    return review, configuration


def _read(opened: BinaryIO, file: Path, folder: Path) -> Review:
    sums: dict[str, str] = {}
    review: Review | None = None
    wanted: set[str] = set()
    for name, size, content in members(opened, str(file), most=limit(file)):
        if name == _FACTS and size <= _MOST_TEXT:
            review = _parse(b"".join(content))
            wanted = {each["artefact"] for each in _artefacts(review.configuration)}
            continue
        digest = hashlib.sha256()
        place = _place(folder, name) if name in wanted else Path(os.devnull)
        with place.open("wb") as target:
            for chunk in content:
                digest.update(chunk)
                target.write(chunk)
        sums[name] = digest.hexdigest()
    if review is None:
        raise ArtefactError(f"it holds no {_FACTS}.")
    every = {*sums, *review.files, *wanted}
    if wrong := sorted(name for name in every if name not in sums or sums[name] != review.files.get(name)):
        raise ArtefactError(f"{ascii(wrong[0])} is missing, or does not have the SHA-256 that {_FACTS} says.")
    return review


def _place(folder: Path, member: str) -> Path:
    """Where an artefact is put: under a name of our own, whatever it is called in the file."""
    return folder / f"{hashlib.sha256(member.encode()).hexdigest()}.tar.gz"


def _parse(text: bytes) -> Review:
    wrong = ArtefactError(f"its {_FACTS} is not of format {FORMAT}.")
    try:
        review = Review(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        raise wrong from None
    configuration = review.configuration
    sound = (
        review.format == FORMAT
        and all(map(_shown, (review.name, review.account, review.region)))
        and _table(review.versions)
        and _table(review.files)
        and isinstance(review.deployed, dict)
        and all(map(_shown, review.deployed))
        and all(_table(each) and each.keys() == {"changed", "template"} for each in review.deployed.values())
        and isinstance(configuration, dict)
        and _printable(configuration)
        and all(_dictionaries(configuration.get(name, [])) for name in ("variants", "components"))
        and isinstance(configuration.get("image_build", {}), dict)
    )
    if not sound:
        raise wrong
    if named := [name for name in SECRETS if name in configuration.get("image_build", {})]:
        raise ArtefactError(
            f"its configuration names image_build.{named[0]}, a file of the machine that builds."
        )
    return review


def _dictionaries(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


_LINES = str.maketrans("", "", "\n\t")


def _printable(value: object) -> bool:
    """Whether all texts in a value, however deep, can be shown without steering the terminal."""
    if isinstance(value, dict):
        return all(_printable(each) for pair in value.items() for each in pair)
    if isinstance(value, list):
        return all(map(_printable, value))
    return not isinstance(value, str) or value.translate(_LINES).isprintable()


def _table(value: object) -> bool:
    return isinstance(value, dict) and all(map(_shown, (*value, *value.values())))


def _shown(value: object) -> bool:
    """Whether a message may quote it."""
    return isinstance(value, str) and len(value) <= 500 and value.isprintable()
