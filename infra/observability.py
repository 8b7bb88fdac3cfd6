"""ObservabilityStack: who hears of it, what is watched, what it may cost."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from . import estimate, metrics
from .config import DeployConfig
from .endpoint import EndpointStack
from .environment import max_tokens
from .estimate import hardware
from .model import ModelStack


class ObservabilityStack(cdk.Stack):
    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: DeployConfig,
        model: ModelStack,
        endpoint: EndpointStack,
        **stack: Any,
    ) -> None:
        super().__init__(scope, id, **stack)
        topic = sns.Topic(self, "Alarms", master_key=model.key, enforce_ssl=True)
        cdk.CfnOutput(self, "AlarmTopic", value=topic.topic_arn)
        cost = estimate.monthly(config, alarms=0, tokens=max_tokens(config))
        cdk.CfnOutput(self, "EstimatedMonthlyCost", value=str(cost)[:1024])
