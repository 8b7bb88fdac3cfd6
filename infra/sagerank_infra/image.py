"""The container image: ours as an asset, one in ECR, or AWS's own; and the repository it is pulled from."""

from __future__ import annotations

import os
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

BOOTSTRAP_CONTEXT = "@aws-cdk/core:bootstrapQualifier"
# Of AWS's own containers, Hugging Face's for inference: they have PyTorch and tokenizers, which sagerank_inference.handler needs.
_DLC = "huggingface-pytorch-inference"
_DLC_TAGS = {
    "cpu": "2.6.0-transformers4.49.0-cpu-py312-ubuntu22.04",
    "gpu": "2.6.0-transformers4.49.0-gpu-py312-cu124-ubuntu22.04",
}


def image_uri(stack: cdk.Stack, config: DeployConfig) -> str:
    """Address of the image; `cdk deploy` builds and pushes ours."""
    machine = hardware(config.instance) if config.instance else None
    kind = "gpu" if machine and machine.gpu else "cpu"
    if config.image == "dlc":
        registry = f"{_dlc_account(config.region)}.dkr.ecr.{config.region}.{stack.url_suffix}"
        return f"{registry}/{_DLC}:{_DLC_TAGS[kind]}"
    if config.image != "dockerfile":
        return config.image
    arm = machine is not None and machine.arch == "arm64"
    return ecr_assets.DockerImageAsset(
        stack,
        "Image",
        directory=str(Path(sagerank_inference.__file__).parent),
        file=f"image/Dockerfile.{kind}",
        # It is built where `cdk deploy` runs and runs elsewhere: a laptop with an ARM chip makes x86 images too.
        platform=ecr_assets.Platform.LINUX_ARM64 if arm else ecr_assets.Platform.LINUX_AMD64,
        # What Python, tools and file managers write beside the sources must not change the image's hash.
        ignore_mode=cdk.IgnoreMode.DOCKER,
        exclude=["**/__pycache__", "**/.*"],
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
    ).image_uri


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


def repository_arn(stack: cdk.Stack, config: DeployConfig) -> str:
    """The repository that the image is pulled from."""
    if config.image == "dlc":
        return _repository(stack, _dlc_account(config.region), _DLC)
    if config.image == "dockerfile":
        qualifier = bootstrap_qualifier(stack, config)
        return _repository(
            stack, stack.account, f"cdk-{qualifier}-container-assets-{stack.account}-{stack.region}"
        )
    registry, _, name = config.image.partition("/")
    return _repository(stack, registry.split(".")[0], name.partition("@")[0].partition(":")[0])


def bootstrap_qualifier(scope: Construct, config: DeployConfig) -> str:
    """Of the bootstrap stack's names: the option, else the CDK's context, else the CDK's own, as its synthesizer has it."""
    found = config.bootstrap_qualifier or scope.node.try_get_context(BOOTSTRAP_CONTEXT)
    return str(found or cdk.DefaultStackSynthesizer.DEFAULT_QUALIFIER)


def _repository(stack: cdk.Stack, account: str, name: str) -> str:
    return stack.format_arn(service="ecr", account=account, resource="repository", resource_name=name)


def _dlc_account(region: str) -> str:
    account = RegionInfo.get(region).dlc_repository_account
    if not account:
        raise ConfigError(
            f"image is 'dlc', and no account with AWS's containers is known in {region}: give dockerfile."
        )
    return account
