"""The CloudWatch metrics that each mode really emits, with their dimensions; and our own, read from the server's log."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from .config import DeployConfig

VARIANT = "AllTraffic"


def component(config: DeployConfig) -> str:
    """Name of the inference component (scale-to-zero)."""
    return f"{config.name}-component"


def invocation(
    config: DeployConfig, name: str, statistic: str, *, variant: str = VARIANT, minutes: float = 1
) -> cloudwatch.Metric:
    """Invocations, Invocation4XXErrors, Invocation5XXErrors, InvocationsPerInstance, ModelLatency, OverheadLatency (both in
    microseconds), ModelSetupTime (serverless), NoCapacityInvocationFailures and InvocationsPerCopy (scale-to-zero).
    """
    where = (
        {"InferenceComponentName": component(config)}
        if config.mode == "scale-to-zero"
        else {"EndpointName": config.name, "VariantName": variant}
    )
    return _metric("AWS/SageMaker", name, statistic, where, minutes)


def queue(config: DeployConfig, name: str, statistic: str) -> cloudwatch.Metric:
    """ApproximateBacklogSize, ApproximateBacklogSizePerInstance, ApproximateAgeOfOldestRequest (seconds),
    HasBacklogWithoutCapacity: of asynchronous endpoints.
    """
    return _metric("AWS/SageMaker", name, statistic, {"EndpointName": config.name}, 1)


def machine(
    config: DeployConfig, name: str, statistic: str = "Average", *, variant: str = VARIANT
) -> cloudwatch.Metric:
    """CPUUtilization, MemoryUtilization, DiskUtilization, GPUUtilization, GPUMemoryUtilization, in percent."""
    return _metric(
        "/aws/sagemaker/Endpoints", name, statistic, {"EndpointName": config.name, "VariantName": variant}, 1
    )


def logged(config: DeployConfig, name: str, statistic: str) -> cloudwatch.Metric:
    """What a metric filter finds in the server's log. A namespace for each endpoint: filters cannot name it as a dimension."""
    return _metric(namespace(config), name, statistic, {}, 1)


def namespace(config: DeployConfig) -> str:
    return f"sagerank/{config.name}"


def _metric(
    namespace: str, name: str, statistic: str, dimensions: dict[str, str], minutes: float
) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=namespace,
        metric_name=name,
        statistic=statistic,
        dimensions_map=dimensions,
        period=cdk.Duration.minutes(minutes),
    )
