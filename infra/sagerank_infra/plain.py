"""A reranker as one plain template: no CDK bootstrap and no assets; image and artefact are parameters."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from .artefact import Artefact
from .config import ECR_IMAGE, DeployConfig
from .environment import manifest_sha256
from .image import Image
from .options import ConfigError
from .reranker import Reranker

_PINNED = "PrimaryContainer.Environment.SAGERANK_MANIFEST_SHA256"


class Plain(Reranker):
    """What a Deployment has, in one stack that any account and region may have; with AWS's own container, its region alone. Raises ConfigError for what only an asset can bring.

    Where the configuration has an image in ECR and an artefact in S3, they are the parameters' defaults.
    """

    def __init__(self, scope: Construct, config: DeployConfig) -> None:
        named = {f"variants[{index}]": each.artefact for index, each in enumerate(config.variants)}
        named |= {f"components[{index}]": each.artefact for index, each in enumerate(config.components)}
        for where, artefact in named.items():
            if artefact and not artefact.startswith("s3://"):
                raise ConfigError(
                    f"{where}.artefact is {artefact!r}, and a template brings no file: give its s3:// address."
                )
        self._parameters, self._wanted = scope, config
        super().__init__(scope, "Default", config=config)
        if config.traits.own_container:
            self._pin()
        self._name_outputs()

    def sources(self) -> dict[str, Any]:
        config = self._wanted
        if not config.traits.own_container:
            return {}
        found: dict[str, Any] = {"artefact": self._artefact()}
        if config.image != "dlc":  # that one is named by its region
            found["image"] = self._image()
        return found

    def _image(self) -> Image:
        config = self._wanted
        uri = self._parameter(
            "Image",
            "Address of the container image in ECR, of the stack's region",
            pattern=ECR_IMAGE,
            default=None if config.image == "dockerfile" else config.image,
        )
        suffix = ".amazonaws.com.cn/" if config.region.startswith("cn-") else ".amazonaws.com/"
        name = _piece(_piece(_piece(uri, suffix, 1), "@"), ":")
        repository = cdk.Stack.of(self).format_arn(
            service="ecr", account=_piece(uri, "."), resource="repository", resource_name=name
        )
        return Image(uri, repository)

    def _artefact(self) -> Artefact:
        config = self._wanted
        given = Artefact.at(config.artefact) if config.artefact.startswith("s3://") else None
        single = given is None or not given.prefix
        bucket = self._parameter(
            "ArtefactBucket",
            "Bucket of the model's artefact, in the stack's region",
            pattern=r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
            default=given.bucket if given else None,
        )
        key = self._parameter(
            "ArtefactKey",
            "Key of model.tar.gz in that bucket"
            if single
            else "Folder of the unpacked artefact, with a slash",
            pattern=r".+\.tar\.gz" if single else ".+/",
            default=given.key if given else None,
        )
        return Artefact(
            identity=given.identity if given else "",
            uri=f"s3://{bucket}/{key}",
            bucket=bucket,
            key=key,
            prefix=not single,
        )

    def _pin(self) -> None:
        """Let the server refuse another artefact than the one whose manifest has the sum that is given."""
        pinned = self._parameter(
            "ArtefactSha256",
            "SHA-256 of the artefact's manifest.json: the server refuses another; any: it takes every artefact",
            pattern="any|[0-9a-f]{64}",
            default=manifest_sha256(self.config) or "any",
        )
        others = [variant.name for variant in self.config.variants if not variant.artefact]
        for name in ("", *others):
            made = self.endpoint.node.find_child(f"Model{name}")
            assert isinstance(made, sagemaker.CfnModel)
            made.add_property_override(_PINNED, pinned)

    def _parameter(self, name: str, meaning: str, *, pattern: str, default: str | None) -> str:
        made = cdk.CfnParameter(
            self._parameters,
            name,
            description=meaning,
            allowed_pattern=pattern,
            constraint_description=f"must be of the form {pattern}",
            default=default,
        )
        return made.value_as_string

    def _name_outputs(self) -> None:
        """By the names that the outputs of a deployment have, each once: its stacks repeat one."""
        named = set[str]()
        for part in (self.model, self.endpoint, self.observability):
            for output in part.node.children:
                if not isinstance(output, cdk.CfnOutput):
                    continue
                if output.node.id in named:
                    part.node.try_remove_child(output.node.id)
                else:
                    output.override_logical_id(output.node.id)
                    named.add(output.node.id)


def build(scope: Construct, config: DeployConfig) -> Plain:
    """Make the stack in an app."""
    stack = cdk.Stack(
        scope,
        config.name,
        description=f"sagerank {config.name}",
        env=cdk.Environment(region=config.region) if config.image == "dlc" else None,
        synthesizer=cdk.BootstraplessSynthesizer(),
        analytics_reporting=False,
    )
    return Plain(stack, config)


def _piece(text: str, separator: str, index: int = 0) -> str:
    return cdk.Fn.select(index, cdk.Fn.split(separator, text))
