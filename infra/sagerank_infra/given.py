"""What a Reranker is given besides options, and what of the configuration that decides in their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import aws_cdk as cdk
from constructs import Construct

from . import rules
from .config import DeployConfig
from .options import ConfigError
from .sections import Network


def settle(
    scope: Construct,
    config: DeployConfig | None,
    options: Mapping[str, Any],
    *,
    vpc: bool,
    key: bool,
    bucket: bool,
) -> DeployConfig:
    """`config`, or that of `options`, checked, with the name and region of where it stands.

    vpc, key, bucket: whether one is given; it is then neither made nor billed here. Raises ConfigError.
    """
    # The parts of our own app make stacks for themselves, in the region that is configured.
    stack = cdk.Stack.of(scope) if any(map(cdk.Stack.is_stack, scope.node.scopes)) else None
    region = stack.region if stack else cdk.Aws.REGION
    known = not cdk.Token.is_unresolved(region)
    if config is None:
        here = {"name": _name(scope), **({"region": region} if known else {})}
        config = DeployConfig.read(None, {**here, **options})
    elif options:
        raise ConfigError(f"{', '.join(options)} is given beside config: give one of them.")
    if known and config.region != region:
        raise ConfigError(
            f"region is {config.region!r}, and the stack is in {region}: give that, or leave it out."
        )
    if stack and not known and config.image == "dlc":
        raise ConfigError(
            "image is 'dlc', which every region has in an account of its own, and the stack names no region: give it env."
        )
    if bucket and not (config.traits.in_s3 or config.capture.percent):
        raise ConfigError(
            f"bucket is for requests and answers, and mode {config.mode} without capture.percent keeps none: leave it out."
        )
    if vpc and not config.traits.instances:
        raise ConfigError(
            "vpc is given: serverless endpoints cannot be in one; leave it out, or give mode realtime."
        )
    if vpc and config.network != Network():
        raise ConfigError(
            "vpc is given beside options of network, which are for a VPC that is not: give one of them."
        )
    if key and config.encryption.key != "new":
        raise ConfigError(
            f"key is given beside encryption.key, which is {config.encryption.key!r}: give one of them."
        )
    if vpc:
        config = replace(config, network=Network(vpc="none"))
    if key:
        config = replace(config, encryption=replace(config.encryption, key="aws"))
    rules.check(config)
    if stack:
        _claim(stack, config.name)
    return config


def _claim(stack: cdk.Stack, name: str) -> None:
    """AWS would refuse the second one of a name after minutes; the CDK knows no names."""
    mark = f"sagerank {name}"
    if stack.node.try_find_child(mark):
        raise ConfigError(
            f"name is {name!r} for two rerankers of stack {stack.stack_name}: give each another, or none."
        )
    Construct(stack, mark)


def _name(scope: Construct) -> str:
    """Of the construct's path: unlike any other in the account."""
    unique = cdk.Names.unique_resource_name(scope, max_length=40, separator="-")
    return unique.lower().lstrip("0123456789-")
