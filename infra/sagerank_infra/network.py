"""NetworkStack: where the endpoint's instances stand. Nothing in it has a way to the internet, in or out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_logs as logs
from constructs import Construct

from . import endpoint_policy
from .accepted import accept
from .config import DeployConfig

_ENDPOINTS = {
    "ecr": (
        (ec2.InterfaceVpcEndpointAwsService.ECR, "EcrApi"),
        (ec2.InterfaceVpcEndpointAwsService.ECR_DOCKER, "EcrImages"),
    ),
    "logs": ((ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS, "Logs"),),
    "runtime": ((ec2.InterfaceVpcEndpointAwsService.SAGEMAKER_RUNTIME, "Runtime"),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The subnets and security groups of the model's network interfaces."""

    subnets: list[str]
    security_groups: list[str]


class NetworkStack(cdk.Stack):
    """A new VPC of isolated subnets: S3 by a gateway, other services by the interface endpoints asked for."""

    def __init__(self, scope: Construct, id: str, *, config: DeployConfig, **stack: Any) -> None:
        super().__init__(scope, id, **stack)
        self._zones = [cdk.Fn.select(index, cdk.Fn.get_azs()) for index in range(config.network.zones)]
        vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(config.network.cidr),
            availability_zones=self._zones,
            nat_gateways=0,
            subnet_configuration=[
                ec2.SubnetConfiguration(name="model", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
            ],
            restrict_default_security_group=False,  # would bring a Lambda function; no instance uses that group
        )
        gateway = vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        endpoint_policy.restrict_s3(gateway, config)
        model = ec2.SecurityGroup(
            self,
            "Model",
            vpc=vpc,
            allow_all_outbound=False,
            description="Instances of the model: nothing in, TLS out",
        )
        # To S3 by the gateway and to interface endpoints: the subnets have no other route.
        model.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS services by VPC endpoints")
        if config.network.endpoints:
            inward = ec2.SecurityGroup(
                self,
                "Endpoints",
                vpc=vpc,
                allow_all_outbound=False,
                description="Interface endpoints: TLS from the VPC",
            )
            inward.add_ingress_rule(ec2.Peer.ipv4(config.network.cidr), ec2.Port.tcp(443), "TLS from the VPC")
            for name in config.network.endpoints:
                for service, id_ in _ENDPOINTS[name]:
                    door = vpc.add_interface_endpoint(
                        id_, service=service, security_groups=[inward], open=False
                    )
                    endpoint_policy.restrict(door, config, name)
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

    @property
    def availability_zones(self) -> list[str]:
        # CDK would ask AWS for the zones of a given account and region; CloudFormation knows them when it deploys.
        return self._zones
