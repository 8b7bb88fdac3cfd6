"""Build an image: `make image`, `make image-arm64`.

    python -m containers.build [cpu|gpu|proxy] [--arch amd64|arm64] [--base IMAGE | --stand-in] [--tag NAME]

The base image is the one that the Dockerfile names, with its digest, or another of the same kind. What pip is told on this machine
(an index of the company's, its certificates) reaches the build as secrets, which no layer and no history keeps.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from . import emulation, standin
from .engine import Engine, EngineError, NoEngine, find, options
from .settings import secrets

_ROOT = Path(__file__).parent.parent
_PACKAGE = _ROOT / "inference/sagerank_inference"
KINDS = ("cpu", "gpu", "proxy")
ARCHITECTURES = ("amd64", "arm64")
_LAST_LINES = 40
_LABELS = "org.opencontainers.image"


class BuildError(Exception):
    """The build failed; the text is the end of what the builder said."""


def build(
    kind: str = "cpu",
    arch: str = "amd64",
    *,
    base: str | None = None,
    stand_in: bool = False,
    tag: str | None = None,
    package: Path = _PACKAGE,
    engine: Engine | None = None,
) -> str:
    """Build an image, and return its name.

    kind: of KINDS. arch: of ARCHITECTURES, another than the machine's by emulation. base: the image in FROM, else the Dockerfile's
    own; stand_in: one of Debian's packages in its place. tag: the name, else `localhost/sagerank:KIND-ARCH`. package: the folder of
    sagerank_inference, for cpu and gpu. engine: who builds and whose store has it, else what `find` finds. Raises NoEngine and
    BuildError, and subprocess.CalledProcessError where the stand-in fails.
    """
    engine = engine or find()
    # Docker's own qemu is new enough.
    if engine.name == "podman" and (why := emulation.reason(arch)):
        raise BuildError(f"No image for {arch}: {why}.")
    if stand_in:
        base = standin.ensure(arch, engine)
    dockerfile, context = package / f"image/Dockerfile.{kind}", package
    if kind == "proxy":
        dockerfile, context = _ROOT / "examples/proxy/Dockerfile", _ROOT
    name = tag or f"localhost/sagerank:{kind}-{arch}"
    # As labels and not as arguments of LABEL, whose values podman's cache takes for the same.
    labels = {"version": _version(), "revision": revision(context), "base.name": base or ""}
    with tempfile.TemporaryDirectory(prefix="sagerank-build-") as scratch:
        words = [
            *_command(engine, committed=_git(context, "log", "-1", "--format=%ct") or "0"),
            *("--platform", f"linux/{arch}"),
            *options("--build-arg", {"BASE": base} if base else {}),
            *options("--label", {f"{_LABELS}.{name}": text for name, text in labels.items() if text}),
            *options("--secret", [f"id={name},src={file}" for name, file in secrets(Path(scratch)).items()]),
            *("--file", str(dockerfile)),
            *("--tag", name),
            str(context),
        ]
        try:
            through = emulation.through(arch) if engine.name == "podman" else ()
            engine.run(*words, seconds=3600, through=through)
        except EngineError as error:
            said = (error.stdout + error.stderr).decode(errors="replace").strip().splitlines()
            raise BuildError("\n".join(said[-_LAST_LINES:])) from None
    return name


def _command(engine: Engine, committed: str) -> list[str]:
    """A manifest of Docker's and of one architecture, because SageMaker takes no other.

    committed: the time, in seconds since 1970, that the image states for itself, so that building again makes the same.
    """
    if engine.name == "podman":
        return ["build", "--format", "docker", "--timestamp", committed]
    dated = ["build", "--build-arg", f"SOURCE_DATE_EPOCH={committed}"]
    try:
        engine.run("buildx", "version")
    except EngineError:  # Docker before 23, which writes no other manifest
        return dated
    return [*dated, "--output", "type=docker,oci-mediatypes=false"]


def revision(context: Path) -> str:
    """The commit that a folder is of, with `-dirty` where it has changed since; empty where it is of none."""
    if not _git(context, "ls-files", "."):
        return ""
    changed = _git(context, "status", "--porcelain", ".")
    return _git(context, "rev-parse", "HEAD") + ("-dirty" if changed else "")


def _version() -> str:
    """Read, not imported: building needs nothing installed."""
    (found,) = re.findall(
        r'^__version__ = "(.+)"$', (_ROOT / "sagerank/__init__.py").read_text(encoding="utf-8"), re.M
    )
    return str(found)


def _git(folder: Path, *words: str) -> str:
    """What git says in a folder; empty where that is no checkout."""
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m containers.build", description="Build an image.")
    parser.add_argument("kind", nargs="?", choices=KINDS, default="cpu")
    parser.add_argument("--arch", choices=ARCHITECTURES, default="amd64")
    base = parser.add_mutually_exclusive_group()
    base.add_argument("--base", help="the image in FROM, in place of the Dockerfile's own")
    base.add_argument(
        "--stand-in",
        action="store_true",
        help="where no registry is reached: a base made of Debian's packages",
    )
    parser.add_argument("--tag", help="the image's name (localhost/sagerank:KIND-ARCH)")
    given = parser.parse_args()
    # An exit, so that what pip was told does not stay on the disk.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        engine = find()
        sys.stderr.write(f"Building with {engine.name}: minutes the first time\n")
        named = build(
            given.kind, given.arch, base=given.base, stand_in=given.stand_in, tag=given.tag, engine=engine
        )
        sys.stdout.write(f"{named}\n")
    except (NoEngine, BuildError, OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
