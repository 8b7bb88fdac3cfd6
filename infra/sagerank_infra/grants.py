"""Who may call: what SageMaker, S3 and KMS must allow a caller of one endpoint, and nothing of any other."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from . import metrics
from .accepted import accept_wildcard
from .config import DeployConfig
from .data import Data
from .options import ConfigError


def endpoint_name(config: DeployConfig) -> str:
    """Plain text: whoever has it in another stack imports nothing that could not change. Raises ConfigError in mode batch."""
    if not config.traits.endpoint:
        raise ConfigError(f"mode {config.mode} has a model for jobs and no endpoint: give another mode.")
    return config.name


def endpoint_arn(stack: cdk.Stack, config: DeployConfig) -> str:
    """Of the endpoint that stands in `stack`."""
    return stack.format_arn(service="sagemaker", resource="endpoint", resource_name=endpoint_name(config))


def grant_invoke(
    stack: cdk.Stack,
    config: DeployConfig,
    grantee: iam.IGrantable,
    *,
    key: kms.IKey | None,
    data: Data,
) -> iam.Grant:
    """Let `grantee` call the endpoint that stands in `stack`; of an asynchronous one, also write requests and read answers.

    Of a fleet, the component that `config` is of, and no other.
    """

    def allow(actions: list[str], resources: list[str], conditions: Any = None) -> iam.Grant:
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=actions, resource_arns=resources, conditions=conditions
        )

    called = [endpoint_arn(stack, config)]
    if config.traits.components:
        name = metrics.component(config)
        called.append(
            stack.format_arn(service="sagemaker", resource="inference-component", resource_name=name)
        )
    if not config.traits.queued:
        return allow(["sagemaker:InvokeEndpoint"], called)
    grants = [
        allow(["sagemaker:InvokeEndpointAsync"], called),
        allow(["s3:PutObject"], [data.arn("input")]),
        allow(["s3:GetObject"], [data.arn("output")]),
        # Without it S3 says of an answer that is not there yet that access is denied.
        allow(
            ["s3:ListBucket"],
            [data.bucket.bucket_arn],
            {"StringLike": {"s3:prefix": f"{data.folder}output/*"}},
        ),
    ]
    if keys := data.keys(key):
        grants.append(allow(["kms:Decrypt", "kms:GenerateDataKey"], keys))
    first, *others = grants
    for grant in others:
        first = first.combine(grant)
    return first


def caller_policy(
    scope: Construct, config: DeployConfig, *, key: kms.IKey | None, data: Data
) -> iam.ManagedPolicy:
    """The same rights as a policy, for roles and people that the CDK does not make."""
    called = f"component {metrics.component(config)} of endpoint" if config.component else "endpoint"
    policy = iam.ManagedPolicy(
        scope, f"Caller{config.component}", description=f"May call {called} {config.name}"
    )
    stack = cdk.Stack.of(scope)
    grant_invoke(stack, config, policy, key=key, data=data)
    if config.traits.queued:
        for kind in ("input", "output"):
            accept_wildcard(stack, policy, data.arn(kind), "requests and answers of this endpoint")
    return policy
