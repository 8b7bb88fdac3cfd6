"""The endpoint configuration's variants for the CDK: the main one by mode, and others for A/B and shadow tests."""

from __future__ import annotations

from aws_cdk import aws_sagemaker as sagemaker

from . import fleet
from .beside import Variant
from .config import DeployConfig
from .hosting import instance_facts
from .hosting import main_variant as main_facts

_Config = sagemaker.CfnEndpointConfig


def main_variant(
    config: DeployConfig, model: sagemaker.CfnModel
) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
    """The variant that `mode` and `instance` describe."""
    facts = main_facts(config)
    if "serverless_config" in facts:
        facts["serverless_config"] = _Config.ServerlessConfigProperty(**facts["serverless_config"])
    if "routing_config" in facts:
        facts["routing_config"] = _Config.RoutingConfigProperty(**facts["routing_config"])
    if config.pools:
        types = [(facts.pop("instance_type"), 1), *((pool.instance, pool.priority) for pool in config.pools)]
        facts["instance_pools"] = [
            _Config.InstancePoolProperty(instance_type=instance, priority=priority)
            for instance, priority in types
        ]
    if config.traits.components:
        # No model: inference components bring them, and instances come and go with their copies.
        least, most = fleet.bounds(config)
        facts["managed_instance_scaling"] = _Config.ManagedInstanceScalingProperty(
            status="ENABLED",
            min_instance_count=least,
            max_instance_count=most,
        )
    else:
        facts["model_name"] = model.attr_model_name
    return _Config.ProductionVariantProperty(**facts)


def other_variant(
    config: DeployConfig, variant: Variant, model: sagemaker.CfnModel
) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
    return _Config.ProductionVariantProperty(
        variant_name=variant.name,
        model_name=model.attr_model_name,
        initial_instance_count=variant.count,
        initial_variant_weight=variant.weight,
        **instance_facts(config, variant.instance or config.instance),
    )
