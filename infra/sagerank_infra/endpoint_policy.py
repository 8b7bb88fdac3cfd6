"""What may be asked through the gateway of a new VPC to S3: by whom, and of what."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam

from . import fleet
from .arns import bucket_and_key, s3_arn
from .config import DeployConfig

# Statements with "*" as their resource, and why nothing smaller can be named.
NO_FINER_GRAIN = {
    "s3:AbortMultipartUpload": "CloudFormation names the data bucket after this stack; it has to be of this account",
    "s3:GetBucketLocation": "likewise",
    "s3:GetObject": "likewise, and the artefact of `cdk deploy` in the bootstrap's bucket",
    "s3:ListBucket": "likewise",
    "s3:PutObject": "likewise",
}


def restrict_s3(endpoint: ec2.GatewayVpcEndpoint, config: DeployConfig) -> None:
    """Let this account's principals reach this account's buckets and those that `config` names."""
    stack = cdk.Stack.of(endpoint)

    def allow(resources: list[str], **equal: str) -> None:
        ours = {"aws:PrincipalAccount": stack.account, **equal}
        statement = iam.PolicyStatement(
            principals=[iam.AnyPrincipal()],
            actions=list(NO_FINER_GRAIN),
            resources=resources,
            conditions={"StringEquals": ours},
        )
        endpoint.add_to_policy(statement)

    allow(["*"], **{"aws:ResourceAccount": stack.account})
    artefacts = [model.artefact for model in fleet.models(config)]
    artefacts += [variant.artefact for variant in config.variants]
    named = [*(each for each in artefacts if each.startswith("s3://")), *config.data.read, *config.data.write]
    buckets = dict.fromkeys(bucket_and_key(address)[0] for address in named)
    if buckets:
        arns = [s3_arn(stack, bucket, key) for bucket in buckets for key in (None, "*")]
        allow(arns)
