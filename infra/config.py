"""What a deployment is: one frozen DeployConfig, read from a file and the command line. model, mode and instance are
enough; everything else has a default, and preset prod has stricter ones.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from . import environment, options, rules
from .options import ConfigError, mapping, option, section

__all__ = ["ConfigError", "DeployConfig", "json_schema"]

MODES = ("realtime", "serverless", "async", "scale-to-zero", "batch", "marketplace")
_INSTANCE = r"|ml\.[a-z0-9-]+\.[a-z0-9]+"
_INSTANCE_FORM = "a SageMaker hosting type such as ml.c7i.xlarge, ml.c8g.xlarge or ml.g5.xlarge"
_NAME, _NAME_FORM = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", "at most 63 letters, digits and inner hyphens"
_KEY, _KEY_FORM = (
    r"new|aws|arn:aws[a-z-]*:kms:[^:]+:\d{12}:key/.+",
    "new, aws (AWS's own keys) or the ARN of a KMS key",
)
_S3 = r"s3://[a-z0-9.-]{3,63}/.+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    vpc: str = option(
        "",
        "new, none, or the id of your VPC (then with subnets and security groups); empty: new, and none in serverless",
        pattern=r"|new|none|vpc-[0-9a-f]+",
        form="new, none or a VPC id such as vpc-0a1b2c3d",
    )
    subnets: tuple[str, ...] = option(
        (),
        "private subnets of your VPC",
        pattern=r"subnet-[0-9a-f]+",
        form="subnet ids such as subnet-0a1b2c3d",
    )
    security_groups: tuple[str, ...] = option(
        (),
        "security groups of your VPC; they need port 443 outwards",
        pattern=r"sg-[0-9a-f]+",
        form="security group ids such as sg-0a1b2c3d",
    )
    cidr: str = option(
        "10.80.0.0/22",
        "addresses of a new VPC",
        pattern=r"(\d{1,3}\.){3}\d{1,3}/(1[6-9]|2[0-4])",
        form="an IPv4 block of /16 to /24",
    )
    zones: int = option(2, "availability zones of a new VPC", low=2, high=3)
    endpoints: tuple[str, ...] = option(
        (),
        "interface endpoints of a new VPC, billed by the hour and zone; S3's gateway is free and always there",
        choices=("ecr", "logs", "runtime"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    key: str = option("new", "KMS key of volumes, data in S3, topics and logs", pattern=_KEY, form=_KEY_FORM)
    artefact_key: str = option(
        "",
        "KMS key the artefact in S3 is encrypted with, where it is not the bucket's default",
        pattern=r"|arn:aws[a-z-]*:kms:[^:]+:\d{12}:key/.+",
        form="the ARN of a KMS key",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    name: str = option("", "of the action", pattern=_NAME, form=_NAME_FORM)
    cron: str = option(
        "",
        "when, as AWS writes it: `cron(0 7 ? * MON-FRI *)`",
        pattern=r"cron\([^()]+\)|rate\([^()]+\)|at\([^()]+\)",
        form="cron(...), rate(...) or at(...)",
    )
    timezone: str = option("UTC", "of the cron expression")
    min: int = option(1, "instances from then on, at least", low=0)
    max: int = option(1, "instances from then on, at most", low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling:
    min: int = option(
        1, "instances (copies in scale-to-zero, provisioned concurrency in serverless), at least", low=0
    )
    max: int = option(4, "and at most; equal to min: no scaling", low=1)
    target: float = option(
        0.0,
        "what scaling holds: invocations a minute and instance (async: queued requests an instance; serverless: share of provisioned concurrency in use); 0: from the estimated speed",
        low=0,
    )
    scale_in_seconds: int = option(600, "between two steps down", low=0, high=3600)
    scale_out_seconds: int = option(120, "between two steps up", low=0, high=3600)
    schedules: tuple[Schedule, ...] = option((), "actions at given times")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serverless:
    memory_mb: int = option(
        0, "1024 to 6144 in steps of 1024; 0: the smallest the model fits in", low=0, high=6144
    )
    max_concurrency: int = option(10, "requests at once; the account has a limit too", low=1, high=200)
    provisioned: int = option(0, "of them kept warm, and billed for it", low=0, high=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asynchronous:
    concurrency: int = option(4, "requests an instance takes at once", low=1, high=1000)
    timeout_seconds: int = option(900, "until a request fails", low=1, high=3600)
    days: int = option(7, "until requests and answers in S3 expire", low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    days: int = option(30, "until input and output in S3 expire", low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """An instance type that stands in when the first is not to be had."""

    instance: str = option("", "its type", pattern=_INSTANCE, form=_INSTANCE_FORM)
    priority: int = option(2, "the lowest is tried first; the endpoint's own type has 1", low=2, high=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Another artefact behind the same endpoint: for a share of the traffic, or for a copy of it."""

    name: str = option("", "of the variant", pattern=_NAME, form=_NAME_FORM)
    artefact: str = option(
        "",
        "its model.tar.gz; empty: the endpoint's own",
        pattern=rf"|.*\.tar\.gz|{_S3}",
        form="a model.tar.gz or an s3:// address",
    )
    instance: str = option("", "its type; empty: the endpoint's own", pattern=_INSTANCE, form=_INSTANCE_FORM)
    count: int = option(1, "its instances", low=1)
    weight: float = option(
        0.0, "of the traffic, beside the main variant's 1.0; a shadow's share is copied, not taken", low=0
    )
    shadow: bool = option(False, "answers are dropped: for comparing under real traffic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    policy: str = option(
        "all-at-once", "how an update moves traffic", choices=("all-at-once", "canary", "linear", "rolling")
    )
    percent: int = option(
        0, "of the instances in a step; 0: one instance of the smallest fleet, at most half", low=0, high=50
    )
    wait_seconds: int = option(300, "to watch the alarms after each step", low=0, high=3600)
    termination_seconds: int = option(120, "that the old fleet stays after the last step", low=0, high=3600)
    timeout_seconds: int = option(3600, "for the whole update", low=600, high=28800)
    rollback: bool = option(True, "go back when latency, errors or golden pairs raise an alarm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    email: tuple[str, ...] = option(
        (),
        "addresses that hear of alarms and of the budget",
        pattern=r"[^@\s]+@[^@\s]+\.[^@\s]+",
        form="e-mail addresses",
    )
    p99_ms: int = option(2000, "model latency at the 99th percentile", low=1)
    errors: int = option(5, "5xx answers within five minutes", low=1)
    queue_seconds: int = option(600, "age of the oldest waiting request (async)", low=1)
    utilisation: int = option(90, "percent of memory or disk", low=1, high=100)
    idle_hours: int = option(24, "without an invocation while instances run; 0: no alarm", low=0, high=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    enabled: bool = option(True, "an AWS Budget over everything with this deployment's tag")
    monthly_usd: float = option(0.0, "its limit; 0: one and a half times the estimate", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    percent: int = option(
        0, "of requests and answers kept in S3, encrypted; they hold your users' texts", low=0, high=100
    )
    days: int = option(14, "until they expire", low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What the estimate is for."""

    requests_per_second: float = option(0.1, "on average", low=0.000001)
    documents: int = option(100, "in a request", low=1, high=10_000)
    tokens: int = option(150, "of a document", low=1, high=8192)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployConfig:
    """model, mode and instance are enough. Raises ConfigError, with one sentence, for what cannot be deployed."""

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
    model: str = option("tiny", "which reranker", choices=("micro", "tiny", "turbo", "base"))
    mode: str = option("realtime", "how it runs", choices=MODES)
    instance: str = option(
        "",
        "hosting type: its architecture and GPU decide image and server settings; none in serverless",
        pattern=_INSTANCE,
        form=_INSTANCE_FORM,
    )
    region: str = option(
        "us-east-1", "AWS region", pattern=r"[a-z]{2}(-[a-z]+)+-\d", form="a region such as eu-west-1"
    )
    account: str = option(
        "", "AWS account; empty: that of the credentials", pattern=r"|\d{12}", form="12 digits"
    )
    artefact: str = option(
        "model.tar.gz",
        "of `sagerank build`: a local model.tar.gz, s3://.../model.tar.gz, or s3://.../folder/ unpacked",
        pattern=rf".+\.tar\.gz|{_S3}",
        form="a model.tar.gz or an s3:// address",
    )
    image: str = option(
        "dockerfile",
        "dockerfile (ours, built by `cdk deploy`), dlc (AWS's own container with code/ in the artefact), or the address of an image in ECR",
        pattern=r"dockerfile|dlc|\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[a-z0-9/._-]+(:[\w.-]+|@sha256:[0-9a-f]{64})",
        form="dockerfile, dlc, or 123456789012.dkr.ecr.REGION.amazonaws.com/NAME:TAG",
    )
    image_architecture: str = option(
        "",
        "of an image in ECR whose name does not say it",
        choices=("", "amd64", "arm64"),
        form="amd64 or arm64",
    )
    model_package: str = option(
        "",
        "marketplace: ARN of the subscribed model package",
        pattern=r"|arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{12}:model-package/.+",
        form="the ARN of a model package",
    )
    precision: str = option(
        "",
        "of the arithmetic; empty: bf16 on a GPU that has it, else fp32",
        choices=("", "fp32", "bf16", "int8"),
        form="bf16 (GPU), fp32 or int8 (CPU); fp16 overflows in models with ALiBi, as these are",
    )
    settings: Mapping[str, str] = mapping(
        "of the server, as in docs/server.md without the prefix: max_tokens, batch_tokens, ..."
    )
    network: Network = section(Network, "private by default")
    encryption: Encryption = section(Encryption, "with a key of this deployment by default")
    autoscaling: Autoscaling = section(Autoscaling, "on the metric the mode emits")
    serverless: Serverless = section(Serverless, "of mode serverless")
    asynchronous: Asynchronous = section(Asynchronous, "of mode async")
    batch: Batch = section(Batch, "of mode batch")
    pools: tuple[Pool, ...] = option((), "other instance types to fall back to (realtime, async)")
    variants: tuple[Variant, ...] = option((), "for A/B tests and shadow tests (realtime)")
    rollout: Rollout = section(Rollout, "how updates reach the traffic")
    alarms: Alarms = section(Alarms, "what wakes you")
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
        "destroy", "what happens to data and key with the stack", choices=("destroy", "retain")
    )
    bootstrap_rule: bool = option(
        True, "let CloudFormation check the bootstrap version; false for AWS emulators"
    )

    def __post_init__(self) -> None:
        options.check(self)
        rules.check(self)

    @property
    def vpc(self) -> str:
        """new, none, or an id."""
        return self.network.vpc or ("none" if self.mode == "serverless" else "new")

    @property
    def endpoint(self) -> bool:
        """False where requests come as files to a job."""
        return self.mode != "batch"

    @property
    def instances(self) -> list[str]:
        """Every type that may run."""
        fallbacks = [pool.instance for pool in self.pools]
        others = [variant.instance for variant in self.variants if variant.instance]
        return [self.instance, *fallbacks, *others] if self.instance else []

    @property
    def tokens(self) -> int:
        """Of the longest pair the server takes in one piece."""
        return environment.max_tokens(self)

    @property
    def own_server(self) -> bool:
        """inference.server runs in the container, and logs a line for each request."""
        return self.mode != "marketplace" and self.image != "dlc"

    @classmethod
    def read(cls, file: Path | None, context: Mapping[str, str]) -> Self:
        """Defaults, then the preset, then `file` (YAML, TOML or JSON), then `context`, whose keys may be dotted."""
        own = _load(file) if file else {}
        given = _nested(context)
        preset = given.get("preset", own.get("preset", "dev"))
        if preset not in PRESETS:
            raise ConfigError(f"preset is {preset!r}: give one of {', '.join(PRESETS)}.")
        mode = str(given.get("mode", own.get("mode", "realtime")))
        return options.read(cls, _merged(_merged(PRESETS[preset](mode), own), given))


def json_schema() -> dict[str, Any]:
    """Of a configuration file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sagerank deployment",
        **options.json_schema(DeployConfig),
    }


def _prod(mode: str) -> dict[str, Any]:
    spread = mode in ("realtime", "marketplace")
    scaling = {"min": 2, "max": 8} if spread else {}
    return {
        "preset": "prod",
        "autoscaling": scaling,
        "network": {"endpoints": ["ecr", "logs", "runtime"]} if mode != "serverless" else {},
        # Marketplace containers and serverless fall back to all at once, AWS says; a fleet of one has no canary.
        "rollout": {"policy": "canary", "wait_seconds": 600, "termination_seconds": 600}
        if mode == "realtime"
        else {},
        "removal": "retain",
        "log_days": 365,
    }


PRESETS = {"dev": lambda mode: {}, "prod": _prod}


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from None
    try:
        if path.suffix == ".toml":
            found: Any = tomllib.loads(text)
        elif path.suffix == ".json":
            found = json.loads(text)
        elif path.suffix in (".yaml", ".yml"):
            import yaml

            try:
                found = yaml.safe_load(text) or {}
            except yaml.YAMLError as error:
                raise ValueError(" ".join(str(error).split())) from None
        else:
            raise ConfigError(f"The configuration {path} is named neither .yaml, .toml nor .json.")
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"The configuration {path} is malformed: {error}.") from None
    if not isinstance(found, dict):
        raise ConfigError(
            f"The configuration {path} is {found!r}: give options such as mode, model, instance."
        )
    return found


def _nested(context: Mapping[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} as {"a": {"b": 1}}."""
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
