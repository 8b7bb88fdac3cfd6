"""Callers: the way from your VPC to SageMaker's runtime, so that calls from there stay inside it.

The instances need no such way: the container has no network, and SageMaker pulls the image and ships the log itself.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from .config import DeployConfig

_INVOKE = ("InvokeEndpoint", "InvokeEndpointAsync", "InvokeEndpointWithResponseStream")


class Callers(Construct):
    """An interface endpoint of the runtime in an existing VPC, for callers of this account, to its endpoints alone."""

    def __init__(self, scope: Construct, id: str, *, config: DeployConfig) -> None:
        super().__init__(scope, id)
        network, stack = config.network, cdk.Stack.of(self)
        group = ec2.CfnSecurityGroup(
            self,
            "Callers",
            vpc_id=network.vpc,
            group_description="Runtime of SageMaker: TLS from its callers",
            security_group_ingress=[
                ec2.CfnSecurityGroup.IngressProperty(
                    ip_protocol="tcp",
                    from_port=443,
                    to_port=443,
                    description="TLS from callers",
                    **{"source_security_group_id" if caller.startswith("sg-") else "cidr_ip": caller},
                )
                for caller in network.callers
            ],
        )
        ec2.CfnVPCEndpoint(
            self,
            "Runtime",
            vpc_id=network.vpc,
            vpc_endpoint_type="Interface",
            service_name=f"com.amazonaws.{stack.region}.sagemaker.runtime",
            subnet_ids=list(network.subnets),
            security_group_ids=[group.attr_group_id],
            # By which the address that every SDK knows leads here.
            private_dns_enabled=True,
            policy_document={
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"AWS": "*"},
                        "Action": [f"sagemaker:{name}" for name in _INVOKE],
                        "Resource": [
                            stack.format_arn(service="sagemaker", resource=kind, resource_name="*")
                            for kind in ("endpoint", "inference-component")
                        ],
                        "Condition": {"StringEquals": {"aws:PrincipalAccount": stack.account}},
                    }
                ],
            },
        )
