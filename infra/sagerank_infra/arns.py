"""What role, key, artefact and gateway policies name."""

from __future__ import annotations

import aws_cdk as cdk

from . import fleet, metrics
from .config import DeployConfig


def log_groups(stack: cdk.Stack, config: DeployConfig) -> list[str]:
    """One for each model."""
    return [
        stack.format_arn(
            service="logs",
            resource="log-group",
            resource_name=metrics.log_group(each),
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        for each in fleet.models(config)
    ]


def bucket_and_key(address: str) -> tuple[str, str]:
    """Of s3://BUCKET/KEY; the key may be a prefix, or empty."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key


def s3_arn(stack: cdk.Stack, bucket: str, key: str | None = None) -> str:
    """A bucket, or objects in it."""
    return stack.format_arn(service="s3", region="", account="", resource=bucket, resource_name=key)
