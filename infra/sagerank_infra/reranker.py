"""Reranker: an endpoint and all that belongs to it, as a construct of any stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

from . import fleet, grants, metrics
from .callers import Callers
from .config import DeployConfig
from .endpoint import Endpoint
from .given import settle
from .hosting import tags
from .model import Foundation
from .network import Network, Placement
from .observability import Observability
from .options import ConfigError, nearest

# CloudFormation accepts tags on these only since recently, and not everything that reads templates does.
_UNTAGGED = ["AWS::ApplicationAutoScaling::ScalableTarget", "AWS::CloudWatch::Dashboard"]
_MINUTE = cdk.Duration.minutes(1)


class Reranker(Construct):
    """A reranker on SageMaker in a stack of yours, with its role, log, alarms, dashboard and budget.

    Its options are those of a DeployConfig, by keyword or as `config`; a nested one is a mapping: `autoscaling={"max": 4}`.
    Without a `name` the endpoint's is made of the construct's path, so that two in an app differ. Files are read when the app
    runs: `artefact` is a model.tar.gz of `sagerank build`, or its s3:// address.

    vpc: for the instances, in `vpc_subnets` of it (its private ones) with `security_groups` (a new one that lets TLS out);
    else `network` decides. key: encrypts in place of a new one. role: runs the model; it must trust sagemaker.amazonaws.com,
    and gets its rights here. bucket: holds requests and answers, below the endpoint's name. Raises ConfigError, with one
    sentence, for what cannot be deployed.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: DeployConfig | None = None,
        vpc: ec2.IVpc | None = None,
        vpc_subnets: ec2.SubnetSelection | None = None,
        security_groups: Sequence[ec2.ISecurityGroup] = (),
        key: kms.IKey | None = None,
        role: iam.IRole | None = None,
        bucket: s3.IBucket | None = None,
        **options: Any,
    ) -> None:
        super().__init__(scope, id)
        if (vpc_subnets or security_groups) and not vpc:
            raise ConfigError("vpc_subnets and security_groups belong to a VPC: give it as vpc.")
        config = settle(self, config, options, vpc=bool(vpc), key=bool(key), bucket=bool(bucket))
        self.config = config
        tag(self, config)
        placement = None
        if vpc:
            placement = Placement.within(self, vpc, vpc_subnets, security_groups)
        elif config.vpc == "new":
            network = Network(*self.place("network"), config=config)
            bound(network, config)
            placement = network.placement
        elif config.vpc != "none":
            placement = Placement(
                subnets=list(config.network.subnets), security_groups=list(config.network.security_groups)
            )
            if config.network.endpoints:
                Callers(*self.place("network"), config=config)
        self.model = Foundation(
            *self.place("model"),
            config=config,
            placement=placement,
            key=key,
            role=role,
            bucket=bucket,
            **self.sources(),
        )
        self.endpoint = Endpoint(
            *self.place("endpoint"), config=config, model=self.model, placement=placement
        )
        self.observability = Observability(
            *self.place("observability"), config=config, model=self.model, endpoint=self.endpoint
        )
        for part in (self.model, self.endpoint, self.observability):
            bound(part, config)

    def place(self, part: str) -> tuple[Construct, str]:
        """Scope and id of a part: network, model, endpoint or observability."""
        return self, part.capitalize()

    def sources(self) -> dict[str, Any]:
        """Image and artefact by those names, where they are not those that the configuration names."""
        return {}

    @property
    def endpoint_name(self) -> str:
        """Plain text, so that other stacks may have it without importing anything. Raises ConfigError in mode batch."""
        return grants.endpoint_name(self.config)

    @property
    def endpoint_arn(self) -> str:
        """Raises ConfigError in mode batch."""
        return grants.endpoint_arn(cdk.Stack.of(self.endpoint), self.config)

    @property
    def component_name(self) -> str | None:
        """What an invocation must name in mode scale-to-zero; None in the others."""
        return metrics.component(self.config) if self.config.traits.components else None

    @property
    def component_names(self) -> list[str]:
        """The same of every model in mode scale-to-zero, the first one's first; none in the others."""
        models = fleet.models(self.config) if self.config.traits.components else ()
        return [metrics.component(each) for each in models]

    @property
    def role(self) -> iam.IRole:
        """The role that the model runs with."""
        return self.model.role

    @property
    def key(self) -> kms.IKey | None:
        """The key that volumes, data, topics and logs are encrypted with; None: AWS's own."""
        return self.model.key

    @property
    def bucket(self) -> s3.IBucket:
        """Where requests and answers are kept, in the modes that keep them, and what capture takes."""
        return self.model.data.bucket

    @property
    def topic(self) -> sns.ITopic:
        """Alarms, failures and the budget are published here."""
        return self.model.topic

    def grant_invoke(self, grantee: iam.IGrantable, *, component: str = "") -> iam.Grant:
        """Let `grantee` call this endpoint and no other; in mode async, also write its requests and read its answers.

        component: the one of `components` that may be called; empty: the model that is the endpoint's own. Raises ConfigError.
        """
        models = {each.component: each for each in fleet.models(self.config)}
        if component not in models:
            raise ConfigError(f"component is {component!r}: {nearest(component, filter(None, models))}")
        return grants.grant_invoke(
            cdk.Stack.of(self.endpoint), models[component], grantee, key=self.key, data=self.model.data
        )

    def metric(
        self, name: str, *, statistic: str = "Sum", period: cdk.Duration = _MINUTE
    ) -> cloudwatch.Metric:
        """A metric of invocations by its CloudWatch name, such as OverheadLatency."""
        return metrics.invocation(self.config, name, statistic, minutes=period.to_minutes(integral=False))

    def metric_invocations(self, *, period: cdk.Duration = _MINUTE) -> cloudwatch.Metric:
        """Answered requests."""
        return metrics.requests(self.config, minutes=period.to_minutes(integral=False))

    def metric_latency(self, *, statistic: str = "p99", period: cdk.Duration = _MINUTE) -> cloudwatch.Metric:
        """Microseconds that the model took for a request."""
        return self.metric("ModelLatency", statistic=statistic, period=period)

    def metric_errors(self, *, period: cdk.Duration = _MINUTE) -> cloudwatch.Metric:
        """Requests that failed by the endpoint's fault (5xx)."""
        return self.metric("Invocation5XXErrors", period=period)

    def metric_client_errors(self, *, period: cdk.Duration = _MINUTE) -> cloudwatch.Metric:
        """Requests that failed by the caller's fault (4xx); at zero instances AWS counts those that found none."""
        return self.metric("Invocation4XXErrors", period=period)

    def metric_queue_age(self) -> cloudwatch.Metric:
        """Seconds that the oldest request waits, in mode async. Raises ConfigError in others."""
        if not self.config.traits.queued:
            raise ConfigError(
                f"mode {self.config.mode} has no queue, and so no metric of it: only async has."
            )
        return metrics.queue(self.config, "ApproximateAgeOfOldestRequest", "Maximum")


def bound(part: Construct, config: DeployConfig) -> None:
    """Bound every role in `part`, the CDK's own too."""
    if config.permissions_boundary:
        policy = iam.ManagedPolicy.from_managed_policy_arn(part, "Boundary", config.permissions_boundary)
        iam.PermissionsBoundary.of(part).apply(policy)


def tag(scope: Construct, config: DeployConfig) -> None:
    """Put the deployment's tags on everything in `scope` that takes them."""
    for name, text in tags(config).items():
        cdk.Tags.of(scope).add(name, text, exclude_resource_types=_UNTAGGED)
