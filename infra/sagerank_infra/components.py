"""Components: inference components for the CDK, each with a model and copies of its own on the instances of one endpoint."""

from __future__ import annotations

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from . import fleet, metrics, rollout
from .config import DeployConfig
from .estimate import component_memory
from .instances import hardware
from .modes import VARIANT

_Component = sagemaker.CfnInferenceComponent


def place(
    scope: Construct,
    config: DeployConfig,
    *,
    model: sagemaker.CfnModel,
    endpoint: sagemaker.CfnEndpoint,
    alarms: list[cloudwatch.Alarm],
) -> sagemaker.CfnInferenceComponent:
    """Place copies of the model that `config` is of on the endpoint's instances; `alarms` take an update of it back."""
    gpu = hardware(config.instance).gpu
    return _Component(
        scope,
        "Component",
        inference_component_name=metrics.component(config),
        endpoint_name=endpoint.attr_endpoint_name,
        variant_name=VARIANT,
        specification=_Component.InferenceComponentSpecificationProperty(
            model_name=model.attr_model_name,
            startup_parameters=_Component.InferenceComponentStartupParametersProperty(
                container_startup_health_check_timeout_in_seconds=config.startup_seconds,
                model_data_download_timeout_in_seconds=config.startup_seconds,
            ),
            # Without a type it is for every one that the endpoint may have.
            compute_resource_requirements=_Component.InferenceComponentComputeResourceRequirementsProperty(
                min_memory_required_in_mb=component_memory(config),
                number_of_accelerator_devices_required=1 if gpu else None,
                number_of_cpu_cores_required=None if gpu else fleet.cpus(config),
            ),
        ),
        runtime_config=_Component.InferenceComponentRuntimeConfigProperty(
            copy_count=max(1, config.autoscaling.min)
        ),
        deployment_config=rollout.component_deployment(config, alarms),
    )
