"""The role that SageMaker runs the model with: what it may do, and on what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct

from .accepted import accept_wildcard
from .arns import bucket_and_key, log_groups, s3_arn
from .config import DeployConfig
from .data import Data
from .image import Image
from .network import Placement
from .options import ConfigError
from .sections import OtherBuckets

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


_UNNAMED = "stands in NO_FINER_GRAIN"


def execution_role(
    scope: Construct,
    config: DeployConfig,
    *,
    image: Image | None,
    key: kms.IKey | None,
    data: Data,
    placement: Placement | None,
    role: iam.IRole | None = None,
) -> iam.IRole:
    """A new role, or `role`, that may pull the image, write logs and metrics, stand in the subnets, use the key, `data` and what config.data names.

    The right to read an artefact comes and goes with the artefact, beside the endpoint. A role that config names gets
    nothing: it has to have all of it.
    """
    stack = cdk.Stack.of(scope)
    if config.role and role:
        raise ConfigError("role is given twice, as a construct and by its ARN: give one of them.")
    if config.role:
        return iam.Role.from_role_arn(scope, "Role", config.role, mutable=False)
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

    allow = _allowing(stack, holder)
    groups = log_groups(stack, config)
    allow(["logs:CreateLogGroup", "logs:DescribeLogStreams"], groups)
    written = [part for group in groups for part in (group, f"{group}:log-stream:*")]
    allow(["logs:CreateLogStream", "logs:PutLogEvents"], written, wildcard="streams carry instance ids")
    namespaces = {"cloudwatch:namespace": ["AWS/SageMaker", "/aws/sagemaker/*"]}
    allow(["cloudwatch:PutMetricData"], ["*"], {"StringLike": namespaces}, wildcard=_UNNAMED)
    if image:
        allow(["ecr:GetAuthorizationToken"], ["*"], wildcard=_UNNAMED)
        layers = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        allow(layers, [image.repository])
    if placement:
        _stand(stack, allow, placement)
    # Of the data bucket, what the mode goes through and what capture writes.
    kept_in = [
        *([data.arn("output")] if config.traits.in_s3 else []),
        *([data.arn("capture")] if config.capture.percent else []),
    ]
    if keys := data.keys(key):
        allow(["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"], keys)
    if key:
        # For the instances' volumes: the grant goes to EBS, and to nobody else.
        allow(["kms:CreateGrant"], [key.key_arn], {"Bool": {"kms:GrantIsForAWSResource": "true"}})
    if config.encryption.artefact_key:
        allow(["kms:Decrypt"], [config.encryption.artefact_key])
    if kept_in:
        allow(["s3:GetBucketLocation", "s3:ListBucket"], [data.bucket.bucket_arn])
        kept = "requests and answers below one prefix of the bucket made for them"
        if config.traits.in_s3:
            allow(["s3:GetObject"], [data.arn("input")], wildcard=kept)
        allow(["s3:AbortMultipartUpload", "s3:PutObject"], kept_in, wildcard=kept)
    _reach(stack, allow, config.data)
    return role


def _allowing(stack: cdk.Stack, holder: iam.Role | iam.Policy) -> Callable[..., None]:
    """What adds a statement to the role or policy; `wildcard` is the reason for a resource that ends in a star."""
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

    return allow


def _stand(stack: cdk.Stack, allow: Callable[..., None], placement: Placement) -> None:
    """Network interfaces in the subnets, for the instances."""
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
    allow([action for action in NO_FINER_GRAIN if action.startswith("ec2:")], ["*"], wildcard=_UNNAMED)


def _reach(stack: cdk.Stack, allow: Callable[..., None], outside: OtherBuckets) -> None:
    """Input and answers in buckets that are not the deployment's."""
    below = "below a prefix that data.read or data.write names"
    if outside.read:
        allow(["s3:GetObject"], [_objects(stack, each) for each in outside.read], wildcard=below)
        for address in outside.read:
            bucket, prefix = bucket_and_key(address)
            listed = {"StringLike": {"s3:prefix": f"{prefix}*"}}
            allow(["s3:ListBucket"], [s3_arn(stack, bucket)], listed)
    if outside.write:
        objects = [_objects(stack, each) for each in outside.write]
        allow(["s3:AbortMultipartUpload", "s3:PutObject"], objects, wildcard=below)
    if outside.keys:
        allow(["kms:Decrypt", "kms:DescribeKey"], list(outside.keys))
        if outside.write:
            allow(["kms:GenerateDataKey"], list(outside.keys))


def event_publisher(
    scope: Construct, config: DeployConfig, *, topic: sns.ITopic, key: kms.IKey | None
) -> iam.Role:
    """The role by which EventBridge publishes to the topic: no policy of topic or key has to let the service in, whoever asks it to.

    A condition there would stop its messages (SNS's guide on keys: it sends neither account nor rule); a role's trust knows
    both.
    """
    stack = cdk.Stack.of(scope)
    role = iam.Role(
        scope,
        "Publisher",
        assumed_by=iam.ServicePrincipal(
            "events.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": stack.account}}
        ),
        description=f"Publishes failures of {config.name}",
    )
    role.add_to_policy(iam.PolicyStatement(actions=["sns:Publish"], resources=[topic.topic_arn]))
    if key:
        used = ["kms:Decrypt", "kms:GenerateDataKey"]
        role.add_to_policy(iam.PolicyStatement(actions=used, resources=[key.key_arn]))
    return role


def _objects(stack: cdk.Stack, address: str) -> str:
    bucket, prefix = bucket_and_key(address)
    return s3_arn(stack, bucket, f"{prefix}*")
