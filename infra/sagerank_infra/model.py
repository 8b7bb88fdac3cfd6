"""Foundation: what outlives an endpoint: key, role, image, artefact, log, data in S3, and the topic people subscribe to.

The SageMaker model itself belongs to the endpoint's part: it is replaced with every artefact, and CloudFormation refuses to
change a value that one stack exports while another imports it.
"""

from __future__ import annotations

from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from . import fleet, metrics
from .arns import log_groups
from .artefact import Artefact
from .config import DeployConfig
from .data import find_data
from .grants import caller_policy
from .image import Image, find_image
from .network import Placement
from .outputs import publish
from .role import execution_role

# They publish budgets and alarms to the topic. EventBridge, which sends no account to compare, has a role instead.
_PUBLISHERS = ("budgets.amazonaws.com", "cloudwatch.amazonaws.com")


class Foundation(Construct):
    """What outlives an endpoint: role, key, log group, alarm topic, stored data, image and artefact. All but log group and topic may be given.

    A Marketplace package brings image and artefact itself, and transform jobs share the account's log group.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: DeployConfig,
        placement: Placement | None,
        key: kms.IKey | None = None,
        role: iam.IRole | None = None,
        bucket: s3.IBucket | None = None,
        image: Image | None = None,
        artefact: Artefact | None = None,
    ) -> None:
        super().__init__(scope, id)
        self._config = config
        self._stack = cdk.Stack.of(self)
        self._removal = cdk.RemovalPolicy(config.removal.upper())
        self.key = key or self._key()
        if self.key:
            self._let_services_use(self.key)
        models = fleet.models(config) if config.traits.endpoint else ()
        self.log_groups = {each.component: self._log_group(each) for each in models}
        self.topic = self._topic()
        self.data = find_data(self, config, key=self.key, removal=self._removal, bucket=bucket)
        own = config.traits.own_container
        self.image = image or (find_image(self, config) if own else None)
        self.role = execution_role(
            self,
            config,
            image=self.image,
            key=self.key,
            data=self.data,
            placement=placement,
            role=role,
        )
        publish(self, config, "RoleArn", self.role.role_arn, parameter="role")
        if self.key:
            publish(self, config, "KeyArn", self.key.key_arn, parameter="key")
        for each in models:
            # Here and not beside the endpoint: while somebody has it, IAM does not let it go, and nothing here costs by the hour.
            policy = caller_policy(self, each, key=self.key, data=self.data)
            publish(self, each, "CallerPolicyArn", policy.managed_policy_arn, parameter="caller-policy")
        self.artefact = artefact or (self.locate("Artefact", config.artefact) if own else None)

    def locate(self, id: str, artefact: str) -> Artefact:
        """Find the artefact at its S3 address, or make a local file an asset, which `cdk deploy` uploads."""
        if artefact.startswith("s3://"):
            return Artefact.at(artefact)
        staging = cdk.AssetStaging(self, id, source_path=str(Path(artefact).resolve()))
        # An asset's key is its hash and the last suffix of its file's name, here HASH.gz; SageMaker's documentation asks for
        # .tar.gz. So the hash is given the suffix's first half.
        location = _assets(self).add_file_asset(
            source_hash=f"{staging.asset_hash}.tar",
            file_name=staging.relative_staged_path(self._stack),
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
        return kms.Key(
            self,
            "Key",
            enable_key_rotation=True,
            removal_policy=self._removal,
            description=f"Data of {self._config.name}",
        )

    def _let_services_use(self, key: kms.IKey) -> None:
        """By statements of the key's own policy, where the CDK makes it; whoever made another key adds them there."""
        groups = log_groups(self._stack, self._config)
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(f"logs.{self._stack.region}.amazonaws.com")],
                actions=[
                    "kms:Decrypt",
                    "kms:DescribeKey",
                    "kms:Encrypt",
                    "kms:GenerateDataKey*",
                    "kms:ReEncrypt*",
                ],
                resources=["*"],
                conditions={
                    "ArnEquals": {
                        "kms:EncryptionContext:aws:logs:arn": groups if len(groups) > 1 else groups[0]
                    }
                },
            )
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(name) for name in _PUBLISHERS],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": self._stack.account}},
            )
        )

    def _log_group(self, config: DeployConfig) -> logs.LogGroup:
        return logs.LogGroup(
            self,
            f"Log{config.component}",
            log_group_name=metrics.log_group(config),
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
                conditions={"StringEquals": {"aws:SourceAccount": self._stack.account}},
            )
        )
        for address in self._config.alarms.email:
            topic.add_subscription(subscriptions.EmailSubscription(address))
        cdk.CfnOutput(self, "AlarmTopic", value=topic.topic_arn)
        return topic


def _assets(scope: Construct) -> cdk.IStackSynthesizer:
    """The synthesizer of the stack that `scope` is in.

    jsii gives `stack.synthesizer` as it was passed to a stack or an app: the original, which is bound to no stack. A nested stack's
    own synthesizer hands everything to the bound one; the nested stack itself is not wanted.
    """
    nested = cdk.NestedStack(scope, "Assets")
    for id in ("Assets", "Assets.NestedStack"):
        scope.node.try_remove_child(id)
    return nested.synthesizer


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
