"""Observability: alarms that wake somebody, a dashboard, a budget."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_logs as logs
from constructs import Construct

from . import dashboard, estimate, fleet, metrics
from .config import DeployConfig
from .endpoint import Endpoint
from .hosting import ACTIVATE_TAG, NAME_TAG
from .instances import hardware
from .model import Foundation
from .role import event_publisher
from .standing import LOGGED


class Observability(Construct):
    """Alarms, dashboard and budget. cost: the estimate that the synth prints and an output repeats."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: DeployConfig,
        model: Foundation,
        endpoint: Endpoint,
    ) -> None:
        super().__init__(scope, id)
        self._config = config
        if config.traits.endpoint:
            if config.own_server:
                for each in fleet.models(config):
                    self._filters(each, model.log_groups[each.component])
            for alarm in (*self._alarms(), *endpoint.alarms):
                alarm.add_alarm_action(actions.SnsAction(model.topic))
        self.cost = estimate.monthly(config)
        self._events(model)
        if config.traits.endpoint:
            board = cloudwatch.Dashboard(self, "Dashboard", dashboard_name=config.name)
            board.add_widgets(*dashboard.widgets(config, self.cost))
            cdk.CfnOutput(self, "DashboardName", value=config.name)
        if config.budget.enabled:
            self._budget(model)
        cdk.CfnOutput(self, "EstimatedMonthlyCost", value=str(self.cost)[:1024])
        cdk.Annotations.of(self).add_info(f"Estimated cost: {self.cost}")

    def _filters(self, config: DeployConfig, log_group: logs.ILogGroup) -> None:
        for name, field in LOGGED.items():
            logs.MetricFilter(
                self,
                f"{name}Filter{config.component}",
                log_group=log_group,
                filter_pattern=logs.FilterPattern.exists(field),
                metric_namespace=metrics.namespace(config),
                metric_name=name,
                metric_value=field,
            )

    def _alarms(self) -> list[cloudwatch.Alarm]:
        config, wanted = self._config, self._config.alarms
        # Metric, and for how many minutes it may be over which limit.
        watched: dict[str, tuple[cloudwatch.IMetric, int, float, str]] = {}
        if config.traits.instances:
            names = ["MemoryUtilization", "DiskUtilization"]
            if hardware(config.instance).gpu:
                names.append("GPUMemoryUtilization")
            for name in names:
                limit = wanted.utilisation * metrics.devices(config, name)
                text = f"{name} over {limit} %"
                watched[name] = (metrics.machine(config, name, "Maximum"), 5, limit, text)
        if config.traits.queued:
            age = metrics.queue(config, "ApproximateAgeOfOldestRequest", "Maximum")
            watched["Queue"] = (age, 3, wanted.queue_seconds, "requests wait too long in the queue")
        found = [
            metrics.alarm(
                self,
                id,
                metric,
                name=f"{config.name}-{id.lower()}",
                text=f"{config.name}: {text}",
                threshold=limit,
                periods=minutes,
            )
            for id, (metric, minutes, limit, text) in watched.items()
        ]
        if wanted.idle_hours and config.traits.instances and fleet.bounds(config)[0]:
            idle = metrics.alarm(
                self,
                "Idle",
                metrics.all_requests(config, minutes=60),
                name=f"{config.name}-idle",
                text=f"No request for {wanted.idle_hours} hours, and instances run: `sagerank idle`, `sagerank destroy`",
                threshold=1,
                periods=wanted.idle_hours,
                below=True,  # without requests there is no metric either
            )
            found.append(idle)
        return found

    def _events(self, model: Foundation) -> None:
        """Publish a failed job or update: SageMaker rolls an update back without any error to the one who asked for it."""
        name, subject = self._config.name, "Endpoint"
        detail: dict[str, Any] = {
            "EndpointName": [name],
            "EndpointStatus": ["FAILED", "ROLLING_BACK", "UPDATE_ROLLBACK_FAILED"],
        }
        if not self._config.traits.endpoint:
            subject = "Transform Job"
            detail = {"TransformJobStatus": ["Failed"], "TransformJobName": [{"prefix": f"{name}-"}]}
        kind = f"SageMaker {subject} State Change"
        publisher = event_publisher(self, self._config, topic=model.topic, key=model.key)
        events.CfnRule(
            Construct(self, "Failures"),
            "Resource",  # keeps the logical id of the Rule that stood here
            description=f"Failures of {name}",
            event_pattern={"source": ["aws.sagemaker"], "detail-type": [kind], "detail": detail},
            state="ENABLED",
            targets=[
                events.CfnRule.TargetProperty(
                    id="Topic", arn=model.topic.topic_arn, role_arn=publisher.role_arn
                )
            ],
        )

    def _budget(self, model: Foundation) -> None:
        config = self._config
        # Of what is known: what has no known price, such as a seller's charge, is for `monthly_usd` to add.
        limit = Decimal(str(config.budget.monthly_usd)) or (self.cost.usd or Decimal(0)) * Decimal("1.5")
        if not limit:
            return  # neither a limit nor a price is known
        notification = budgets.CfnBudget.NotificationWithSubscribersProperty
        budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_name=config.name,
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=float(round(limit, 2)), unit="USD"),
                cost_filters={"TagKeyValue": [f"user:{NAME_TAG}${config.name}"]},
            ),
            notifications_with_subscribers=[
                notification(
                    notification=budgets.CfnBudget.NotificationProperty(
                        notification_type=kind,
                        comparison_operator="GREATER_THAN",
                        threshold=share,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[
                        budgets.CfnBudget.SubscriberProperty(
                            subscription_type="SNS", address=model.topic.topic_arn
                        )
                    ],
                )
                for kind, share in (("ACTUAL", 80), ("FORECASTED", 100))
            ],
        )
        cdk.CfnOutput(
            self,
            "BudgetActivation",
            value=ACTIVATE_TAG,
            description="Once an organisation, by the account that pays: before it the budget counts nothing",
        )
