"""What an endpoint is made of, in the words that CloudFormation and SageMaker's API share: the CDK and AWS's SDK make it alike."""

from __future__ import annotations

from typing import Any

from . import fleet
from .config import DeployConfig
from .estimate import serverless_memory
from .instances import hardware
from .modes import VARIANT

NAME_TAG = "sagerank:name"
# A budget by tag counts nothing before its tag is one of cost allocation.
ACTIVATE_TAG = (
    f"aws ce update-cost-allocation-tags-status --cost-allocation-tags-status TagKey={NAME_TAG},Status=Active"
)


def main_variant(config: DeployConfig) -> dict[str, Any]:
    """Its properties in snake case, nested ones as mappings, and all but the model's name."""
    facts: dict[str, Any] = {"variant_name": VARIANT}
    if not config.traits.components:
        facts["initial_variant_weight"] = 1.0
    if not config.traits.instances:
        return facts | {
            "serverless_config": {
                "memory_size_in_mb": serverless_memory(config),
                "max_concurrency": config.serverless.max_concurrency,
                "provisioned_concurrency": config.serverless.provisioned or None,
            }
        }
    facts |= instance_facts(config, config.instance)
    facts["initial_instance_count"] = max(1, fleet.bounds(config)[0])
    if config.provision_seconds:
        facts["variant_instance_provision_timeout_in_seconds"] = config.provision_seconds
    if not config.traits.queued:
        # Documents differ in length, and so do requests: the instance with the fewest open ones is the free one.
        facts["routing_config"] = {"routing_strategy": "LEAST_OUTSTANDING_REQUESTS"}
    return facts


def metrics_facts(config: DeployConfig) -> dict[str, Any] | None:
    """What the endpoint configuration says of metrics; None in modes that have none of single instances.

    SageMaker has switched detailed observability on by default since June 2026: what is billed by the GB is off unless asked for.
    """
    if not config.traits.metered:
        return None
    wanted = config.metrics
    return {
        "enable_enhanced_metrics": wanted.enhanced,
        "enable_detailed_observability": wanted.detailed,
        "metric_publish_frequency_in_seconds": wanted.seconds,
    }


def instance_facts(config: DeployConfig, instance: str) -> dict[str, Any]:
    """What every variant on instances of that type has."""
    return {
        "instance_type": instance,
        "container_startup_health_check_timeout_in_seconds": config.startup_seconds,
        "model_data_download_timeout_in_seconds": config.startup_seconds,
        "inference_ami_version": config.ami if hardware(instance).gpu else None,
    }


def tags(config: DeployConfig) -> dict[str, str]:
    """Those of everything that takes tags."""
    own = {
        NAME_TAG: config.name,
        "sagerank:model": config.model.replace(">", "/"),  # no tag may hold the sign
        "sagerank:mode": config.mode,
    }
    return {**own, **config.tags}
