"""The dashboard's rows: what each mode emits, and what the server logs."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from . import fleet, metrics
from .config import DeployConfig
from .estimate import Estimate, unit_price
from .instances import hardware

_HALF, _FULL = 12, 24
_MINUTE = cdk.Duration.minutes(1)


def widgets(config: DeployConfig, cost: Estimate) -> list[cloudwatch.IWidget]:
    """The dashboard's widgets, left to right and top to bottom, in a grid of 24 columns."""
    found = [
        _text(config, cost),
        _latency(config),
        _requests(config),
        _load(config),
        _utilisation(config),
        _cost(config),
    ]
    if config.own_server:
        found.insert(4, _work(config))
    for other in fleet.models(config)[1:]:
        found += [_heading(other), _latency(other), _requests(other), _load(other)]
        found += [_work(other)] if config.own_server else []
    if config.metrics.enhanced:
        found += [_each_utilisation(config), _each_latency(config)]
    return [widget for widget in found if widget]


def _graph(
    title: str, left: list[cloudwatch.IMetric], right: list[cloudwatch.IMetric] | None = None, unit: str = ""
) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(
        title=title,
        width=_HALF,
        left=left,
        right=right or [],
        left_y_axis=cloudwatch.YAxisProps(label=unit, min=0, show_units=not unit),
    )


def _math(expression: str, label: str, **using: cloudwatch.IMetric) -> cloudwatch.MathExpression:
    return cloudwatch.MathExpression(expression=expression, label=label, using_metrics=using, period=_MINUTE)


def _text(config: DeployConfig, cost: Estimate) -> cloudwatch.IWidget:
    where = config.instance or "serverless"
    markdown = f"**{config.name}**: {config.model}, {config.mode}, {where}. Estimated cost: {cost}"
    return cloudwatch.TextWidget(markdown=markdown, width=_FULL, height=2)


def _heading(config: DeployConfig) -> cloudwatch.IWidget:
    markdown = f"**{metrics.component(config)}**: {config.model}"
    return cloudwatch.TextWidget(markdown=markdown, width=_FULL, height=1)


def _latency(config: DeployConfig) -> cloudwatch.IWidget:
    """The latency of the model and what SageMaker adds, in milliseconds."""
    names = {"ModelLatency": "model"}
    if not config.traits.queued:
        names["OverheadLatency"] = "overhead"
    if not config.traits.instances:
        names["ModelSetupTime"] = "cold start"
    lines = []
    for name, label in names.items():
        for statistic in ("p50", "p99"):
            # Ids are unique within a graph.
            id, metric = (
                f"{name[0].lower()}{name[1:]}_{statistic}",
                metrics.invocation(config, name, statistic),
            )
            lines.append(_math(f"{id} / 1000", f"{label} {statistic}", **{id: metric}))
    return _graph("Latency", list(lines), unit="ms")


def _requests(config: DeployConfig) -> cloudwatch.IWidget:
    errors = [metrics.invocation(config, f"Invocation{kind}XXErrors", "Sum") for kind in (4, 5)]
    if config.traits.components:
        errors.append(metrics.invocation(config, "NoCapacityInvocationFailures", "Sum"))
    return _graph("Requests and errors a minute", [metrics.requests(config)], list(errors))


def _load(config: DeployConfig) -> cloudwatch.IWidget | None:
    """The metric that scaling follows."""
    if not config.traits.instances:
        return None
    if config.traits.queued:
        backlog = [
            metrics.queue(config, f"ApproximateBacklogSize{kind}", "Maximum") for kind in ("", "PerInstance")
        ]
        age = metrics.queue(config, "ApproximateAgeOfOldestRequest", "Maximum")
        return _graph("Queue depth, and age of the oldest request (s)", list(backlog), [age])
    name = "InvocationsPerCopy" if config.traits.components else "InvocationsPerInstance"
    return _graph(
        "Invocations an instance, and instances",
        [metrics.invocation(config, name, "Sum")],
        [_instances(config)],
    )


def _work(config: DeployConfig) -> cloudwatch.IWidget:
    tokens, padded = (metrics.logged(config, name, "Sum") for name in ("Tokens", "PaddedTokens"))
    waiting = metrics.logged(config, "QueueMilliseconds", "p99")
    return _graph(
        "Tokens a second, padding saved (%) and wait for a batch (p99, ms)",
        [_math("tokens / PERIOD(tokens)", "tokens/s", tokens=tokens)],
        [_math("100 * (1 - tokens / padded)", "padding saved %", tokens=tokens, padded=padded), waiting],
    )


def _utilisation(config: DeployConfig) -> cloudwatch.IWidget | None:
    if not config.traits.instances:
        return None
    names = ["CPUUtilization", "MemoryUtilization", "DiskUtilization"]
    if hardware(config.instance).gpu:
        names += ["GPUUtilization", "GPUMemoryUtilization"]
    lines = []
    for name in names:
        id, metric, devices = name.lower(), metrics.machine(config, name), metrics.devices(config, name)
        lines.append(_math(f"{id} / {devices}" if devices > 1 else id, name, **{id: metric}))
    return _graph(
        "Utilisation of all vCPUs, and of the GPUs in use"
        if hardware(config.instance).gpu
        else "Utilisation",
        list(lines),
        unit="%",
    )


def _cost(config: DeployConfig) -> cloudwatch.IWidget | None:
    """Dollars an hour: instances times their price; of serverless endpoints, the seconds they compute."""
    price = unit_price(config)
    if price is None:
        return None
    if not config.traits.instances:
        busy = metrics.invocation(config, "ModelLatency", "Sum")
        line = _math(f"micros / 1000000 * {price} * 3600 / PERIOD(micros)", "USD/h", micros=busy)
    else:
        line = _math(f"instances * {price}", "USD/h", instances=_instances(config))
    return _graph("Cost an hour, at the catalogue's price", [line], unit="USD")


def _instances(config: DeployConfig) -> cloudwatch.IMetric:
    values, often = metrics.machine(config, "CPUUtilization", "SampleCount"), metrics.values_a_minute(config)
    return values if often == 1 else _math(f"values / {often}", "instances", values=values)


def _each_utilisation(config: DeployConfig) -> cloudwatch.IWidget:
    names = ["CPUUtilization", "MemoryUtilization"]
    if hardware(config.instance).gpu:
        names += ["GPUUtilization", "GPUMemoryUtilization"]
    return _graph(
        "Utilisation of each instance and GPU",
        [metrics.each(config, name, "Average") for name in names],
        unit="%",
    )


def _each_latency(config: DeployConfig) -> cloudwatch.IWidget:
    """Slow ones among the instances, and whether each has its share."""
    return _graph(
        "Model latency of each instance (microseconds), and its requests",
        [metrics.each(config, "ModelLatency", "Average")],
        [metrics.each(config, "ModelLatency", "SampleCount")],
    )
