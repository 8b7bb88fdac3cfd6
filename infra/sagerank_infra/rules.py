"""What SageMaker would refuse, or accept and fail at, after minutes: refused here, in a sentence, before anything exists."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path

from . import estimate, fitting, fleet, fleet_rules, scaling_rules
from .config import DeployConfig
from .environment import settings, variables_of
from .options import ConfigError

_MOST_VARIANTS = 10  # of an endpoint, and metrics that an alarm adds up


def read(file: Path | None, context: Mapping[str, str]) -> DeployConfig:
    """`DeployConfig.read`, checked. Raises ConfigError, with one sentence, for what cannot be deployed."""
    config = DeployConfig.read(file, context)
    check(config)
    return config


def check(config: DeployConfig) -> None:
    """Raises ConfigError for the first rule that `config` breaks."""
    _mode(config)
    fleet_rules.check(config)
    _lacking(config)
    if config.traits.instances:
        fitting.check_instances(config)
    else:
        _serverless(config)
    _network(config)
    _rights(config)
    _tags(config)
    fitting.check_image(config)
    _limits(config)
    fitting.check_memory(config)
    scaling_rules.check(config)
    _metrics(config)
    _variants(config)
    _regions(config)
    fitting.check_artefact(config)


def _mode(config: DeployConfig) -> None:
    for model in fleet.models(config):
        estimate.check_model(model)
    if not config.traits.own_container and not config.model_package:
        raise ConfigError(
            "model_package is empty: mode marketplace needs the ARN of the model package you subscribed to."
        )
    if not config.traits.own_container and config.model != "base":
        raise ConfigError(f"model is {config.model!r}: AWS Marketplace has Base; give base, or another mode.")
    if config.traits.own_container and config.model_package:
        raise ConfigError(
            f"model_package is {config.model_package!r}, which only mode marketplace uses: give mode marketplace, or leave it out."
        )
    if not config.traits.own_container and config.settings:
        raise ConfigError(
            "settings are for our own server, and a Marketplace package has another: leave them out."
        )


def _lacking(config: DeployConfig) -> None:
    if config.provision_seconds and (
        config.provision_seconds < 300 or not (config.traits.instances and config.traits.endpoint)
    ):
        raise ConfigError(
            f"provision_seconds is {config.provision_seconds} in mode {config.mode}: endpoints of instances take 300 to 3600; give that, or leave it out."
        )
    if config.capture.percent and not config.traits.endpoint:
        raise ConfigError(
            f"capture.percent is {config.capture.percent}: mode {config.mode} has no endpoint whose requests could be captured; its input and output are in S3 already: give 0."
        )


def _serverless(config: DeployConfig) -> None:
    if config.instance:
        raise ConfigError(
            f"instance is {config.instance!r}: serverless has no instance types and no GPUs; leave it out, or give mode realtime."
        )
    estimate.check_precision(config)
    if config.network.vpc not in ("", "none"):
        raise ConfigError(
            f"network.vpc is {config.network.vpc!r}: serverless endpoints cannot be in a VPC; give none, or mode realtime."
        )
    if config.artefact.startswith("s3://") and not config.artefact.endswith(".tar.gz"):
        raise ConfigError(
            f"artefact is {config.artefact!r}: serverless takes no uncompressed model data; give a model.tar.gz."
        )
    if config.capture.percent:
        raise ConfigError(
            f"capture.percent is {config.capture.percent}: serverless endpoints have no data capture; give 0."
        )
    if config.serverless.memory_mb % 1024:
        raise ConfigError(
            f"serverless.memory_mb is {config.serverless.memory_mb}: give 1024, 2048, 3072, 4096, 5120 or 6144."
        )
    warm, most, scaling = config.serverless.provisioned, config.serverless.max_concurrency, config.autoscaling
    if warm > most:
        raise ConfigError(
            f"serverless.provisioned is {warm}: give at most serverless.max_concurrency, which is {most}."
        )
    if warm and scaling.min != warm:
        raise ConfigError(
            f"autoscaling.min is {scaling.min}, and serverless.provisioned is {warm}, which stays warm: give the same, or leave autoscaling.min out."
        )
    if warm and not warm <= scaling.max <= most:
        raise ConfigError(
            f"autoscaling.max is {scaling.max}: give serverless.provisioned, which is {warm}, to serverless.max_concurrency, which is {most}."
        )


def _tags(config: DeployConfig) -> None:
    for name in config.tags:
        if name.lower().startswith(("aws:", "sagerank:")):
            raise ConfigError(
                f"tags has {name!r}: such names are AWS's, or this deployment's own; give another."
            )


def _network(config: DeployConfig) -> None:
    network = config.network
    try:
        ipaddress.ip_network(network.cidr, strict=False)
    except ValueError as error:
        raise ConfigError(
            f"network.cidr is {network.cidr!r}: {error}; give a block such as 10.80.0.0/22."
        ) from None
    own = config.vpc.startswith("vpc-")
    if own and not (network.subnets and network.security_groups):
        raise ConfigError(
            f"network.vpc is {config.vpc!r}: give network.subnets and network.security_groups of it too."
        )
    if not own and (network.subnets or network.security_groups):
        raise ConfigError(
            f"network.subnets and network.security_groups belong to a VPC of yours, and network.vpc is {network.vpc!r}: give its id."
        )
    if network.endpoints and not own:
        raise ConfigError(
            f"network.endpoints keep calls inside the VPC they come from, and network.vpc is {config.vpc!r}, where nobody calls: "
            "give the id of your callers' VPC, or leave them out."
        )
    if bool(network.endpoints) != bool(network.callers):
        raise ConfigError(
            f"network.endpoints is {list(network.endpoints)} and network.callers {list(network.callers)}: give both, "
            "endpoints=runtime and the security groups or IPv4 blocks that call through it, or neither."
        )


def _rights(config: DeployConfig) -> None:
    data = config.data
    if (data.read or data.write or data.keys) and not config.traits.in_s3:
        raise ConfigError(
            f"data is for modes that read and write S3, batch and async, and mode is {config.mode!r}: leave it out."
        )
    if data.write and config.traits.queued:
        raise ConfigError(
            "data.write is for mode batch: an asynchronous endpoint's answers go to the deployment's own bucket; leave it out."
        )
    if data.keys and not (data.read or data.write):
        raise ConfigError(
            "data.keys are for the buckets in data.read and data.write, and there are none: give those too."
        )
    for where, arn in {"role": config.role, "permissions_boundary": config.permissions_boundary}.items():
        account = arn.split(":")[4] if arn else ""
        if config.account and account.isdigit() and account != config.account:
            raise ConfigError(
                f"{where} is of account {account}, and account is {config.account}: give one of the same account."
            )


def _limits(config: DeployConfig) -> None:
    chosen, traits = settings(config), config.traits
    variables_of(chosen)  # refuses what the server would refuse
    if "manifest_sha256" in chosen:
        raise ConfigError(
            "settings.manifest_sha256 is written by the deployment, for each artefact its own: give artefact_sha256."
        )
    if int(chosen.get("max_body_bytes", 0)) > traits.max_bytes:
        raise ConfigError(
            f"settings.max_body_bytes is {chosen['max_body_bytes']}: a request to mode {config.mode} has at most {traits.max_bytes} bytes."
        )
    if float(chosen.get("request_seconds", 0)) >= traits.max_seconds:
        raise ConfigError(
            f"settings.request_seconds is {chosen['request_seconds']}: SageMaker gives up after {traits.max_seconds} s in mode {config.mode}; give less."
        )


def _metrics(config: DeployConfig) -> None:
    wanted = config.metrics
    # AWS has rarer ones, which would leave the alarms' minutes without a value.
    if wanted.seconds not in (10, 30, 60):
        raise ConfigError(f"metrics.seconds is {wanted.seconds}: give 10, 30 or 60.")
    asked = {"enhanced": wanted.enhanced, "detailed": wanted.detailed, "seconds": wanted.seconds != 60}
    for name in (name for name, given in asked.items() if given and not config.traits.metered):
        raise ConfigError(
            f"metrics.{name} is for real-time endpoints on instances, and mode is {config.mode!r}: leave it out, or give realtime or scale-to-zero."
        )


def _variants(config: DeployConfig) -> None:
    if not config.variants:
        return
    if not config.traits.variants:
        raise ConfigError(f"variants are for mode realtime, and mode is {config.mode!r}: leave them out.")
    if config.pools:
        raise ConfigError("variants and pools exclude each other here: give one of them.")
    names = ["AllTraffic", *(variant.name for variant in config.variants)]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"variants has the name {max(names, key=names.count)!r} twice: the main variant is AllTraffic; give each another."
        )
    # CloudFormation's ids have no hyphens.
    bare = [name.replace("-", "") for name in names]
    if len(set(bare)) < len(bare):
        same = [name for name in names if bare.count(name.replace("-", "")) > 1]
        raise ConfigError(
            f"variants has {' and '.join(same)}, which differ in hyphens alone: give another name."
        )
    if len(names) > _MOST_VARIANTS:
        raise ConfigError(
            f"variants has {len(names) - 1}: SageMaker and its alarms take {_MOST_VARIANTS - 1} beside the main one; leave some out."
        )
    shadows = [variant.name for variant in config.variants if variant.shadow]
    if shadows and len(config.variants) > 1:
        raise ConfigError(
            f"variants has the shadow {shadows[0]!r} among {len(config.variants)}: a shadow stands beside one production variant only; give it alone."
        )
    for variant in config.variants:
        if not variant.weight:
            raise ConfigError(
                f"variants: the weight of {variant.name!r} is 0, so it would cost and see nothing: give more than 0; the main variant has 1."
            )


def _regions(config: DeployConfig) -> None:
    arns = {
        "encryption.key": config.encryption.key,
        "encryption.artefact_key": config.encryption.artefact_key,
        "model_package": config.model_package,
    }
    arns |= {f"data.keys[{index}]": key for index, key in enumerate(config.data.keys)}
    found = {where: arn.split(":")[3] for where, arn in arns.items() if arn.startswith("arn:")}
    if ".dkr.ecr." in config.image:
        found["image"] = config.image.split(".")[3]
    for where, region in found.items():
        if region != config.region:
            raise ConfigError(
                f"{where} is in {region}, and region is {config.region!r}: SageMaker takes it from its own region only; give one there."
            )
