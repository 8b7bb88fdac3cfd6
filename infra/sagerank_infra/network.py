"""Network: where the endpoint's instances stand. Nothing in it has a way to the internet, in or out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_logs as logs
from constructs import Construct

from . import endpoint_policy
from .accepted import accept
from .config import DeployConfig

_SELECTION = (
    "availability_zones",
    "one_per_az",
    "subnet_filters",
    "subnet_group_name",
    "subnet_type",
    "subnets",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The subnets and security groups of the model's network interfaces."""

    subnets: list[str]
    security_groups: list[str]

    @classmethod
    def within(
        cls,
        scope: Construct,
        vpc: ec2.IVpc,
        subnets: ec2.SubnetSelection | None,
        groups: Sequence[ec2.ISecurityGroup],
    ) -> Self:
        """In a VPC that is there: its private subnets, and a new security group that lets TLS out, unless others are given."""
        # jsii takes what a selection holds as keywords.
        by = {name: getattr(subnets, name) for name in _SELECTION} if subnets else {}
        chosen = vpc.select_subnets(**by)
        return cls(
            subnets=list(chosen.subnet_ids),
            security_groups=[
                group.security_group_id for group in groups or (outward(scope, "SecurityGroup", vpc),)
            ],
        )


class Network(Construct):
    """A new VPC of isolated subnets, with a gateway to S3 and nothing else: SageMaker fetches the artefact through it.

    The image comes from ECR by SageMaker's own network (RepositoryAccessMode is Platform), and so does the log go; the
    container has no network at all.
    """

    def __init__(self, scope: Construct, id: str, *, config: DeployConfig) -> None:
        super().__init__(scope, id)
        zones = [cdk.Fn.select(index, cdk.Fn.get_azs()) for index in range(config.network.zones)]
        vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(config.network.cidr),
            availability_zones=zones,
            nat_gateways=0,
            subnet_configuration=[
                ec2.SubnetConfiguration(name="model", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
            ],
            restrict_default_security_group=False,  # would bring a Lambda function; no instance uses that group
        )
        gateway = vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        endpoint_policy.restrict_s3(gateway, config)
        model = outward(self, "Model", vpc)  # the subnets have no other route
        # What is refused is all that can be learnt here: whatever is allowed goes to AWS's own services.
        refused = logs.LogGroup(
            self,
            "Refused",
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=cdk.RemovalPolicy(config.removal.upper()),
        )
        accept(refused, "addresses of refused packets; this stack is older than the key", "CKV_AWS_158")
        vpc.add_flow_log(
            "Traffic",
            traffic_type=ec2.FlowLogTrafficType.REJECT,
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(refused),
        )
        self.placement = Placement(
            subnets=[subnet.subnet_id for subnet in vpc.isolated_subnets],
            security_groups=[model.security_group_id],
        )


def outward(scope: Construct, id: str, vpc: ec2.IVpc) -> ec2.SecurityGroup:
    """A security group of instances that talk to S3 by the gateway and to interface endpoints, and that nobody talks to."""
    group = ec2.SecurityGroup(
        scope,
        id,
        vpc=vpc,
        allow_all_outbound=False,
        description="Instances of the model: nothing in, TLS out",
    )
    group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS services by VPC endpoints")
    return group
