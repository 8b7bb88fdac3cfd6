"""Which of Terraform's types is which of CloudFormation's, in hashicorp/awscc and, for what it lacks or cannot name, in hashicorp/aws."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Both providers' arguments with their types; `python -m tests.sagerank.terraform_schema` writes it.
SCHEMA = Path(__file__).with_name("terraform.json")
_Properties = Mapping[str, Any]

_RETAINED = "An update starts with initial_instance_count instances, not with as many as scaling had started: hashicorp/aws cannot retain them."
_OBSERVED = "SageMaker's detailed observability, which is billed by the GB, is as SageMaker has it by default: hashicorp/aws cannot switch it off, and the estimate does not count it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A type of Terraform. ref: the attribute that Ref is. names: arguments and attributes that are called otherwise.

    left_out: properties that the provider has no argument for, and what comes of that. unasked: what of these says no more than
    that nothing is asked for; any other value is refused.
    """

    resource: str
    ref: str = "id"
    names: Mapping[str, str] = field(default_factory=dict)
    reshape: Callable[[_Properties], _Properties] = dict
    left_out: Mapping[str, str] = field(default_factory=dict)
    unasked: Mapping[str, Any] = field(default_factory=dict)
    replaced_first: bool = False  # the new one is made before the old one goes: what has no name of its own


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _budget(properties: _Properties) -> _Properties:
    budget = dict(properties["Budget"])
    limit, filters = budget.pop("BudgetLimit"), budget.pop("CostFilters")
    return {
        "Name": budget.pop("BudgetName"),
        **budget,
        "LimitAmount": str(limit["Amount"]),
        "LimitUnit": limit["Unit"],
        "CostFilter": [{"Name": name, "Values": values} for name, values in filters.items()],
        "Notification": [
            {
                **each["Notification"],
                "SubscriberSnsTopicArns": [
                    subscriber["Address"]
                    for subscriber in each["Subscribers"]
                    if subscriber["SubscriptionType"] == "SNS"
                ],
            }
            for each in properties["NotificationsWithSubscribers"]
        ],
        "Tags": properties["ResourceTags"],
    }


def _single(plural: str, singular: str) -> Callable[[_Properties], _Properties]:
    """For a policy of one role or topic, where CloudFormation has a list of them."""

    def reshape(properties: _Properties) -> _Properties:
        rest = dict(properties)
        (rest[singular],) = rest.pop(plural)
        return rest

    return reshape


def _alike(type: str, ref: str = "id") -> tuple[str, Kind]:
    """A type of awscc, which is CloudFormation's."""
    service, name = type.split("::")
    return f"AWS::{type}", Kind(resource=f"awscc_{service.lower()}_{snake(name)}", ref=ref)


KINDS = dict(
    (
        _alike("ApplicationAutoScaling::ScalableTarget"),
        _alike("ApplicationAutoScaling::ScalingPolicy", "arn"),
        _alike("CloudWatch::Alarm", "alarm_name"),
        _alike("CloudWatch::Dashboard", "dashboard_name"),
        _alike("EC2::FlowLog"),
        _alike("EC2::RouteTable", "route_table_id"),
        _alike("EC2::SecurityGroup", "group_id"),
        _alike("EC2::Subnet", "subnet_id"),
        _alike("EC2::SubnetRouteTableAssociation"),
        _alike("EC2::VPC", "vpc_id"),
        _alike("EC2::VPCEndpoint"),
        _alike("Events::Rule", "arn"),
        _alike("IAM::ManagedPolicy", "policy_arn"),
        _alike("IAM::Role", "role_name"),
        _alike("KMS::Key", "key_id"),
        _alike("Logs::LogGroup", "log_group_name"),
        _alike("Logs::MetricFilter"),
        _alike("S3::Bucket", "bucket_name"),
        _alike("S3::BucketPolicy"),
        _alike("SNS::Subscription", "arn"),
        _alike("SNS::Topic", "topic_arn"),
        _alike("SSM::Parameter", "name"),
    )
) | {
    "AWS::IAM::Policy": Kind(resource="awscc_iam_role_policy", reshape=_single("Roles", "RoleName")),
    "AWS::SNS::TopicPolicy": Kind(
        resource="awscc_sns_topic_inline_policy", reshape=_single("Topics", "TopicArn")
    ),
    "AWS::Budgets::Budget": Kind(resource="aws_budgets_budget", reshape=_budget),
    "AWS::SageMaker::Model": Kind(
        resource="aws_sagemaker_model", ref="arn", names={"ModelName": "name"}, replaced_first=True
    ),
    "AWS::SageMaker::EndpointConfig": Kind(
        resource="aws_sagemaker_endpoint_configuration",
        ref="arn",
        names={"EndpointConfigName": "name", "KmsKeyId": "kms_key_arn"},
        left_out={"MetricsConfig": _OBSERVED},
        unasked={
            "MetricsConfig": {
                "EnableDetailedObservability": False,
                "EnableEnhancedMetrics": False,
                "MetricPublishFrequencyInSeconds": 60,
            }
        },
        replaced_first=True,
    ),
    "AWS::SageMaker::Endpoint": Kind(
        resource="aws_sagemaker_endpoint",
        ref="arn",
        names={"EndpointName": "name"},
        left_out=dict.fromkeys(("RetainAllVariantProperties", "ExcludeRetainedVariantProperties"), _RETAINED),
    ),
}
