"""Where requests and answers are kept: a bucket for them alone, each until it expires, or a folder of one that is there."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from .accepted import accept
from .config import DeployConfig


@dataclass(frozen=True, slots=True)
class Data:
    """The folders input, output and capture of a bucket, below `folder`, which ends with a slash where there is one."""

    bucket: s3.IBucket
    folder: str = ""

    def uri(self, kind: str) -> str:
        """The address of input, output or capture, without a slash at its end."""
        return self.bucket.s3_url_for_object(f"{self.folder}{kind}")

    def arn(self, kind: str) -> str:
        """The ARN of everything in input, output or capture."""
        return self.bucket.arn_for_objects(f"{self.folder}{kind}/*")

    def keys(self, key: kms.IKey | None) -> list[str]:
        """ARNs of the keys that objects are encrypted with: `key`, and that of a bucket that was there."""
        return list(dict.fromkeys(each.key_arn for each in (key, self.bucket.encryption_key) if each))


def find_data(
    scope: Construct,
    config: DeployConfig,
    *,
    key: kms.IKey | None,
    removal: cdk.RemovalPolicy,
    bucket: s3.IBucket | None = None,
) -> Data:
    """A place in `bucket`, or in a new one.

    It is there where nothing is kept, too: capture that is turned off leaves what has still to expire.
    """
    kept = (config.asynchronous if config.traits.queued else config.batch).days
    days = {"input/": kept, "output/": kept, "capture/": config.capture.days}
    found = Data(bucket, f"{config.name}/") if bucket else Data(_bucket(scope, days, key, removal))
    if config.traits.in_s3:
        cdk.CfnOutput(scope, "InputPath", value=found.uri("input"))
        cdk.CfnOutput(scope, "OutputPath", value=found.uri("output"))
    return found


def _bucket(
    scope: Construct, days: dict[str, int], key: kms.IKey | None, removal: cdk.RemovalPolicy
) -> s3.Bucket:
    bucket = s3.Bucket(
        scope,
        "Data",
        encryption=s3.BucketEncryption.KMS if key else s3.BucketEncryption.S3_MANAGED,
        encryption_key=key,
        bucket_key_enabled=key is not None,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        enforce_ssl=True,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        lifecycle_rules=[
            s3.LifecycleRule(
                id=prefix.rstrip("/"),
                prefix=prefix,
                expiration=cdk.Duration.days(count),
                abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
            )
            for prefix, count in days.items()
        ],
        removal_policy=removal,
    )
    reason = "read and written by one role for days; CloudTrail has data events"
    accept(bucket, reason, "AwsSolutions-S1", "CKV_AWS_18")
    accept(bucket, "older versions would keep what has to expire", "CKV_AWS_21")
    return bucket
