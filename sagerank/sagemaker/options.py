"""The configuration of `sagerank deploy`, as far as the SDK's pieces have a place for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3

from sagerank import aws
from sagerank_infra import rules
from sagerank_infra.config import ConfigError, DeployConfig

_MODES = ("realtime", "serverless", "async", "batch")
# What the SDK's pieces are made of; the rest of a configuration is for the stacks of `sagerank deploy`.
_OPTIONS = (
    "ami",
    "artefact",
    "artefact_sha256",
    "asynchronous",
    "autoscaling",
    "encryption",
    "image",
    "image_architecture",
    "instance",
    "mode",
    "model",
    "name",
    "network",
    "precision",
    "region",
    "serverless",
    "settings",
    "startup_seconds",
    "tags",
    "traffic",
)


def default_session(region: str | None = None, profile: str | None = None) -> boto3.Session:
    """The session of sagerank's one rule for region and profile. Raises InvalidRequest where there is none."""
    return boto3.Session(botocore_session=aws.session(region, profile))


def named_key(config: DeployConfig) -> str:
    """The ARN of the KMS key that was named; empty where AWS's own keys are taken."""
    return config.encryption.key if config.encryption.key.startswith("arn:") else ""


def config(*, session: boto3.Session | None = None, **given: Any) -> DeployConfig:
    """A deployment, checked: model, mode, instance and image are enough, and the other options are those of `sagerank deploy`.

    Nested options are mappings: autoscaling={"max": 8}. Raises ConfigError, with one sentence, for what cannot be deployed, and
    InvalidRequest where nothing says the region: region=, `session`, environment and profile are asked as by every command.
    """
    for name in given:
        if name not in _OPTIONS:
            raise ConfigError(f"{name} is not an option here: known are {', '.join(_OPTIONS)}.")
    if given.get("mode", "realtime") not in _MODES:
        raise ConfigError(
            f"mode is {given['mode']!r}: give one of {', '.join(_MODES)}, or use `sagerank deploy`."
        )
    if ".dkr.ecr." not in str(given.get("image", "")):
        raise ConfigError(
            "image is no address in ECR: give that of our image there, 123456789012.dkr.ecr.REGION.amazonaws.com/NAME:TAG."
        )
    region = given.get("region") or (session or default_session()).region_name
    # Nothing here makes a VPC, a key, or the alarm that wakes a fleet of none.
    defaults: dict[str, dict[str, Any]] = {
        "network": {"vpc": "none"},
        "encryption": {"key": "aws"},
        "autoscaling": {} if given.get("mode") == "serverless" else {"min": 1},
    }
    for name, section in defaults.items():
        if isinstance(chosen := given.get(name, {}), Mapping):
            given[name] = {**section, **chosen}
    made = rules.read(None, {**given, "region": region})
    if made.vpc == "new" or made.encryption.key == "new" or made.autoscaling.min == 0:
        raise ConfigError(
            "A new VPC, a new key and a fleet of none are made by `sagerank deploy`: give what exists, and autoscaling.min of at least 1."
        )
    if made.autoscaling.schedules:
        raise ConfigError(
            "autoscaling.schedules is for `sagerank deploy`: leave it out, and call Application Auto Scaling's put_scheduled_action."
        )
    return made
