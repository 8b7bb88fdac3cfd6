"""A deployment as one frozen DeployConfig, read from a file and the command line.

model, mode and instance are enough; everything else has a default, and preset prod has stricter ones.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from . import options
from .beside import CASCADE, CASCADE_FORM, PRECISIONS, PRECISIONS_FORM, Component, Pool, Variant
from .modes import MODES, Mode
from .options import ConfigError, mapping, option, section
from .region import LAST
from .region import region as default_region
from .sections import (
    ARTEFACT_FORM,
    INSTANCE,
    INSTANCE_FORM,
    S3,
    SHA256,
    SHA256_FORM,
    Alarms,
    Asynchronous,
    Autoscaling,
    Batch,
    Budget,
    Capture,
    Encryption,
    ImageBuild,
    Metrics,
    Network,
    OtherBuckets,
    Rollout,
    Serverless,
    Traffic,
)

__all__ = ["ConfigError", "DeployConfig", "json_schema"]

ECR_IMAGE = (
    r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[a-z0-9/._-]+(:[\w.-]+|@sha256:[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployConfig:
    """All options of a deployment; model, mode and instance are enough. Raises ConfigError, with one sentence, for what cannot be deployed."""

    name: str = option(
        "sagerank",
        "of the endpoint, and the prefix of the stacks",
        pattern=r"[a-z]([a-z0-9]|-(?=[a-z0-9])){0,39}",
        form="at most 40 lower-case letters, digits and single inner hyphens, a letter first",
    )
    preset: str = option(
        "dev",
        "defaults: dev is cheap and leaves nothing behind; prod has two instances, canaries and retained data",
        choices=("dev", "prod"),
    )
    model: str = option(
        "tiny",
        "which reranker; or a cascade, whose first model scores all documents and the next the best K",
        pattern=CASCADE,
        form=CASCADE_FORM,
    )
    mode: str = option("realtime", "how it runs", choices=MODES)
    instance: str = option(
        "",
        "hosting type: its architecture and GPU decide image and server settings; none in serverless",
        pattern=INSTANCE,
        form=INSTANCE_FORM,
    )
    region: str = option(
        LAST,
        "AWS region; where it is left out, the environment's or profile's",
        pattern=r"[a-z]{2}(-[a-z]+)+-\d",
        form="a region such as eu-west-1",
    )
    account: str = option(
        "", "AWS account; empty: that of the credentials", pattern=r"|\d{12}", form="12 digits"
    )
    artefact: str = option(
        "model.tar.gz",
        "of `sagerank build`: a local model.tar.gz, s3://.../model.tar.gz, or s3://.../folder/ unpacked",
        pattern=rf".+\.tar\.gz|{S3}",
        form=ARTEFACT_FORM,
    )
    artefact_sha256: str = option(
        "",
        "of the artefact's manifest.json: the server refuses another; empty: a local archive's own, and in S3 what `sagerank deploy` reads there",
        pattern=SHA256,
        form=SHA256_FORM,
    )
    image: str = option(
        "dockerfile",
        "dockerfile (ours, built by `cdk deploy`), dlc (AWS's own container with code/ in the artefact), or the address of an image in ECR",
        pattern=rf"dockerfile|dlc|{ECR_IMAGE}",
        form="dockerfile, dlc, or 123456789012.dkr.ecr.REGION.amazonaws.com/NAME:TAG",
    )
    image_architecture: str = option(
        "",
        "of an image in ECR whose name does not say it",
        choices=("", "amd64", "arm64"),
        form="amd64 or arm64",
    )
    image_build: ImageBuild = section(
        ImageBuild, "of our own image, where Docker Hub or PyPI is out of reach"
    )
    model_package: str = option(
        "",
        "marketplace: ARN of the subscribed model package",
        pattern=r"|arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{12}:model-package/.+",
        form="the ARN of a model package",
    )
    precision: str = option(
        "",
        "of the arithmetic, as memory and price count it; empty: bf16 on a GPU that has it, else fp32. On a GPU the server chooses by itself",
        choices=PRECISIONS,
        form=PRECISIONS_FORM,
    )
    settings: Mapping[str, str] = mapping(
        "of the server, as in docs/server.md without the prefix: max_tokens, batch_tokens, ..."
    )
    network: Network = section(Network, "private by default")
    encryption: Encryption = section(Encryption, "with a key of this deployment by default")
    data: OtherBuckets = section(OtherBuckets, "in S3, outside of the deployment's own bucket (batch, async)")
    role: str = option(
        "",
        "existing role that the model runs with, with the rights that `sagerank policies --role` prints; empty: one is made",
        pattern=r"|arn:aws[a-z-]*:iam::\d{12}:role/.+",
        form="the ARN of an IAM role",
    )
    permissions_boundary: str = option(
        "",
        "policy that bounds every role the stacks make",
        pattern=r"|arn:aws[a-z-]*:iam::(\d{12}|aws):policy/.+",
        form="the ARN of an IAM policy",
    )
    autoscaling: Autoscaling = section(Autoscaling, "on the metric the mode emits")
    serverless: Serverless = section(Serverless, "of mode serverless")
    asynchronous: Asynchronous = section(Asynchronous, "of mode async")
    batch: Batch = section(Batch, "of mode batch")
    pools: tuple[Pool, ...] = option(
        (), "other instance types to fall back to (realtime, async, scale-to-zero)"
    )
    provision_seconds: int = option(
        0,
        "to find free instances, of all pools together; 0: as long as AWS tries, else 300 to 3600",
        low=0,
        high=3600,
    )
    variants: tuple[Variant, ...] = option((), "for A/B tests and shadow tests (realtime)")
    components: tuple[Component, ...] = option((), "other models on the same fleet (scale-to-zero)")
    rollout: Rollout = section(Rollout, "how updates reach the traffic")
    alarms: Alarms = section(Alarms, "what wakes you")
    metrics: Metrics = section(Metrics, "of single instances: off")
    budget: Budget = section(Budget, "what it may cost")
    capture: Capture = section(Capture, "of requests and answers: off")
    traffic: Traffic = section(Traffic, "what the estimated cost is for")
    startup_seconds: int = option(600, "for the container to answer /ping", low=60, high=3600)
    ami: str = option(
        "al2023-ami-sagemaker-inference-gpu-4-1",
        "of GPU instances: its driver must know the image's CUDA (ours is 13)",
        pattern=r"[a-z0-9-]+",
        form="an InferenceAmiVersion",
    )
    log_days: int = option(30, "that logs are kept", low=1, high=3653)
    tags: Mapping[str, str] = mapping("on everything that takes tags")
    removal: str = option(
        "destroy", "what happens to data, logs and key with the stack", choices=("destroy", "retain")
    )
    termination_protection: bool = option(False, "of the stacks: `sagerank destroy` wants --unprotect then")
    bootstrap_qualifier: str = option(
        "",
        "of the CDK's bootstrap stack; empty: the CDK's own, hnb659fds",
        pattern=r"|[a-z0-9]{1,10}",
        form="at most 10 lower-case letters and digits",
    )
    bootstrap_rule: bool = option(
        True, "let CloudFormation check the bootstrap version; false for AWS emulators"
    )

    def __post_init__(self) -> None:
        options.check(self)

    @property
    def vpc(self) -> str:
        """Where the instances stand: `new`, `none`, or the id of a VPC."""
        return self.network.vpc or ("new" if self.traits.instances else "none")

    @property
    def traits(self) -> Mode:
        """What SageMaker offers in this mode."""
        return MODES[self.mode]

    @property
    def component(self) -> str:
        """Which of `components` this is the configuration of (fleet.models); empty: the deployment's own model."""
        return ""

    @property
    def instances(self) -> list[str]:
        """Every instance type that may run."""
        fallbacks = [pool.instance for pool in self.pools]
        others = [variant.instance for variant in self.variants if variant.instance]
        return [self.instance, *fallbacks, *others] if self.instance else []

    @property
    def own_server(self) -> bool:
        """Whether sagerank_inference.server runs in the container, and logs a line for each request."""
        return self.traits.own_container and self.image != "dlc"

    @classmethod
    def read(cls, file: Path | None, context: Mapping[str, str]) -> Self:
        """Merge defaults, then the preset, then `file` (YAML, TOML or JSON), then `context`, whose keys may be dotted.

        Where neither says the region, the environment or profile does.
        """
        own = given(file, context)
        preset = own.get("preset", "dev")
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ConfigError(f"preset is {preset!r}: give one of {', '.join(PRESETS)}.")
        mode = MODES.get(str(own.get("mode", "realtime")), Mode())
        chosen = _merged(PRESETS[preset](mode), own)
        config = options.read(cls, chosen if "region" in chosen else {**chosen, "region": default_region()})
        return config._warm(chosen.get("autoscaling", {}))

    def _warm(self, asked: Mapping[str, Any] | str) -> Self:
        """Serverless capacity stays as warm as provisioned, but for what `asked` says of autoscaling."""
        if self.traits.instances or not self.serverless.provisioned:
            return self
        given = json.loads(asked) if isinstance(asked, str) else asked
        bounds: dict[str, Any] = dict.fromkeys({"min", "max"} - given.keys(), self.serverless.provisioned)
        return replace(self, autoscaling=replace(self.autoscaling, **bounds))


def json_schema() -> dict[str, Any]:
    """JSON Schema of a configuration file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sagerank deployment",
        **options.json_schema(DeployConfig),
    }


def _dev(mode: Mode) -> dict[str, Any]:
    return {"autoscaling": {"min": 0}} if mode.scales_to_zero else {}


def _prod(mode: Mode) -> dict[str, Any]:
    fleet = mode.instances and not mode.scales_to_zero
    return {
        "preset": "prod",
        "autoscaling": {"min": 2, "max": 8} if fleet else _dev(mode).get("autoscaling", {}),
        # The other modes are updated all at once: AWS has no canaries for them, or their fleet may be one or none.
        "rollout": {"policy": "canary", "wait_seconds": 600, "termination_seconds": 600}
        if fleet and mode.staged
        else {},
        "removal": "retain",
        "termination_protection": True,
        "log_days": 365,
    }


# Under what the user gives, by mode.
PRESETS = {"dev": _dev, "prod": _prod}


def given(file: Path | None, context: Mapping[str, Any]) -> dict[str, Any]:
    """What a file and the context over it say, unchecked and without defaults. Raises ConfigError where one is malformed."""
    return _merged(read_file(file) if file else {}, _nested(context))


def read_file(path: Path) -> dict[str, Any]:
    """The options of a YAML, TOML or JSON file, unchecked. Raises ConfigError where it is malformed."""
    readers: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": json.loads}
    readers |= {".yaml": _yaml, ".yml": _yaml}
    if path.suffix not in readers:
        raise ConfigError(f"The configuration {path} is named neither .yaml, .toml nor .json.")
    try:
        options = readers[path.suffix](path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"The configuration {path} is malformed: {error}.") from None
    except RecursionError:
        raise ConfigError(f"The configuration {path} is nested too deeply.") from None
    if not isinstance(options, dict):
        raise ConfigError(
            f"The configuration {path} is {options!r}: give options such as mode, model, instance."
        )
    return options


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _nested(context: Mapping[str, Any]) -> dict[str, Any]:
    """Turn {"a.b": 1} into {"a": {"b": 1}}."""
    found: dict[str, Any] = {}
    for key, value in context.items():
        *sections, name = key.split(".")
        inner = found
        for part in sections:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{key} is given beside {part}, which holds it: give one of them.")
        inner[name] = value
    return found


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(under)
    for name, value in over.items():
        below = found.get(name)
        found[name] = (
            _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
        )
    return found
