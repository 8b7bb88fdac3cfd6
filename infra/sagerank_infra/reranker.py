"""Reranker: an endpoint and all that belongs to it, as a construct of any stack."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from .config import DeployConfig
from .endpoint import Endpoint
from .hosting import tags
from .model import Foundation
from .network import Network, Placement
from .observability import Observability

# CloudFormation accepts tags on these only since recently, and not everything that reads templates does.
_UNTAGGED = ["AWS::ApplicationAutoScaling::ScalableTarget", "AWS::CloudWatch::Dashboard"]


class Reranker(Construct):
    """The parts of a deployment, by lifetime; what one knows, the next is given."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: DeployConfig,
        vpc: ec2.IVpc | None = None,
        vpc_subnets: ec2.SubnetSelection | None = None,
        security_groups: Sequence[ec2.ISecurityGroup] = (),
        key: kms.IKey | None = None,
        role: iam.IRole | None = None,
        bucket: s3.IBucket | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.config = config
        placement = None
        if vpc:
            placement = Placement.within(self, vpc, vpc_subnets, security_groups)
        elif config.vpc == "new":
            placement = Network(*self.place("network"), config=config).placement
        elif config.vpc != "none":
            placement = Placement(
                subnets=list(config.network.subnets), security_groups=list(config.network.security_groups)
            )
        self.model = Foundation(
            *self.place("model"), config=config, placement=placement, key=key, role=role, bucket=bucket
        )
        self.endpoint = Endpoint(
            *self.place("endpoint"), config=config, model=self.model, placement=placement
        )
        tag(self, config)
        self.observability = Observability(
            *self.place("observability"), config=config, model=self.model, endpoint=self.endpoint
        )

    def place(self, part: str) -> tuple[Construct, str]:
        """Scope and id of a part: network, model, endpoint or observability."""
        return self, part.capitalize()


def tag(scope: Construct, config: DeployConfig) -> None:
    """Put the deployment's tags on everything in `scope` that takes them."""
    for name, text in tags(config).items():
        cdk.Tags.of(scope).add(name, text, exclude_resource_types=_UNTAGGED)
