"""What an image consists of, as a CycloneDX file beside it: Python, its packages, and Debian's, read from the image itself.

    python -m containers.sbom IMAGE [--output FILE]

The image is unpacked and not started, so one of another architecture is as good. Needs cyclonedx-python-lib (`requirements/tools.txt`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from email import message_from_string
from email.message import Message
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from .engine import Engine, NoEngine, find

_ROOT = Path(__file__).parent.parent
_FOLDER = _ROOT / "build" / "images"
_PINS = ("inference/sagerank_inference/image/requirements-*.txt", "requirements/proxy.txt")
_METADATA = re.compile(r".+\.dist-info/METADATA")
_PATCHLEVEL = re.compile(r"usr(/local)?/include/python3\.\d+/patchlevel\.h")
_STATUS = "var/lib/dpkg/status"
_RELEASE = "usr/lib/os-release"
_COPYRIGHT = re.compile(r"usr/share/doc/([^/]+)/copyright")
_LICENCE = re.compile(r"^License: *(\S.*?) *$", re.M)
_WANTED = re.compile(
    "|".join((_METADATA.pattern, _PATCHLEVEL.pattern, _STATUS, _RELEASE, _COPYRIGHT.pattern))
)


def write(image: str, target: Path | None = None, engine: Engine | None = None) -> Path:
    """Write the bill of materials of an image. The same image gives the same bytes.

    target: the file, else build/images/NAME.cdx.json. engine: whose store has the image, else what `find` finds. Raises NoEngine,
    and EngineError for an image that is not there.
    """
    engine = engine or find()
    (about,) = json.loads(engine.run("image", "inspect", image).stdout)
    files = _files(engine, image)
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, about["Id"]),
        components=[*python(files), *_packages(files, _pinned()), *_debian(files, about["Architecture"])],
    )
    bom.metadata.timestamp = datetime.fromisoformat(re.sub(r"\.\d+", "", about["Created"]))
    bom.metadata.component = _image(image, about)
    bom.register_dependency(bom.metadata.component, bom.components)
    target = target or _FOLDER / f"{re.sub(r'[^a-z0-9.-]+', '-', image.rpartition('/')[2])}.cdx.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n", encoding="utf-8")
    return target


def _files(engine: Engine, image: str) -> dict[str, str]:
    """Path and text of each file that says what is installed."""
    container = engine.run("create", image).stdout.decode().split()[-1]
    try:
        command = [engine.name, "export", container]
        with (
            subprocess.Popen(
                command, env={**os.environ, **engine.environ}, stdout=subprocess.PIPE
            ) as exporting,
            tarfile.open(fileobj=exporting.stdout, mode="r|") as archive,
        ):
            return {
                member.name: held.read().decode(errors="replace")
                for member in archive
                if member.isfile()
                and _WANTED.fullmatch(member.name)
                and (held := archive.extractfile(member))
            }
    finally:
        engine.run("rm", container)


def _image(name: str, about: Mapping[str, dict[str, dict[str, str]]]) -> Component:
    labels = about["Config"].get("Labels") or {}
    described = {key.rpartition("image.")[2]: text for key, text in labels.items() if ".image." in key}
    return Component(
        type=ComponentType.CONTAINER,
        name=name.rpartition("/")[2].partition(":")[0],
        version=described.get("version") or None,
        bom_ref="image",
        licenses=_licences(described.get("licenses", "")),
        properties=[
            Property(name=key, value=text)
            for key, text in (
                ("image:id", str(about["Id"])),
                ("image:base", described.get("base.name", "")),
                ("image:revision", described.get("revision", "")),
            )
            if text
        ],
    )


def python(files: Mapping[str, str]) -> Iterator[Component]:
    """Python itself where it is no package of Debian's."""
    for path, text in files.items():
        if _PATCHLEVEL.fullmatch(path) and (found := re.search(r'#define PY_VERSION\s+"(.+)"', text)):
            yield _component(
                "python", found[1], PackageURL("generic", name="python", version=found[1]), "PSF-2.0"
            )


def _packages(files: Mapping[str, str], pins: Mapping[tuple[str, str], Iterable[str]]) -> Iterator[Component]:
    for path, text in files.items():
        if not _METADATA.fullmatch(path):
            continue
        metadata = message_from_string(text)
        name, version = re.sub(r"[-_.]+", "-", metadata["Name"]).lower(), metadata["Version"]
        archives = [
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(f"https://pypi.org/project/{name}/{version}/"),
                comment="one of these archives was installed",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in pins[name, version]],
            )
            for _ in range((name, version) in pins)
        ]
        purl = PackageURL("pypi", name=name, version=version)
        yield _component(name, version, purl, *_licences_of(metadata), references=archives)


def _licences_of(metadata: Message) -> list[str]:
    """An SPDX expression, or what older packages say in their own words."""
    if expression := metadata["License-Expression"]:
        return [expression]
    classified = [text for text in metadata.get_all("Classifier", []) if text.startswith("License ::")]
    if classified:
        return [text.rpartition(":: ")[2] for text in classified]
    said = (metadata["License"] or "").strip().splitlines()
    return said[:1]


def _debian(files: Mapping[str, str], arch: str) -> Iterator[Component]:
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', files.get(_RELEASE, ""), re.M))
    where = {"distro": f"{release.get('ID')}-{release.get('VERSION_ID')}"}
    for paragraph in files.get(_STATUS, "").split("\n\n"):
        package = message_from_string(paragraph)
        if package["Status"] != "install ok installed":
            continue
        name, version = package["Package"], package["Version"]
        terms = files.get(f"usr/share/doc/{name}/copyright", "")
        # Older files are prose.
        said = sorted(set(_LICENCE.findall(terms))) if terms.startswith("Format:") else []
        qualifiers = {"arch": package["Architecture"] or arch, **where}
        purl = PackageURL("deb", release.get("ID"), name, version, qualifiers)
        yield _component(name, version, purl, *said)


def _component(
    name: str, version: str, purl: PackageURL, *licences: str, references: Iterable[ExternalReference] = ()
) -> Component:
    return Component(
        type=ComponentType.APPLICATION if purl.type == "generic" else ComponentType.LIBRARY,
        name=name,
        version=version,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=_licences(*licences),
        external_references=references,
    )


def _licences(*said: str) -> list[License]:
    """One expression, or several names: CycloneDX has no mixture."""
    if len(said) == 1 and said[0]:
        return [LicenseFactory().make_from_string(said[0])]
    return [DisjunctiveLicense(name=text) for text in said if text]


def _pinned() -> dict[tuple[str, str], list[str]]:
    """SHA-256 of the archives that the images' pins allow, by name and version."""
    found: dict[tuple[str, str], list[str]] = {}
    for file in (each for pattern in _PINS for each in sorted(_ROOT.glob(pattern))):
        for pin in re.split(r"\n(?=\S)", file.read_text(encoding="utf-8")):
            if named := re.match(r"([\w.-]+)==([^\s;]+)", pin):
                found[named[1], named[2]] = re.findall(r"sha256:([0-9a-f]{64})", pin)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m containers.sbom", description="List what an image consists of."
    )
    parser.add_argument("image", help="the name that `python -m containers.build` printed")
    parser.add_argument("--output", type=Path, help="the file (build/images/NAME.cdx.json)")
    given = parser.parse_args()
    try:
        sys.stdout.write(f"{write(given.image, given.output)}\n")
    except (NoEngine, OSError, subprocess.SubprocessError, tarfile.TarError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
