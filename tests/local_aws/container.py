"""What SageMaker starts on an instance: the artefact below a folder, the model's environment, our server. No image is pulled:
the server runs from this source, on CPU whatever the environment says.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sagerank.models.local_server import ServerError, running
from sagerank_inference.archive import unpack
from sagerank_inference.artefact import ArtefactError

from .launch import free_port
from .resources import client


class ContainerFailed(Exception):
    """What SageMaker would put into FailureReason."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content_type: str
    body: bytes


class Container:
    """Start it with a described model; it is ready, or ContainerFailed was raised."""

    def __init__(self, primary: Mapping[str, Any], region: str) -> None:
        given = {name: str(text) for name, text in primary.get("Environment", {}).items()}
        if "SAGERANK_DEVICE" in given:
            given["SAGERANK_DEVICE"] = "cpu"
        bare = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "PYTHONPATH", "LD_LIBRARY_PATH")
            if name in os.environ
        }
        with ExitStack() as stack:
            model_dir = Path(stack.enter_context(TemporaryDirectory(prefix="local-aws-"))) / "model"
            model_dir.mkdir()
            _fetch(primary, region, model_dir)
            self.port = free_port()
            own = {
                "SAGERANK_MODEL_DIR": str(model_dir),
                "SAGERANK_HOST": "127.0.0.1",
                "SAGERANK_PORT": str(self.port),
                "SAGERANK_THREADS": "1",
            }
            command = [sys.executable, "-P", "-m", "sagerank_inference.server"]
            try:
                stack.enter_context(running("The server", command, {**bare, **given, **own}, port=self.port))
            except ServerError as error:
                raise ContainerFailed(
                    f"The primary container for production variant did not pass the ping health check: {error}"
                ) from None
            self.stop = stack.pop_all().close
        atexit.register(self.stop)

    def invoke(self, body: bytes, content_type: str, accept: str = "", seconds: float = 60) -> Answer:
        headers = {"Content-Type": content_type, **({"Accept": accept} if accept else {})}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/invocations", data=body, method="POST", headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return Answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers.get("Content-Type", ""), error.read())
        except OSError as error:
            return Answer(
                500, "application/json", json.dumps({"message": f"the container died: {error}"}).encode()
            )


def _fetch(primary: Mapping[str, Any], region: str, folder: Path) -> None:
    if "Image" not in primary:
        raise ContainerFailed("A model package holds its seller's container, which only AWS can run.")
    if "ModelDataUrl" in primary:
        bucket, _, key = primary["ModelDataUrl"].partition("://")[2].partition("/")
        if not key.endswith(".tar.gz"):
            raise ContainerFailed(f"ModelDataUrl must end in .tar.gz: {primary['ModelDataUrl']}")
        if primary["ModelDataUrl"].startswith("https://"):  # https://s3.REGION.amazonaws.com/BUCKET/KEY
            bucket, _, key = key.partition("/")
        archive = folder.with_name("model.tar.gz")
        _download(region, bucket, key, archive)
        try:
            unpack(archive, folder, code=True)
        except ArtefactError as error:
            raise ContainerFailed(f"Failed to extract model data archive: {error}") from None
        return
    source = primary["ModelDataSource"]["S3DataSource"]
    bucket, _, prefix = source["S3Uri"].removeprefix("s3://").partition("/")
    for page in client("s3", region).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", ()):
            target = folder / item["Key"].removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            _download(region, bucket, item["Key"], target)


def _download(region: str, bucket: str, key: str, target: Path) -> None:
    from botocore.exceptions import ClientError

    try:
        client("s3", region).download_file(bucket, key, str(target))
    except ClientError as error:
        raise ContainerFailed(f"Could not download model data from s3://{bucket}/{key}: {error}") from None
