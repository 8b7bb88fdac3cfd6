"""ModelStack: what outlives an endpoint: key, role, image, artefact, log, data in S3, and the topic people subscribe to.

The SageMaker model itself belongs to the endpoint's stack: it is replaced with every artefact, and CloudFormation refuses to
change a value that one stack exports while another imports it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from . import metrics
from .accepted import accept
from .artefact import Artefact
from .config import DeployConfig
from .image import image_uri
from .network import Placement
from .role import execution_role

# They publish budgets and alarms to the topic. EventBridge, which sends no account to compare, has a role instead.
_PUBLISHERS = ("budgets.amazonaws.com", "cloudwatch.amazonaws.com")


class ModelStack(cdk.Stack):
    """What outlives an endpoint: role, key, log group, alarm topic, stored data, image and artefact.

    A Marketplace package brings image and artefact itself, transform jobs share the account's log group, and
    `data` is None where no request or answer is kept.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: DeployConfig,
        placement: Placement | None,
        synthesizer: cdk.DefaultStackSynthesizer,
        **stack: Any,
    ) -> None:
        super().__init__(scope, id, synthesizer=synthesizer, **stack)
        # The stack has a copy of it, bound to the stack, that shares the asset manifest; through jsii, `self.synthesizer`
        # is the unbound original.
        synthesizer.bind(self)
        self._assets = synthesizer
        self._config = config
        self._removal = cdk.RemovalPolicy(config.removal.upper())
        self.key = self._key()
        self.log_group = self._log_group() if config.traits.endpoint else None
        self.topic = self._topic()
        self.data = self._data()
        self.role = execution_role(self, config, key=self.key, data=self.data, placement=placement)
        own = config.traits.own_container
        self.image = image_uri(self, config) if own else None
        self.artefact = self.locate("Artefact", config.artefact) if own else None

    def locate(self, id: str, artefact: str) -> Artefact:
        """Find the artefact at its S3 address, or make a local file an asset, which `cdk deploy` uploads."""
        if artefact.startswith("s3://"):
            return Artefact.at(artefact)
        staging = cdk.AssetStaging(self, id, source_path=str(Path(artefact).resolve()))
        # An asset's key is its hash and the last suffix of its file's name, here HASH.gz; SageMaker's documentation asks for
        # .tar.gz. So the hash is given the suffix's first half.
        location = self._assets.add_file_asset(
            source_hash=f"{staging.asset_hash}.tar",
            file_name=staging.relative_staged_path(self),
            packaging=cdk.FileAssetPackaging.FILE,
            display_name=f"{self._config.name} {id.lower()}",
        )
        return Artefact(
            identity=staging.asset_hash,
            uri=location.s3_object_url,
            bucket=location.bucket_name,
            key=location.object_key,
            prefix=False,
        )

    def _key(self) -> kms.IKey | None:
        wanted = self._config.encryption.key
        if wanted != "new":
            return None if wanted == "aws" else kms.Key.from_key_arn(self, "Key", wanted)
        key = kms.Key(
            self,
            "Key",
            enable_key_rotation=True,
            removal_policy=self._removal,
            description=f"Data of {self._config.name}",
        )
        group = self.format_arn(
            service="logs",
            resource="log-group",
            resource_name=metrics.log_group(self._config),
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(f"logs.{self.region}.amazonaws.com")],
                actions=[
                    "kms:Decrypt",
                    "kms:DescribeKey",
                    "kms:Encrypt",
                    "kms:GenerateDataKey*",
                    "kms:ReEncrypt*",
                ],
                resources=["*"],
                conditions={"ArnEquals": {"kms:EncryptionContext:aws:logs:arn": group}},
            )
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(name) for name in _PUBLISHERS],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        return key

    def _log_group(self) -> logs.LogGroup:
        return logs.LogGroup(
            self,
            "Log",
            log_group_name=metrics.log_group(self._config),
            encryption_key=self.key,
            retention=_retention(self._config.log_days),
            # The name is SageMaker's choice, so a log that stays is in the way of the next stack: `sagerank deploy` lets
            # CloudFormation import it, which wants the policy Retain.
            removal_policy=self._removal,
        )

    def _topic(self) -> sns.Topic:
        topic = sns.Topic(self, "Topic", master_key=self.key, enforce_ssl=True)
        # A policy of its own replaces the default one, by which the account's alarms could publish.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(name) for name in _PUBLISHERS],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        for address in self._config.alarms.email:
            topic.add_subscription(subscriptions.EmailSubscription(address))
        cdk.CfnOutput(self, "AlarmTopic", value=topic.topic_arn)
        return topic

    def _data(self) -> s3.Bucket | None:
        """A bucket for requests and answers of asynchronous endpoints and transform jobs, and captured ones, each until it expires."""
        config = self._config
        days = {}
        if config.traits.in_s3:
            kept = (config.asynchronous if config.traits.queued else config.batch).days
            days = {"input/": kept, "output/": kept}
        if config.capture.percent:
            days["capture/"] = config.capture.days
        if not days:
            return None
        bucket = s3.Bucket(
            self,
            "Data",
            encryption=s3.BucketEncryption.KMS if self.key else s3.BucketEncryption.S3_MANAGED,
            encryption_key=self.key,
            bucket_key_enabled=self.key is not None,
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
            removal_policy=self._removal,
        )
        accept(
            bucket,
            "read and written by one role for days; CloudTrail has data events",
            "AwsSolutions-S1",
            "CKV_AWS_18",
        )
        accept(bucket, "older versions would keep what has to expire", "CKV_AWS_21")
        if "input/" in days:
            cdk.CfnOutput(self, "InputPath", value=bucket.s3_url_for_object("input"))
            cdk.CfnOutput(self, "OutputPath", value=bucket.s3_url_for_object("output"))
        return bucket


def _retention(days: int) -> logs.RetentionDays:
    """The shortest of CloudWatch's periods that is at least so long."""
    offered = {
        1: "ONE_DAY",
        7: "ONE_WEEK",
        14: "TWO_WEEKS",
        30: "ONE_MONTH",
        90: "THREE_MONTHS",
        180: "SIX_MONTHS",
    }
    offered |= {365: "ONE_YEAR", 731: "TWO_YEARS", 1827: "FIVE_YEARS", 3653: "TEN_YEARS"}
    return logs.RetentionDays[next(name for count, name in offered.items() if count >= days)]
