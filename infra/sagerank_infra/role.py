"""The role that SageMaker runs the model with: what it may do, and on what."""

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
from .image import Image
from .network import Placement

# Every action that is allowed on "*", with the reason why nothing smaller can be named.
NO_FINER_GRAIN = {
    "ecr:GetAuthorizationToken": "the token is the account's, and the action takes no resource",
    "cloudwatch:PutMetricData": "metrics have no ARN; a condition keeps it to SageMaker's namespaces",
    "ec2:DescribeDhcpOptions": "EC2 describes without resources",
    "ec2:DescribeNetworkInterfaces": "EC2 describes without resources",
    "ec2:DescribeSecurityGroups": "EC2 describes without resources",
    "ec2:DescribeSubnets": "EC2 describes without resources",
    "ec2:DescribeVpcs": "EC2 describes without resources",
}


def execution_role(
    scope: Construct,
    config: DeployConfig,
    *,
    image: Image | None,
    key: kms.IKey | None,
    data: Data | None,
    placement: Placement | None,
    role: iam.IRole | None = None,
) -> iam.IRole:
    """A new role, or `role`, that may pull the image, write logs and metrics, stand in the subnets, use the key and `data`.

    The right to read an artefact comes and goes with the artefact, beside the endpoint.
    """
    stack = cdk.Stack.of(scope)
    holder: iam.Role | iam.Policy
    if role:
        # In a policy that stands here: one of the role's own stack would refer to what is here, and this to the role.
        holder = iam.Policy(scope, "RolePolicy", roles=[role])
    else:
        role = holder = iam.Role(
            scope,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": stack.account}}
            ),
            description=f"Runs the model of {config.name}",
        )
    add = holder.add_to_policy if isinstance(holder, iam.Role) else holder.add_statements

    def allow(
        actions: list[str],
        resources: list[str],
        conditions: dict[str, Any] | None = None,
        *,
        wildcard: str = "",
    ) -> None:
        add(iam.PolicyStatement(actions=actions, resources=resources, conditions=conditions))
        for resource in resources if wildcard else ():
            if resource.endswith("*"):
                accept_wildcard(stack, holder, resource, wildcard)

    unnamed = "stands in NO_FINER_GRAIN"
    group = stack.format_arn(
        service="logs",
        resource="log-group",
        resource_name=metrics.log_group(config),
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )
    allow(["logs:CreateLogGroup", "logs:DescribeLogStreams"], [group])
    streams = [group, f"{group}:log-stream:*"]
    allow(["logs:CreateLogStream", "logs:PutLogEvents"], streams, wildcard="streams carry instance ids")
    namespaces = {"cloudwatch:namespace": ["AWS/SageMaker", "/aws/sagemaker/*"]}
    allow(["cloudwatch:PutMetricData"], ["*"], {"StringLike": namespaces}, wildcard=unnamed)
    if image:
        allow(["ecr:GetAuthorizationToken"], ["*"], wildcard=unnamed)
        layers = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        allow(layers, [image.repository])
    if placement:
        interfaces = stack.format_arn(service="ec2", resource="network-interface", resource_name="*")
        named = {"subnet": placement.subnets, "security-group": placement.security_groups}
        where = [
            stack.format_arn(service="ec2", resource=kind, resource_name=name)
            for kind, names in named.items()
            for name in names
        ]
        ids = "EC2 chooses the ids of interfaces"
        allow(["ec2:CreateNetworkInterface"], [interfaces, *where], wildcard=ids)
        others = [
            "CreateNetworkInterfacePermission",
            "DeleteNetworkInterface",
            "DeleteNetworkInterfacePermission",
        ]
        allow([f"ec2:{action}" for action in others], [interfaces], wildcard=ids)
        allow([action for action in NO_FINER_GRAIN if action.startswith("ec2:")], ["*"], wildcard=unnamed)
    if keys := data.keys(key) if data else [key.key_arn] if key else []:
        allow(["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"], keys)
    if key:
        # For the instances' volumes: the grant goes to EBS, and to nobody else.
        allow(["kms:CreateGrant"], [key.key_arn], {"Bool": {"kms:GrantIsForAWSResource": "true"}})
    if config.encryption.artefact_key:
        allow(["kms:Decrypt"], [config.encryption.artefact_key])
    if data:
        allow(["s3:GetBucketLocation", "s3:ListBucket"], [data.bucket.bucket_arn])
        kept = "requests and answers below one prefix of the bucket made for them"
        allow(["s3:GetObject"], [data.arn("input")], wildcard=kept)
        written = [data.arn("output"), data.arn("capture")]
        allow(["s3:AbortMultipartUpload", "s3:PutObject"], written, wildcard=kept)
    return role
