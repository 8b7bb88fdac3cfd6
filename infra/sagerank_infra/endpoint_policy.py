"""What may be asked through the endpoints of a new VPC: by whom, and of what."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam

from . import metrics
from .arns import IMAGE, log_streams, s3_arn
from .config import DeployConfig
from .image import repository_arn

# Statements with "*" as their resource, and why nothing smaller can be named.
NO_FINER_GRAIN = {
    "s3:AbortMultipartUpload": "CloudFormation names the data bucket after this stack; it has to be of this account",
    "s3:GetBucketLocation": "likewise",
    "s3:GetObject": "likewise, and the artefact of `cdk deploy` in the bootstrap's bucket",
    "s3:ListBucket": "likewise",
    "s3:PutObject": "likewise",
    "ecr:GetAuthorizationToken": "the token is the account's, and the action takes no resource",
}


def restrict_s3(endpoint: ec2.GatewayVpcEndpoint, config: DeployConfig) -> None:
    """Let this account's principals reach this account's buckets and those that `config` names, and image layers be pulled."""
    stack = cdk.Stack.of(endpoint)
    objects = [action for action in NO_FINER_GRAIN if action.startswith("s3:")]
    allow = _allow(endpoint)
    allow(objects, ["*"], {"aws:PrincipalAccount": stack.account, "aws:ResourceAccount": stack.account})
    artefacts = [config.artefact, *(variant.artefact for variant in config.variants)]
    named = [*(each for each in artefacts if each.startswith("s3://")), *config.data.read, *config.data.write]
    buckets = dict.fromkeys(address.split("/")[2] for address in named)
    if buckets:
        arns = [s3_arn(stack, bucket, key) for bucket in buckets for key in (None, "*")]
        allow(objects, arns, {"aws:PrincipalAccount": stack.account})
    # ECR hands out signed addresses in a bucket of its own, so no principal of this account is seen there.
    layers = s3_arn(stack, f"prod-{stack.region}-starport-layer-bucket", "*")
    allow(["s3:GetObject"], [layers])


def restrict(endpoint: ec2.InterfaceVpcEndpoint, config: DeployConfig, name: str) -> None:
    """Let this account's principals do through the endpoint `name` of `config` what the deployment does there."""
    stack = cdk.Stack.of(endpoint)
    allow, ours = _allow(endpoint), {"aws:PrincipalAccount": stack.account}
    if name == "ecr":
        allow(["ecr:GetAuthorizationToken"], ["*"], ours)
        # The image of a Marketplace package is in its seller's account, under a name that only SageMaker knows.
        other = stack.format_arn(service="ecr", account="*", resource="repository", resource_name="*")
        allow(IMAGE, [repository_arn(stack, config) if config.traits.own_container else other], ours)
    elif name == "logs":
        group, streams = log_streams(stack, config)
        allow(["logs:CreateLogGroup", "logs:DescribeLogStreams"], [group], ours)
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], [group, streams], ours)
    else:
        named = {"endpoint": config.name, "inference-component": metrics.component(config)}
        invoked = [
            stack.format_arn(service="sagemaker", resource=kind, resource_name=text)
            for kind, text in named.items()
        ]
        suffixes = ("", "Async", "WithResponseStream")
        allow([f"sagemaker:InvokeEndpoint{suffix}" for suffix in suffixes], invoked, ours)


def _allow(
    endpoint: ec2.GatewayVpcEndpoint | ec2.InterfaceVpcEndpoint,
) -> Callable[..., None]:
    def allow(actions: Sequence[str], resources: Sequence[str], equal: dict[str, str] | None = None) -> None:
        statement = iam.PolicyStatement(
            principals=[iam.AnyPrincipal()],
            actions=list(actions),
            resources=list(resources),
            conditions={"StringEquals": equal} if equal else None,
        )
        endpoint.add_to_policy(statement)

    return allow
