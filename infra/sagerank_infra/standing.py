"""What the stacks put beside a model that AWS bills by the month, counted from a configuration without making them.

sagerank_cost has the same counts of each preset and mode in its presets.csv; tests compare both with the templates.
"""

from __future__ import annotations

from . import fleet
from .config import DeployConfig
from .instances import hardware

# Pairs of an item of sagerank_cost's rates.csv and how many there are; of logs_ingest, the lines the server logs for a request;
# of instance_metric, the models whose copies an instance measures; of telemetry, whether there is any.
Standing = tuple[tuple[str, int], ...]

# Fields of the server's log line of a request, and the metrics that filters make of them.
LOGGED = {"Tokens": "$.computed", "PaddedTokens": "$.padded", "QueueMilliseconds": "$.queue"}


def standing(config: DeployConfig) -> Standing:
    """Everything beside the model, but what is free and what use decides."""
    endpoint, serverless = config.traits.endpoint, not config.traits.instances
    models = fleet.models(config)
    counts = {
        "vpc_endpoint": len(config.network.endpoints) * len(config.network.subnets),
        "alarm": _alarms(config, models) if endpoint else 0,
        "metric": len(LOGGED) * len(models) if endpoint and config.own_server else 0,
        "instance_metric": len(models) * config.metrics.enhanced,
        "telemetry": int(config.metrics.detailed),
        "dashboard": int(endpoint),
        "kms_key": int(config.encryption.key == "new"),
        "logs_ingest": int(config.own_server),
        "provisioned": config.serverless.provisioned if serverless else 0,
    }
    return tuple((item, count) for item, count in counts.items() if count)


def _alarms(config: DeployConfig, models: tuple[DeployConfig, ...]) -> int:
    """Alarms of the endpoint's and the observability stack, and those that autoscaling makes itself; one on several metrics counts for each."""
    traits = config.traits
    answering = 1 + sum(not variant.shadow for variant in config.variants)
    count = len(models) * (2 * answering + config.own_server)  # latency, errors; golden pairs
    if traits.instances:
        count += 3 if hardware(config.instance).gpu else 2  # memory, disk, a GPU's memory
        count += len(models) * bool(config.alarms.idle_hours and fleet.bounds(config)[0])
    count += traits.queued
    for each in filter(scales, models):
        count += 2  # of target tracking: above and below
        count += each.autoscaling.min == 0  # the way up from zero
    return count


def scales(config: DeployConfig) -> bool:
    """Whether anything is scaled: a fixed fleet is not, and on-demand serverless is by SageMaker itself."""
    wanted = config.autoscaling
    if not (config.traits.instances or config.serverless.provisioned):
        return False
    return wanted.min != wanted.max or bool(wanted.schedules)
