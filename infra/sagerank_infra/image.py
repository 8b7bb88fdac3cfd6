"""The container image: ours as an asset, one in ECR, or AWS's own; and the repository it is pulled from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk.region_info import RegionInfo
from constructs import Construct

import sagerank_inference

from .config import DeployConfig
from .instances import hardware
from .options import ConfigError

# Of AWS's own containers, Hugging Face's for inference: they have PyTorch and tokenizers, which sagerank_inference.handler needs.
_DLC = "huggingface-pytorch-inference"
_DLC_TAGS = {
    "cpu": "2.6.0-transformers4.49.0-cpu-py312-ubuntu22.04",
    "gpu": "2.6.0-transformers4.49.0-gpu-py312-cu124-ubuntu22.04",
}


@dataclass(frozen=True, slots=True)
class Image:
    """Address of an image, and the ARN of the repository that it is pulled from."""

    uri: str
    repository: str


def find_image(scope: Construct, config: DeployConfig) -> Image:
    """The image that `config` wants; `cdk deploy` builds ours and pushes it."""
    stack = cdk.Stack.of(scope)
    machine = hardware(config.instance) if config.instance else None
    kind = "gpu" if machine and machine.gpu else "cpu"
    if config.image == "dlc":
        account = _dlc_account(config.region)
        registry = f"{account}.dkr.ecr.{config.region}.{stack.url_suffix}"
        return Image(f"{registry}/{_DLC}:{_DLC_TAGS[kind]}", _repository(stack, account, _DLC))
    if config.image != "dockerfile":
        registry, _, name = config.image.partition("/")
        name = name.partition("@")[0].partition(":")[0]
        return Image(config.image, _repository(stack, registry.split(".")[0], name))
    if _outputs() is None and os.environ.get("BUILDAH_FORMAT") != "docker":
        cdk.Annotations.of(stack).add_error(
            "Podman would push a manifest of OCI, which SageMaker refuses: set BUILDAH_FORMAT=docker, or deploy with `sagerank deploy`."
        )
    arm = machine is not None and machine.arch == "arm64"
    built = ecr_assets.DockerImageAsset(
        scope,
        "Image",
        directory=str(Path(sagerank_inference.__file__).parent),
        file=f"image/Dockerfile.{kind}",
        # It is built where `cdk deploy` runs and runs elsewhere: a laptop with an ARM chip makes x86 images too.
        platform=ecr_assets.Platform.LINUX_ARM64 if arm else ecr_assets.Platform.LINUX_AMD64,
        # What Python, tools, file managers and their owner keep beside the sources must not change the image's hash, nor be in it.
        ignore_mode=cdk.IgnoreMode.DOCKER,
        exclude=["**/*", "!**/*.py", "!micro/*", "!image/*", "**/__pycache__", "**/.*"],
        outputs=_outputs(),
        build_args=_arguments(config),
        build_secrets={
            name: cdk.DockerBuildSecret.from_src(str(Path(file).expanduser().resolve()))
            for name, file in (("pip", config.image_build.pip), ("ca", config.image_build.certificates))
            if file
        },
        # Nor must whoever builds it, and how.
        invalidation=ecr_assets.DockerImageAssetInvalidationOptions(
            outputs=False, build_args=bool(config.image_build.base), build_secrets=False
        ),
    )
    # Which repository is the stack's synthesizer's choice.
    return Image(built.image_uri, built.repository.repository_arn)


def _outputs() -> list[str] | None:
    """What the CDK's command line gives `build` as --output: SageMaker refuses OCI's manifests, which are Docker's choice by now.

    Podman knows no such output, and makes of it a folder, or an error: there BUILDAH_FORMAT=docker says the same.
    """
    builder = Path(os.environ.get("CDK_DOCKER", "docker")).stem
    return None if builder in ("podman", "buildah") else ["type=docker,oci-mediatypes=false"]


def _arguments(config: DeployConfig) -> dict[str, str]:
    found = {"BASE": config.image_build.base} if config.image_build.base else {}
    try:
        return {**found, "VERSION": metadata.version("sagerank")}
    except metadata.PackageNotFoundError:
        return found


def _repository(stack: cdk.Stack, account: str, name: str) -> str:
    return stack.format_arn(service="ecr", account=account, resource="repository", resource_name=name)


def _dlc_account(region: str) -> str:
    account = RegionInfo.get(region).dlc_repository_account
    if not account:
        raise ConfigError(
            f"image is 'dlc', and no account with AWS's containers is known in {region}: give dockerfile."
        )
    return account
