"""The CloudWatch metrics that a mode emits, with their dimensions, and our own, read from its log group."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from . import fleet
from .config import DeployConfig
from .instances import hardware
from .modes import VARIANT


def component(config: DeployConfig) -> str:
    """Name of the inference component that the configuration is of (scale-to-zero)."""
    return f"{config.name}-{config.component or 'component'}"


def alarm_name(config: DeployConfig, what: str) -> str:
    """The component's name stands behind a sign that no deployment's name has, so that none can lead to the same."""
    return ".".join(filter(None, (f"{config.name}-{what}", config.component)))


def log_group(config: DeployConfig) -> str:
    """Where SageMaker writes what the container prints. Transform jobs of an account share one."""
    if config.traits.components:
        return f"/aws/sagemaker/InferenceComponents/{component(config)}"
    return (
        f"/aws/sagemaker/Endpoints/{config.name}"
        if config.traits.endpoint
        else "/aws/sagemaker/TransformJobs"
    )


def invocation(
    config: DeployConfig, name: str, statistic: str, *, variant: str = VARIANT, minutes: float = 1
) -> cloudwatch.Metric:
    """A metric of invocations, by its CloudWatch name; latencies are in microseconds.

    Scale-to-zero alone has InvocationsPerCopy and NoCapacityInvocationFailures, serverless ModelSetupTime.
    Asynchronous endpoints have neither Invocations nor InvocationsPerInstance nor OverheadLatency.
    """
    where = {"EndpointName": config.name, "VariantName": variant}
    if config.traits.components:
        where = {"InferenceComponentName": component(config)}
    return _metric("AWS/SageMaker", name, statistic, where, minutes)


def worst(
    config: DeployConfig, function: str, name: str, statistic: str, *, minutes: float = 1
) -> cloudwatch.IMetric:
    """The `function` (MAX, SUM) of the same metric over the variants whose answers are sent."""
    variants = [VARIANT, *(variant.name for variant in config.variants if not variant.shadow)]
    found = [invocation(config, name, statistic, variant=variant, minutes=minutes) for variant in variants]
    if len(found) == 1:
        return found[0]
    ids: dict[str, cloudwatch.IMetric] = {f"m{index}": metric for index, metric in enumerate(found)}
    return cloudwatch.MathExpression(
        expression=f"{function}([{','.join(ids)}])", using_metrics=ids, period=cdk.Duration.minutes(minutes)
    )


def requests(config: DeployConfig, *, minutes: float = 1) -> cloudwatch.Metric:
    """Answered requests: in every mode, one latency is recorded for each."""
    return invocation(config, "ModelLatency", "SampleCount", minutes=minutes)


def all_requests(config: DeployConfig, *, minutes: float = 1) -> cloudwatch.IMetric:
    """Those of every model of a fleet: whoever has none has no metric either."""
    found: dict[str, cloudwatch.IMetric] = {
        f"m{index}": requests(each, minutes=minutes) for index, each in enumerate(fleet.models(config))
    }
    if len(found) == 1:
        return found["m0"]
    filled = ",".join(f"FILL({id},0)" for id in found)
    return cloudwatch.MathExpression(
        expression=f"SUM([{filled}])", using_metrics=found, period=cdk.Duration.minutes(minutes)
    )


def alarm(
    scope: Construct,
    id: str,
    metric: cloudwatch.IMetric,
    *,
    name: str,
    text: str,
    threshold: float,
    periods: int,
    below: bool = False,
) -> cloudwatch.Alarm:
    """An alarm, raised while the metric is at or over `threshold` for `periods` of its periods, and not by silence.

    With `below` it is raised while the metric is under `threshold`, and by silence too.
    """
    comparison, missing = cloudwatch.ComparisonOperator, cloudwatch.TreatMissingData
    return cloudwatch.Alarm(
        scope,
        id,
        alarm_name=name,
        alarm_description=text,
        metric=metric,
        threshold=threshold,
        evaluation_periods=periods,
        comparison_operator=comparison.LESS_THAN_THRESHOLD
        if below
        else comparison.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        treat_missing_data=missing.BREACHING if below else missing.NOT_BREACHING,
    )


def queue(config: DeployConfig, name: str, statistic: str) -> cloudwatch.Metric:
    """A metric of an asynchronous endpoint's queue, such as ApproximateAgeOfOldestRequest (seconds)."""
    return _metric("AWS/SageMaker", name, statistic, {"EndpointName": config.name}, 1)


def devices(config: DeployConfig, name: str) -> int:
    """How many devices a metric of the instances adds up, each up to 100 %: vCPUs, or the GPUs in use; else 1.

    Our server has one process on one GPU; a copy of a component has a GPU of its own, and a seller's container may use all.
    """
    here = hardware(config.instance)
    if name == "CPUUtilization":
        return here.vcpu
    alone = config.traits.own_container and not config.traits.components
    return here.gpus if name.startswith("GPU") and not alone else 1


def machine(config: DeployConfig, name: str, statistic: str = "Average") -> cloudwatch.Metric:
    """A metric of the instances in percent of one of its `devices`: SampleCount is their number times `values_a_minute`."""
    where = {"EndpointName": config.name, "VariantName": VARIANT}
    return _metric("/aws/sagemaker/Endpoints", name, statistic, where, 1)


def values_a_minute(config: DeployConfig) -> int:
    """How often an instance says its utilisation."""
    return 60 // config.metrics.seconds


def each(config: DeployConfig, name: str, statistic: str) -> cloudwatch.SearchExpression:
    """A metric of every instance, copy and GPU on its own, which enhanced metrics have: a line for each, as they come and go.

    The search names no set of dimensions, as a GPU and a copy have one more than their instance.
    """
    where = {"EndpointName": config.name}
    if config.traits.components and "Utilization" not in name:
        where = {"InferenceComponentName": component(config)}
    terms = " ".join(f'{dimension}="{text}"' for dimension, text in where.items())
    return cloudwatch.SearchExpression(
        expression=f"SEARCH('MetricName=\"{name}\" {terms} InstanceId', '{statistic}', 60)",
        label=name,
        period=cdk.Duration.minutes(1),
    )


def logged(config: DeployConfig, name: str, statistic: str) -> cloudwatch.Metric:
    """A metric that a filter reads from the server's log."""
    return _metric(namespace(config), name, statistic, {}, 1)


def namespace(config: DeployConfig) -> str:
    """The namespace of our own metrics, one for each endpoint or component: a metric filter cannot name it as a dimension."""
    return "/".join(filter(None, ("sagerank", config.name, config.component)))


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
