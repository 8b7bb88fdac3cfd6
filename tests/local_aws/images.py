"""What CreateModel makes of an image's address: the digest in ECR, or the sentence with which SageMaker refuses.

The local ECR says of its images what the registry behind it has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.ecr.models import ECRBackend, ecr_backends
from moto.ecr.responses import ECRResponse
from moto.sagemaker.exceptions import ValidationError

from .registry import given
from .resources import client

_UPLOADED: dict[str, bytes] = {}
_ADDRESS = re.compile(
    r"(?P<host>(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?)"
    r"/(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_TAKEN = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that a model was created with."""

    resolved: str  # its address in ECR, by digest
    local: str  # the same in the registry behind it
    architecture: str
    labels: Mapping[str, str]


def resolve(address: str, role: str, account: str) -> Image | None:
    """Find the image of a container. None: it is another account's, which nobody pulls here. Raises ValidationError."""
    registry = given()
    assert registry is not None
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        raise ValidationError(
            message=f'Using non-ECR image "{address}" without Vpc repository access mode is not supported.'
        )
    if parts["account"] != account:
        return None
    if parts["repository"] not in ecr_backends[account][parts["region"]].repositories:
        raise ValidationError(
            message=f"Cannot find repository: {parts['repository']} in registry ID: {account} Please check if your ECR repository exists "
            f"and role {role} has proper pull permissions for SageMaker: ecr:BatchCheckLayerAvailability, ecr:BatchGetImage, "
            "ecr:GetDownloadUrlForLayer"
        )
    where = f"{parts['host']}/{parts['repository']}"
    manifest = registry.manifest(where, parts["digest"] or parts["tag"] or "latest")
    if manifest is None:
        raise ValidationError(message=f"Requested image {address} not found.")
    if manifest.media_type != _TAKEN:
        raise ValidationError(
            message=f"Unsupported manifest media type {manifest.media_type} for image {address}. "
            "Ensure that valid manifest media type is used for specified image."
        )
    config = registry.config(where, manifest)
    resolved = f"{where}@{manifest.digest}"
    labels = config.get("config", {}).get("Labels") or {}
    return Image(resolved, f"{registry.address}/{resolved}", config["architecture"], labels)


def _learn(self: ECRBackend, repository_name: str) -> None:
    """Take over what was pushed to the registry since."""
    registry, repository = given(), self.repositories.get(repository_name)
    if registry is None or repository is None:
        return
    where = f"{repository.uri}"
    for tag in registry.tags(where):
        manifest = registry.manifest(where, tag)
        known = any(
            tag in image.image_tags and manifest and image.image_digest == manifest.digest
            for image in repository.images
        )
        if manifest and not known:
            self.put_image(repository_name, manifest.text, tag, manifest.media_type, manifest.digest)


def _learning(operation: str) -> None:
    original = getattr(ECRBackend, operation)

    def ask(self: ECRBackend, repository_name: str, *arguments: Any, **named: Any) -> Any:
        _learn(self, repository_name)
        return original(self, repository_name, *arguments, **named)

    setattr(ECRBackend, operation, ask)


def _download(self: ECRResponse) -> ActionResult:
    """GetDownloadUrlForLayer: as AWS does, an address of S3 that needs no other right than its signature."""
    repository, digest = self._get_param("repositoryName"), self._get_param("layerDigest")
    registry = given()
    where = self.ecr_backend.repositories[repository].uri
    content = registry.blob(where, digest) if registry else _UPLOADED.get(digest)
    if content is None:
        raise JsonRESTError("LayersNotFoundException", f"{repository} has no layer {digest}")
    s3, bucket = client("s3", self.region), f"prod-{self.region}-starport-layer-bucket"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=digest, Body=content)
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": digest})
    return ActionResult({"downloadUrl": url, "layerDigest": digest})


def _keeping(complete: Any) -> Any:
    """Keep what was uploaded as a layer, of which moto keeps the size."""

    def completed(self: ECRBackend, repository_name: str, upload_id: str, *rest: Any, **named: Any) -> Any:
        upload = self.repositories[repository_name].uploads.get(upload_id)
        content = bytes(upload.layer_parts) if upload else b""
        done = complete(self, repository_name, upload_id, *rest, **named)
        _UPLOADED[done["layerDigest"]] = content
        return done

    return completed


def install() -> None:
    ECRResponse.get_download_url_for_layer = _download
    ECRBackend.complete_layer_upload = _keeping(ECRBackend.complete_layer_upload)
    for operation in ("describe_images", "batch_get_image", "list_images"):
        _learning(operation)
