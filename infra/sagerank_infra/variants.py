"""The endpoint configuration's variants: the main one by mode, and others for A/B and shadow tests."""

from __future__ import annotations

from typing import Any

from aws_cdk import aws_sagemaker as sagemaker

from .config import DeployConfig
from .estimate import serverless_memory
from .instances import hardware
from .metrics import VARIANT
from .sections import Variant

_Config = sagemaker.CfnEndpointConfig


def main_variant(
    config: DeployConfig, model: sagemaker.CfnModel
) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
    """The variant that `mode` and `instance` describe."""
    if not config.traits.instances:
        return _Config.ProductionVariantProperty(
            variant_name=VARIANT,
            model_name=model.attr_model_name,
            initial_variant_weight=1.0,
            serverless_config=_Config.ServerlessConfigProperty(
                memory_size_in_mb=serverless_memory(config),
                max_concurrency=config.serverless.max_concurrency,
                provisioned_concurrency=config.serverless.provisioned or None,
            ),
        )
    least, most = config.autoscaling.min, config.autoscaling.max
    facts = _facts(config, config.instance)
    if not config.traits.queued:
        # Documents differ in length, and so do requests: the instance with the fewest open ones is the free one.
        facts["routing_config"] = _Config.RoutingConfigProperty(routing_strategy="LEAST_OUTSTANDING_REQUESTS")
    if config.pools:
        types = [(config.instance, 1), *((pool.instance, pool.priority) for pool in config.pools)]
        facts["instance_pools"] = [
            _Config.InstancePoolProperty(instance_type=instance, priority=priority)
            for instance, priority in types
        ]
    else:
        facts["instance_type"] = config.instance
    if config.traits.components:
        # No model: the inference component brings it, and instances come and go with its copies.
        facts["managed_instance_scaling"] = _Config.ManagedInstanceScalingProperty(
            status="ENABLED", min_instance_count=least, max_instance_count=most
        )
    else:
        facts |= {"model_name": model.attr_model_name, "initial_variant_weight": 1.0}
    return _Config.ProductionVariantProperty(
        variant_name=VARIANT, initial_instance_count=max(1, least), **facts
    )


def other_variant(
    config: DeployConfig, variant: Variant, model: sagemaker.CfnModel
) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
    instance = variant.instance or config.instance
    return _Config.ProductionVariantProperty(
        variant_name=variant.name,
        model_name=model.attr_model_name,
        initial_instance_count=variant.count,
        initial_variant_weight=variant.weight,
        instance_type=instance,
        **_facts(config, instance),
    )


def _facts(config: DeployConfig, instance: str) -> dict[str, Any]:
    return {
        "container_startup_health_check_timeout_in_seconds": config.startup_seconds,
        "model_data_download_timeout_in_seconds": config.startup_seconds,
        "inference_ami_version": config.ami if hardware(instance).gpu else None,
    }
