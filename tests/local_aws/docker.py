#!/usr/bin/env python3
"""The `docker` that CDK's asset publishing calls (CDK_DOCKER) where the local AWS has a registry: podman, with what a machine without
Docker and without a reachable registry has to be told.

The base image is the stand-in of Debian's packages, pip's settings are secrets of the build, and ECR's address is the local registry.
Without a registry nothing is built: the Dockerfile's sources must exist in the build context, and a push registers the image's name.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from containers import standin
from containers.engine import options, podman
from containers.settings import secrets
from tests.local_aws.registry import Registry, given

# An image that holds its sources alone; the local AWS runs the server from this checkout in its place.
PROCESS = "sagerank.local-aws.process"
_ECR = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com")


def main(words: list[str]) -> int:
    registry = given()
    return _without_registry(words) if registry is None else _with(registry, words)


def _with(registry: Registry, words: list[str]) -> int:
    with (registry.folder / "docker.log").open("a", encoding="utf-8") as log:
        log.write(f"{' '.join(words)}\n")
    command = words[0]
    if command == "buildx":  # its version is asked for
        return 0
    if command == "build":
        return _build(registry, words[1:])
    if command == "login":
        words = [command, "--tls-verify=false", *words[1:-1], registry.address]
    if command == "push" and _ECR.match(words[-1]):
        words = [command, "--tls-verify=false", *words[1:], f"docker://{registry.address}/{words[-1]}"]
    return _podman(registry, words)


def _podman(registry: Registry, words: list[str], stdin: str | None = None) -> int:
    engine = podman()
    environment = {**os.environ, **engine.environ, **registry.storage("builds")}
    return subprocess.run(
        [engine.name, *words], env=environment, input=stdin, text=True, check=False
    ).returncode


def _build(registry: Registry, words: list[str]) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--file", default="Dockerfile")
    parser.add_argument("--platform", default="linux/amd64")
    parser.add_argument("--output", action="append", default=[])
    asked, rest = parser.parse_known_args(words)
    # Docker's own choice is OCI's media types, unless the asset asks for its older ones.
    docker = any(re.search(r"\btype=docker\b|\boci-mediatypes=false\b", each) for each in asked.output)
    same = ["build", "--format", "docker" if docker else "oci", "--platform", asked.platform]
    arch = asked.platform.rpartition("/")[2]
    if reason := _not_built(asked.file, arch):
        sys.stderr.write(f"{asked.file} for {arch} is not built here: {reason}\n")
        sources = f'FROM scratch\nCOPY . /\nLABEL {PROCESS}="{reason}"\n'
        return _podman(registry, [*same, "--file", "-", *rest], stdin=sources)
    with tempfile.TemporaryDirectory(prefix="local-aws-build-") as scratch:
        told = [f"id={name},src={file}" for name, file in secrets(Path(scratch)).items()]
        base = {"BASE": _base(registry, arch)}
        more = [*options("--build-arg", base), *options("--secret", told), "--file", asked.file]
        return _podman(registry, [*same, *more, *rest])


def _base(registry: Registry, arch: str) -> str:
    """Take the stand-in over from the machine's images, and nothing else: what others built there is no cache of this build."""
    image, place = standin.name(arch), registry.folder / "builds"
    if _podman(registry, ["image", "exists", image]):
        subprocess.run(
            [
                *("skopeo", "copy", "--quiet", f"containers-storage:{image}"),
                f"containers-storage:[overlay@{place}+{place}-run]{image}",
            ],
            env={**os.environ, **podman().environ},
            check=True,
        )
    return image


def _not_built(file: str, arch: str) -> str:
    if file.endswith(".gpu"):
        return "PyTorch for CUDA is gigabytes, and there is no GPU"
    if arch == "arm64" and not (
        Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists() and podman().has(standin.name(arch))
    ):
        return "there is no emulation of arm64, or no base image for it (python -m containers.standin --arch arm64)"
    return ""


def _without_registry(words: list[str]) -> int:
    command = next((word for word in words if not word.startswith("-")), "")
    if command == "build":
        return _check(words)
    if command == "inspect":
        return 1  # no image is cached here, so CDK builds
    if command == "push":
        return _register(words[-1])
    if command == "login":
        sys.stdin.read()
    return 0


def _check(words: list[str]) -> int:
    context = Path(words[-1])
    name = next(
        (value for flag, value in zip(words, words[1:], strict=False) if flag == "--file"), "Dockerfile"
    )
    for line in (context / name).read_text(encoding="utf-8").splitlines():
        if copied := re.match(r"COPY\s+(?!--from)(.+)\s+\S+$", line):
            for source in copied[1].split():
                if not source.startswith("--") and not (context / source).exists():
                    sys.stderr.write(f"{name}: COPY {source}: not in the build context\n")
                    return 1
    return 0


def _register(image: str) -> int:
    import boto3

    host, _, rest = image.partition("/")
    repository, _, tag = rest.rpartition(":")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"digest": image},
        "layers": [],
    }
    ecr = boto3.client("ecr", region_name=host.split(".")[3], endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    ecr.put_image(repositoryName=repository, imageTag=tag, imageManifest=json.dumps(manifest))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
