"""An image in ECR, looked at before it is deployed: SageMaker would refuse it in the middle of the deployment, or its instances could not start it."""

from __future__ import annotations

import hashlib
import json
import re
import urllib.request
from typing import TYPE_CHECKING, Any

from sagerank_infra.instances import hardware

from . import OperateError
from .account import Account, look_up, sentences

if TYPE_CHECKING:
    from sagerank_infra.config import DeployConfig

_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
_TYPES = [
    _DOCKER,
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
]
_ADDRESS = re.compile(
    r"(?P<registry>\d{12})\.dkr\.ecr\.[^/]+/(?P<repository>[^:@]+)(?::(?P<tag>[^@]+)|@(?P<digest>.+))"
)
_MOST_CONFIG = 4 << 20
_MEND = "`skopeo copy --format v2s2 docker://IMAGE docker://IMAGE-v2s2` makes one that it takes, of one architecture with --override-arch"


def check(config: DeployConfig, account: Account) -> str:
    """Raise OperateError for an image that is not there, has a manifest that SageMaker refuses, or is built for another architecture.

    Returns why it could not be looked at; empty where it could, or is none of the user's own.
    """
    address = _ADDRESS.fullmatch(config.image)
    if address is None or not config.traits.own_container:
        return ""
    try:
        with sentences():
            image = _image(account, address)
            _require_manifest(config.image, image)
            built_for = _architecture(account, address, json.loads(image["imageManifest"]))
    except _Refused:
        raise
    except (OperateError, OSError, LookupError, TypeError, ValueError) as error:
        return f"The image {config.image} could not be looked at, and AWS may refuse it: {error}"
    wanted = hardware(config.instance).arch if config.instance else "amd64"
    if built_for != wanted:
        raise _Refused(
            f"image {config.image} is built for {built_for}, and {config.instance or 'serverless'} is {wanted}: give one for {wanted}, or another instance."
        )
    return ""


class _Refused(OperateError):
    """What was found, and not why nothing could be found."""


def _image(account: Account, address: re.Match[str]) -> Any:
    which = {"imageTag": address["tag"]} if address["tag"] else {"imageDigest": address["digest"]}
    found = look_up(
        account.client("ecr").batch_get_image,
        registryId=address["registry"],
        repositoryName=address["repository"],
        imageIds=[which],
        acceptedMediaTypes=_TYPES,
    )
    if found is None or not found["images"]:
        raise _Refused(f"There is no image {address[0]} in ECR: push it first, or leave image out.")
    return found["images"][0]


def _require_manifest(address: str, image: Any) -> None:
    kind = image.get("imageManifestMediaType") or json.loads(image["imageManifest"]).get("mediaType", "")
    if kind != _DOCKER:
        what = "an index of several images" if "index" in kind or "list" in kind else "a manifest of OCI"
        raise _Refused(f"image {address} is {what} ({kind}), and SageMaker takes {_DOCKER} alone: {_MEND}.")


def _architecture(account: Account, address: re.Match[str], manifest: Any) -> str:
    """What the image's own configuration says, which is a blob beside its layers."""
    digest = manifest["config"]["digest"]
    url = account.client("ecr").get_download_url_for_layer(
        registryId=address["registry"], repositoryName=address["repository"], layerDigest=digest
    )["downloadUrl"]
    with urllib.request.urlopen(url, timeout=10) as answer:
        content: bytes = answer.read(_MOST_CONFIG)
    if digest != f"sha256:{hashlib.sha256(content).hexdigest()}":
        raise ValueError("its configuration is not what its manifest names.")
    return str(json.loads(content)["architecture"])
