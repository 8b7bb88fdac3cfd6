#!/usr/bin/env python3
"""Stands in for the `docker` that CDK's asset publishing calls (CDK_DOCKER): the Dockerfile's sources must exist in the build
context, and a push registers the image with the local ECR, where the next deployment finds it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    command = next((word for word in arguments if not word.startswith("-")), "")
    if command == "build":
        return _build(arguments)
    if command == "inspect":
        return 1  # no image is cached here, so CDK builds
    if command == "push":
        return _push(arguments[-1])
    if command == "login":
        sys.stdin.read()
    return 0


def _build(arguments: list[str]) -> int:
    context = Path(arguments[-1])
    name = next(
        (value for flag, value in zip(arguments, arguments[1:], strict=False) if flag == "--file"),
        "Dockerfile",
    )
    for line in (context / name).read_text(encoding="utf-8").splitlines():
        if copied := re.match(r"COPY\s+(?!--from)(.+)\s+\S+$", line):
            for source in copied[1].split():
                if not source.startswith("--") and not (context / source).exists():
                    sys.stderr.write(f"{name}: COPY {source}: not in the build context\n")
                    return 1
    return 0


def _push(image: str) -> int:
    import boto3

    registry, _, rest = image.partition("/")
    repository, _, tag = rest.rpartition(":")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"digest": image},
        "layers": [],
    }
    ecr = boto3.client("ecr", region_name=registry.split(".")[3], endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    ecr.put_image(repositoryName=repository, imageTag=tag, imageManifest=json.dumps(manifest))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
