"""ModelStack: what outlives an endpoint: key, role, image, artefact, logs, and buckets of requests and answers.

The SageMaker model itself belongs to the endpoint's stack: it is replaced with every artefact, and CloudFormation
refuses to change a value that one stack exports while another imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk.region_info import RegionInfo
from constructs import Construct

from .config import DeployConfig
from .estimate import hardware
from .network import Placement

ROOT = Path(__file__).parent.parent

# Every action that the role is allowed on "*", with the reason why nothing smaller can be named.
NO_FINER_GRAIN = {
    "ecr:GetAuthorizationToken": "the token is the account's, and the action takes no resource",
    "cloudwatch:PutMetricData": "metrics have no ARN; a condition keeps it to SageMaker's namespaces",
    "ec2:DescribeDhcpOptions": "EC2 describes without resources",
    "ec2:DescribeNetworkInterfaces": "EC2 describes without resources",
    "ec2:DescribeSecurityGroups": "EC2 describes without resources",
    "ec2:DescribeSubnets": "EC2 describes without resources",
    "ec2:DescribeVpcs": "EC2 describes without resources",
}
# Hugging Face's inference container of AWS: PyTorch and tokenizers, which the handler needs.
_DLC = {
    "cpu": "huggingface-pytorch-inference:2.6.0-transformers4.49.0-cpu-py312-ubuntu22.04",
    "gpu": "huggingface-pytorch-inference:2.6.0-transformers4.49.0-gpu-py312-cu124-ubuntu22.04",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """Where a model's data lie in S3; prefix: unpacked, under this address."""

    uri: str
    bucket: str
    key: str
    prefix: bool


class ModelStack(cdk.Stack):
    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: DeployConfig,
        placement: Placement | None,
        synthesizer: cdk.DefaultStackSynthesizer,
        **stack: Any,
    ) -> None:
        super().__init__(scope, id, synthesizer=synthesizer, **stack)
        # The stack works with a copy, bound to it, which shares the asset manifest with this one; jsii cannot tell the two
        # apart, so that `self.synthesizer` would give the unbound one.
        synthesizer.bind(self)
        self._assets = synthesizer
        self._config = config
        self._removal = cdk.RemovalPolicy.RETAIN if config.removal == "retain" else cdk.RemovalPolicy.DESTROY
        self.key = self._key()
        self.log_group = (
            logs.LogGroup(
                self,
                "Log",
                log_group_name=f"/aws/sagemaker/{'Endpoints' if config.endpoint else 'TransformJobs'}"
                + (f"/{config.name}" if config.endpoint else ""),
                encryption_key=self.key,
                retention=_retention(config.log_days),
                # Its name is SageMaker's choice: one that stayed behind would stand in the way of the next deployment.
                removal_policy=cdk.RemovalPolicy.DESTROY,
            )
            if config.endpoint
            else None
        )
        self.data = (
            self._data_bucket() if config.mode in ("async", "batch") or config.capture.percent else None
        )
        self.role = self._role(placement)
        self.image = self._image() if config.mode != "marketplace" else None
        self.artefact = self.locate("Artefact", config.artefact) if config.mode != "marketplace" else None

    def locate(self, id: str, artefact: str) -> Artefact:
        """The artefact's place: the S3 address as given, or that of an asset, which `cdk deploy` uploads."""
        if artefact.startswith("s3://"):
            bucket, _, key = artefact.removeprefix("s3://").partition("/")
            return Artefact(uri=artefact, bucket=bucket, key=key, prefix=not key.endswith(".tar.gz"))
        staging = cdk.AssetStaging(self, id, source_path=str(Path(artefact).resolve()))
        # The object's key is the source's hash and the last suffix of the file's name: with a plain asset, HASH.gz. SageMaker
        # asks for .tar.gz, so the hash carries the rest of it.
        location = self._assets.add_file_asset(
            source_hash=f"{staging.asset_hash}.tar",
            file_name=staging.relative_staged_path(self),
            packaging=cdk.FileAssetPackaging.FILE,
            display_name=f"{self._config.name} {id.lower()}",
        )
        return Artefact(
            uri=location.s3_object_url, bucket=location.bucket_name, key=location.object_key, prefix=False
        )

    def _key(self) -> kms.IKey | None:
        if self._config.encryption.key == "aws":
            return None
        if self._config.encryption.key != "new":
            return kms.Key.from_key_arn(self, "Key", self._config.encryption.key)
        key = kms.Key(
            self,
            "Key",
            enable_key_rotation=True,
            removal_policy=self._removal,
            description=f"Data of {self._config.name}",
        )
        group = self.format_arn(
            service="logs",
            resource="log-group",
            resource_name="*",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(f"logs.{self.region}.amazonaws.com")],
                actions=[
                    "kms:Encrypt",
                    "kms:Decrypt",
                    "kms:ReEncrypt*",
                    "kms:GenerateDataKey*",
                    "kms:DescribeKey",
                ],
                resources=["*"],
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": group}},
            )
        )
        # Alarms and budgets publish to the encrypted topic; the role alone would not do.
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[
                    iam.ServicePrincipal("cloudwatch.amazonaws.com"),
                    iam.ServicePrincipal("budgets.amazonaws.com"),
                ],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        return key

    def _data_bucket(self) -> s3.Bucket:
        config = self._config
        kept = {
            "async": {"input/": config.asynchronous.days, "output/": config.asynchronous.days},
            "batch": {"input/": config.batch.days, "output/": config.batch.days},
        }
        days = dict(kept.get(config.mode, {}))
        if config.capture.percent:
            days["capture/"] = config.capture.days
        return s3.Bucket(
            self,
            "Data",
            encryption=s3.BucketEncryption.KMS if self.key else s3.BucketEncryption.S3_MANAGED,
            encryption_key=self.key,
            bucket_key_enabled=self.key is not None,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            versioned=False,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id=prefix.rstrip("/"),
                    prefix=prefix,
                    expiration=cdk.Duration.days(count),
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
                )
                for prefix, count in days.items()
            ],
            removal_policy=self._removal,
        )

    def _role(self, placement: Placement | None) -> iam.Role:
        """What SageMaker may do for the model: fetch it, write its logs and metrics, stand in the subnets. The right to read an
        artefact comes and goes with the artefact, in the endpoint's stack.
        """
        config = self._config
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self.account}}
            ),
            description=f"Runs the model of {config.name}",
        )

        def allow(actions: list[str], resources: list[str], conditions: dict[str, Any] | None = None) -> None:
            role.add_to_policy(
                iam.PolicyStatement(actions=actions, resources=resources, conditions=conditions)
            )

        kind = "Endpoints" if config.endpoint else "TransformJobs"
        group = self.format_arn(
            service="logs",
            resource="log-group",
            resource_name=f"/aws/sagemaker/{kind}" + (f"/{config.name}" if config.endpoint else ""),
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        allow(
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            [group, f"{group}:log-stream:*"],
        )
        allow(
            ["cloudwatch:PutMetricData"],
            ["*"],
            {"StringLike": {"cloudwatch:namespace": ["AWS/SageMaker", "/aws/sagemaker/*"]}},
        )
        if config.mode != "marketplace":
            allow(["ecr:GetAuthorizationToken"], ["*"])
            allow(
                ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                [self._repository()],
            )
        if placement:
            self._allow_interfaces(role, placement)
        if self.key:
            # CreateGrant lets EBS decrypt the instances' volumes, and nobody else.
            allow(["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"], [self.key.key_arn])
            allow(["kms:CreateGrant"], [self.key.key_arn], {"Bool": {"kms:GrantIsForAWSResource": "true"}})
        if config.encryption.artefact_key:
            allow(["kms:Decrypt"], [config.encryption.artefact_key])
        if self.data:
            allow(["s3:GetObject"], [self.data.arn_for_objects("input/*")])
            allow(
                ["s3:AbortMultipartUpload", "s3:PutObject"],
                [self.data.arn_for_objects("output/*"), self.data.arn_for_objects("capture/*")],
            )
            allow(["s3:GetBucketLocation", "s3:ListBucket"], [self.data.bucket_arn])
        return role

    def _allow_interfaces(self, role: iam.Role, placement: Placement) -> None:
        def arn(resource: str, name: str) -> str:
            return self.format_arn(service="ec2", resource=resource, resource_name=name)

        interfaces = arn("network-interface", "*")
        where = [
            interfaces,
            *(arn("subnet", name) for name in placement.subnets),
            *(arn("security-group", name) for name in placement.security_groups),
        ]
        role.add_to_policy(iam.PolicyStatement(actions=["ec2:CreateNetworkInterface"], resources=where))
        role.add_to_policy(
            iam.PolicyStatement(
                actions=[
                    "ec2:CreateNetworkInterfacePermission",
                    "ec2:DeleteNetworkInterface",
                    "ec2:DeleteNetworkInterfacePermission",
                ],
                resources=[interfaces],
            )
        )
        describe = [action for action in NO_FINER_GRAIN if action.startswith("ec2:Describe")]
        role.add_to_policy(iam.PolicyStatement(actions=describe, resources=["*"]))

    def _gpu(self) -> bool:
        return bool(self._config.instance and hardware(self._config.instance).gpu)

    def _image(self) -> str:
        config = self._config
        if config.image == "dlc":
            return f"{self._dlc_account()}.dkr.ecr.{config.region}.{self.url_suffix}/{_DLC['gpu' if self._gpu() else 'cpu']}"
        if config.image != "dockerfile":
            return config.image
        arm = bool(config.instance) and hardware(config.instance).arch == "arm64"
        return ecr_assets.DockerImageAsset(
            self,
            "Image",
            directory=str(ROOT),
            file=f"inference/Dockerfile.{'gpu' if self._gpu() else 'cpu'}",
            # An image is built where `cdk deploy` runs and must run elsewhere: a laptop with an ARM chip makes x86 images too.
            platform=ecr_assets.Platform.LINUX_ARM64 if arm else ecr_assets.Platform.LINUX_AMD64,
            # As .dockerignore: what is not copied must not change the image's hash.
            ignore_mode=cdk.IgnoreMode.DOCKER,
            exclude=["*", "!inference", "!requirements", "**/__pycache__"],
        ).image_uri

    def _dlc_account(self) -> str:
        account = RegionInfo.get(self._config.region).dlc_repository_account
        if not account:
            raise ValueError(self._config.region)
        return account

    def _repository(self) -> str:
        config = self._config
        if config.image == "dockerfile":
            # The bootstrap stack's, by the name that the CLI's default qualifier gives it.
            return self.format_arn(
                service="ecr",
                resource="repository",
                resource_name=f"cdk-{cdk.DefaultStackSynthesizer.DEFAULT_QUALIFIER}-container-assets-{self.account}-{self.region}",
            )
        if config.image == "dlc":
            return self.format_arn(
                service="ecr",
                account=self._dlc_account(),
                resource="repository",
                resource_name="huggingface-pytorch-inference",
            )
        address = config.image.partition("@")[0].partition("/")[2].partition(":")[0]
        return self.format_arn(
            service="ecr", account=config.image[:12], resource="repository", resource_name=address
        )


def _retention(days: int) -> logs.RetentionDays:
    """The shortest period CloudWatch offers that is at least so long."""
    import itertools

    offered = {
        1: "ONE_DAY",
        3: "THREE_DAYS",
        5: "FIVE_DAYS",
        7: "ONE_WEEK",
        14: "TWO_WEEKS",
        30: "ONE_MONTH",
        60: "TWO_MONTHS",
        90: "THREE_MONTHS",
        180: "SIX_MONTHS",
        365: "ONE_YEAR",
        731: "TWO_YEARS",
        1827: "FIVE_YEARS",
        3653: "TEN_YEARS",
    }
    return logs.RetentionDays[next(name for count, name in offered.items() if count >= days)]
