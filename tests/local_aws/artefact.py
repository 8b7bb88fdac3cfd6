"""The artefact of a model: CreateModel asks whether it is there, an instance downloads and unpacks it as SageMaker does."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from moto.sagemaker.exceptions import ValidationError

from .resources import client
from .rights import role_may

_NAMES = {"ModelDataUrl", "ModelDataSource"}


class ContainerFailed(Exception):
    """What SageMaker would put into FailureReason."""


def check(container: Mapping[str, Any], region: str, role: str) -> None:
    """Raise ValidationError, as CreateModel does, where a container names an artefact and there is none, or the role may not read it."""
    if not container.keys() & _NAMES:
        return
    bucket, key, single = _place(container)
    if not (single or key.endswith("/")):
        raise ValidationError(
            message=f"S3Uri {_address(container)} of S3DataType S3Prefix must end with a forward slash."
        )
    if not role_may(role, "s3:GetObject", f"arn:aws:s3:::{bucket}/{key}"):
        raise ValidationError(
            message=f'Could not access model data at {_address(container)}. Please ensure that the role "{role}" exists and that its trust '
            'relationship policy allows the action "sts:AssumeRole" for the service principal "sagemaker.amazonaws.com". Also ensure '
            f'that the role has "s3:GetObject" permissions and that the object is located in {region}.'
        )
    s3 = client("s3", region)
    try:
        if single:
            s3.head_object(Bucket=bucket, Key=key)
            return
        found = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)["KeyCount"]
    except ClientError:
        found = 0
    if not found:
        raise ValidationError(message=f"Could not find model data at {_address(container)}.")


def fetch(container: Mapping[str, Any], region: str, folder: Path) -> None:
    """Put the artefact's files, where the container names one, into `folder`. Raises ContainerFailed."""
    if not container.keys() & _NAMES:
        return
    bucket, key, single = _place(container)
    address = _address(container)
    s3 = client("s3", region)
    try:
        if not single:
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
                for item in page.get("Contents", ()):
                    target = folder / item["Key"].removeprefix(key)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    s3.download_file(bucket, item["Key"], str(target))
            return
        archive = folder.with_name("model.tar.gz")
        s3.download_file(bucket, key, str(archive))
    except ClientError:
        raise ContainerFailed(
            f'Failed to download model data for container "container_1" from URL: "{address}". Please ensure that there is an object '
            "located at the URL and that the role passed to CreateModel has permissions to download the object."
        ) from None
    try:
        if not key.endswith(".tar.gz"):  # what AWS documents, also of an archive under another name
            raise tarfile.ReadError
        with tarfile.open(archive, "r:gz") as opened:
            opened.extractall(folder, filter="data")
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, OSError):
        raise ContainerFailed(
            f'Failed to extract model data archive for container "container_1" from URL "{address}". '
            "Please ensure that the object located at the URL is a valid tar.gz archive."
        ) from None
    archive.unlink()


def _address(container: Mapping[str, Any]) -> str:
    if "ModelDataUrl" in container:
        return str(container["ModelDataUrl"])
    return str(container["ModelDataSource"]["S3DataSource"]["S3Uri"])


def _place(container: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Bucket, key or prefix, and whether it is a single archive."""
    bucket, _, key = _address(container).partition("://")[2].partition("/")
    if _address(container).startswith("https://"):  # https://s3.REGION.amazonaws.com/BUCKET/KEY
        bucket, _, key = key.partition("/")
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    return bucket, key, "ModelDataUrl" in container or source.get("CompressionType") == "Gzip"
