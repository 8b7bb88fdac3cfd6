"""A model's data in S3: what a container definition says of them, and the right to read them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from .accepted import accept_wildcard
from .arns import bucket_and_key, s3_arn


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """Where a model's data lie, and what names them.

    prefix: unpacked, below this address. identity: holds no token, whose number differs between syntheses.
    """

    identity: str
    uri: str
    bucket: str
    key: str
    prefix: bool

    @classmethod
    def at(cls, address: str) -> Artefact:
        """The one at an s3:// address: an archive, or a folder, whose address gets the slash that S3Prefix asks for."""
        single = address.endswith(".tar.gz")
        uri = address if single else f"{address.rstrip('/')}/"
        bucket, key = bucket_and_key(uri)
        return cls(identity=uri, uri=uri, bucket=bucket, key=key, prefix=not single)

    def data(self) -> dict[str, Any]:
        """The arguments of a container definition that name the data."""
        if not self.prefix:
            return {"model_data_url": self.uri}
        source = sagemaker.CfnModel.S3DataSourceProperty(
            compression_type="None", s3_data_type="S3Prefix", s3_uri=self.uri
        )
        return {"model_data_source": sagemaker.CfnModel.ModelDataSourceProperty(s3_data_source=source)}

    def readable(self, scope: Construct, id: str, role: iam.IRole) -> iam.Policy:
        """Let `role` read the data, and nothing else there, by a policy of its own for each artefact."""
        stack = cdk.Stack.of(scope)
        objects = s3_arn(stack, self.bucket, f"{self.key}*" if self.prefix else self.key)
        statements = [iam.PolicyStatement(actions=["s3:GetObject"], resources=[objects])]
        if self.prefix:
            below = {"StringLike": {"s3:prefix": f"{self.key}*"}}
            statements.append(
                iam.PolicyStatement(
                    actions=["s3:ListBucket"], resources=[s3_arn(stack, self.bucket)], conditions=below
                )
            )
        unique = hashlib.sha256(self.identity.encode()).hexdigest()[:8]
        policy = iam.Policy(scope, f"{id}Reads{unique}", roles=[role], statements=statements)
        if self.prefix:
            accept_wildcard(stack, policy, objects, "the files of one unpacked artefact")
        return policy
