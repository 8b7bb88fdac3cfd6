"""What SageMaker starts on an instance: the artefact below a folder, the model's environment, our server. No image is pulled:
the server runs from this source, on CPU whatever the environment says.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagerank_inference.artefact import unpack

from .resources import client

ROOT = Path(__file__).parent.parent.parent


class ContainerFailed(Exception):
    """What SageMaker would put into FailureReason."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content_type: str
    body: bytes


class Container:
    """Start it with a described model; it is ready, or ContainerFailed was raised."""

    def __init__(self, primary: Mapping[str, Any], region: str, *, seconds: float = 120) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="local-aws-")
        model_dir = Path(self._folder.name) / "model"
        model_dir.mkdir()
        _fetch(primary, region, model_dir)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        given = {name: str(text) for name, text in primary.get("Environment", {}).items()}
        own = {
            "SAGERANK_MODEL_DIR": str(model_dir),
            "SAGERANK_HOST": "127.0.0.1",
            "SAGERANK_PORT": str(self.port),
            "SAGERANK_THREADS": "1",
        }
        if "SAGERANK_DEVICE" in given:
            own["SAGERANK_DEVICE"] = "cpu"
        bare = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "PYTHONPATH", "LD_LIBRARY_PATH")
            if name in os.environ
        }
        self._log = (Path(self._folder.name) / "log").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sagerank_inference.server"],
            cwd=ROOT,
            env={**bare, **given, **own},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + seconds
        while not self._answers_ping():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._log.seek(0)
                last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
                self.stop()
                raise ContainerFailed(
                    f"The primary container for production variant did not pass the ping health check: {' '.join(last)}"
                )
            time.sleep(0.05)

    def _answers_ping(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

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

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        self._folder.cleanup()


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
        unpack(archive, folder)
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
