"""EndpointStack: the model as SageMaker knows it, the endpoint's configuration, the endpoint, its scaling and its rollback
alarms. Without names of their own, model and configuration are replaced by a change: the new ones exist before the endpoint
is updated, and the old ones go when it serves.
"""

from __future__ import annotations

import hashlib
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sns as sns
from constructs import Construct

from . import metrics, rollout, scaling
from .config import DeployConfig, Variant
from .environment import environment, max_tokens
from .estimate import component_memory, hardware, serverless_memory
from .model import Artefact, ModelStack
from .network import Placement

_Config = sagemaker.CfnEndpointConfig


class EndpointStack(cdk.Stack):
    """alarms: those that roll an update back. Mode batch has a model and nothing else: jobs come and go."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: DeployConfig,
        model: ModelStack,
        placement: Placement | None,
        **stack: Any,
    ) -> None:
        super().__init__(scope, id, **stack)
        self._config, self._model, self._placement = config, model, placement
        self.alarms: list[cloudwatch.Alarm] = []
        self.errors: sns.Topic | None = None
        self._main = main = self._sagemaker_model("Model", model.artefact, config.instance)
        if model.artefact:
            cdk.CfnOutput(self, "ModelDataUri", value=model.artefact.uri)
        if not config.endpoint:
            cdk.CfnOutput(self, "ModelName", value=main.attr_model_name)
            return
        assert model.log_group is not None
        self.alarms = rollout.rollback_alarms(self, config, model.log_group)
        configuration = self._configuration(main)
        guarded = rollout.deployment(config, self.alarms)
        endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=config.name,
            endpoint_config_name=configuration.attr_endpoint_config_name,
            deployment_config=guarded,
            # An update keeps the instances that scaling has started; weights are what this configuration says.
            retain_all_variant_properties=True
            if config.mode in ("realtime", "marketplace", "async")
            else None,
            exclude_retained_variant_properties=[
                sagemaker.CfnEndpoint.VariantPropertyProperty(variant_property_type="DesiredWeight")
            ]
            if config.variants
            else None,
        )
        endpoint.node.add_dependency(model.role)
        scaled: sagemaker.CfnEndpoint | sagemaker.CfnInferenceComponent = endpoint
        if config.mode == "scale-to-zero":
            scaled = self._component(main, endpoint)
            cdk.CfnOutput(self, "InferenceComponentName", value=metrics.component(config))
        scaling.scale(self, config, scaled)
        cdk.CfnOutput(self, "EndpointName", value=endpoint.attr_endpoint_name)

    def _sagemaker_model(self, id: str, artefact: Artefact | None, instance: str) -> sagemaker.CfnModel:
        config, model = self._config, self._model
        container = sagemaker.CfnModel.ContainerDefinitionProperty
        if artefact is None:
            primary = container(model_package_name=config.model_package)
        else:
            data: dict[str, Any] = {"model_data_url": artefact.uri}
            if artefact.prefix:
                source = sagemaker.CfnModel.S3DataSourceProperty(
                    compression_type="None", s3_data_type="S3Prefix", s3_uri=artefact.uri
                )
                data = {
                    "model_data_source": sagemaker.CfnModel.ModelDataSourceProperty(s3_data_source=source)
                }
            primary = container(image=model.image, environment=environment(config, instance), **data)
        created = sagemaker.CfnModel(
            self,
            id,
            execution_role_arn=model.role.role_arn,
            primary_container=primary,
            # The model's code has no network at all; SageMaker fetches artefact and image for it. Serverless has no isolation.
            enable_network_isolation=config.mode != "serverless",
            vpc_config=sagemaker.CfnModel.VpcConfigProperty(
                subnets=self._placement.subnets, security_group_ids=self._placement.security_groups
            )
            if self._placement
            else None,
        )
        if artefact:
            created.node.add_dependency(self._reader(id, artefact))
        return created

    def _reader(self, id: str, artefact: Artefact) -> iam.Policy:
        """The right to read one artefact, as long as its model exists: while an update runs, and when it is rolled back,
        instances of the old model still start.
        """
        arn = self.format_arn(
            service="s3",
            region="",
            account="",
            resource=artefact.bucket,
            resource_name=artefact.key + ("*" if artefact.prefix else ""),
        )
        statements = [iam.PolicyStatement(actions=["s3:GetObject"], resources=[arn])]
        if artefact.prefix:
            bucket = self.format_arn(service="s3", region="", account="", resource=artefact.bucket)
            statements.append(
                iam.PolicyStatement(
                    actions=["s3:ListBucket"],
                    resources=[bucket],
                    conditions={"StringLike": {"s3:prefix": f"{artefact.key}*"}},
                )
            )
        # The id carries the artefact's name, so that another artefact makes another policy instead of changing this one.
        digest = hashlib.sha256(f"{artefact.bucket}/{artefact.key}".encode()).hexdigest()[:8]
        return iam.Policy(self, f"{id}Reads{digest}", roles=[self._model.role], statements=statements)

    def _configuration(self, main: sagemaker.CfnModel) -> sagemaker.CfnEndpointConfig:
        config, key = self._config, self._model.key
        shadows = [variant for variant in config.variants if variant.shadow]
        others = [variant for variant in config.variants if not variant.shadow]
        instances = [
            config.instance,
            *(variant.instance or config.instance for variant in config.variants),
            *(pool.instance for pool in config.pools),
        ]
        # An NVMe disk is encrypted by the hardware, and CreateEndpointConfig fails when a key is named beside one.
        own_volumes = config.mode != "serverless" and not any(
            hardware(instance).local_disk for instance in instances
        )
        isolated = config.mode == "scale-to-zero"
        return _Config(
            self,
            "Configuration",
            production_variants=[self._main_variant(main), *(self._variant(variant) for variant in others)],
            shadow_production_variants=[self._variant(variant) for variant in shadows] or None,
            kms_key_id=key.key_arn if key and own_volumes else None,
            async_inference_config=self._asynchronous() if config.mode == "async" else None,
            data_capture_config=self._capture() if config.capture.percent else None,
            # With inference components these belong to the endpoint, not to the model.
            execution_role_arn=self._model.role.role_arn if isolated else None,
            enable_network_isolation=True if isolated else None,
            vpc_config=_Config.VpcConfigProperty(
                subnets=self._placement.subnets, security_group_ids=self._placement.security_groups
            )
            if isolated and self._placement
            else None,
        )

    def _main_variant(
        self, main: sagemaker.CfnModel
    ) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
        config = self._config
        if config.mode == "serverless":
            wanted = config.serverless
            return _Config.ProductionVariantProperty(
                variant_name=metrics.VARIANT,
                model_name=main.attr_model_name,
                initial_variant_weight=1.0,
                serverless_config=_Config.ServerlessConfigProperty(
                    memory_size_in_mb=serverless_memory(config, max_tokens(config)),
                    max_concurrency=wanted.max_concurrency,
                    provisioned_concurrency=wanted.provisioned or None,
                ),
            )
        least, most = config.autoscaling.min, config.autoscaling.max
        facts = self._instance_facts(config.instance)
        if config.mode == "scale-to-zero":
            return _Config.ProductionVariantProperty(
                variant_name=metrics.VARIANT,
                initial_instance_count=max(1, least),
                managed_instance_scaling=_Config.ManagedInstanceScalingProperty(
                    status="ENABLED", min_instance_count=least, max_instance_count=most
                ),
                routing_config=_Config.RoutingConfigProperty(routing_strategy="LEAST_OUTSTANDING_REQUESTS"),
                instance_type=config.instance,
                **facts,
            )
        pools = [
            _Config.InstancePoolProperty(instance_type=config.instance, priority=1),
            *(
                _Config.InstancePoolProperty(instance_type=pool.instance, priority=pool.priority)
                for pool in config.pools
            ),
        ]
        return _Config.ProductionVariantProperty(
            variant_name=metrics.VARIANT,
            model_name=main.attr_model_name,
            initial_instance_count=max(1, least),
            initial_variant_weight=1.0,
            routing_config=_Config.RoutingConfigProperty(routing_strategy="LEAST_OUTSTANDING_REQUESTS")
            if config.mode != "async"
            else None,
            instance_type=None if config.pools else config.instance,
            instance_pools=pools if config.pools else None,
            **facts,
        )

    def _variant(self, variant: Variant) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
        config = self._config
        instance = variant.instance or config.instance
        artefact = (
            self._model.locate(f"Artefact{variant.name}", variant.artefact)
            if variant.artefact
            else self._model.artefact
        )
        model = self._sagemaker_model(f"Model{variant.name}", artefact, instance)
        return _Config.ProductionVariantProperty(
            variant_name=variant.name,
            model_name=model.attr_model_name,
            initial_instance_count=variant.count,
            initial_variant_weight=variant.weight,
            instance_type=instance,
            **self._instance_facts(instance),
        )

    def _instance_facts(self, instance: str) -> dict[str, Any]:
        return {
            "container_startup_health_check_timeout_in_seconds": self._config.startup_seconds,
            "model_data_download_timeout_in_seconds": self._config.startup_seconds,
            "inference_ami_version": self._config.ami if hardware(instance).gpu else None,
        }

    def _component(
        self, main: sagemaker.CfnModel, endpoint: sagemaker.CfnEndpoint
    ) -> sagemaker.CfnInferenceComponent:
        config, machine = self._config, hardware(self._config.instance)
        component = sagemaker.CfnInferenceComponent
        created = component(
            self,
            "Component",
            inference_component_name=metrics.component(config),
            endpoint_name=endpoint.attr_endpoint_name,
            variant_name=metrics.VARIANT,
            specification=component.InferenceComponentSpecificationProperty(
                model_name=main.attr_model_name,
                startup_parameters=component.InferenceComponentStartupParametersProperty(
                    container_startup_health_check_timeout_in_seconds=config.startup_seconds,
                    model_data_download_timeout_in_seconds=config.startup_seconds,
                ),
                # More than half of the cores, so that a copy has an instance (or a GPU) of its own, and not all: SageMaker's agents have some.
                compute_resource_requirements=component.InferenceComponentComputeResourceRequirementsProperty(
                    min_memory_required_in_mb=component_memory(config, max_tokens(config)),
                    number_of_accelerator_devices_required=1 if machine.gpu else None,
                    number_of_cpu_cores_required=None if machine.gpu else max(1, int(0.75 * machine.vcpu)),
                ),
            ),
            runtime_config=component.InferenceComponentRuntimeConfigProperty(
                copy_count=max(1, config.autoscaling.min)
            ),
            deployment_config=rollout.component_deployment(config, self.alarms),
        )
        created.add_resource_dependency(endpoint)
        return created

    def _asynchronous(self) -> sagemaker.CfnEndpointConfig.AsyncInferenceConfigProperty:
        config, model = self._config, self._model
        assert model.data is not None
        done = sns.Topic(self, "Done", master_key=model.key, enforce_ssl=True)
        self.errors = sns.Topic(self, "Failed", master_key=model.key, enforce_ssl=True)
        publish = iam.PolicyStatement(
            actions=["sns:Publish"], resources=[done.topic_arn, self.errors.topic_arn]
        )
        self._main.node.add_dependency(
            iam.Policy(self, "Publishes", roles=[model.role], statements=[publish])
        )
        cdk.CfnOutput(self, "InputPath", value=model.data.s3_url_for_object("input"))
        cdk.CfnOutput(self, "OutputPath", value=model.data.s3_url_for_object("output"))
        cdk.CfnOutput(self, "ErrorTopic", value=self.errors.topic_arn)
        return _Config.AsyncInferenceConfigProperty(
            client_config=_Config.AsyncInferenceClientConfigProperty(
                max_concurrent_invocations_per_instance=config.asynchronous.concurrency
            ),
            output_config=_Config.AsyncInferenceOutputConfigProperty(
                kms_key_id=model.key.key_arn if model.key else None,
                s3_output_path=model.data.s3_url_for_object("output"),
                s3_failure_path=model.data.s3_url_for_object("output/failed"),
                notification_config=_Config.AsyncInferenceNotificationConfigProperty(
                    success_topic=done.topic_arn, error_topic=self.errors.topic_arn
                ),
            ),
        )

    def _capture(self) -> sagemaker.CfnEndpointConfig.DataCaptureConfigProperty:
        config, model = self._config, self._model
        assert model.data is not None
        return _Config.DataCaptureConfigProperty(
            enable_capture=True,
            initial_sampling_percentage=config.capture.percent,
            destination_s3_uri=model.data.s3_url_for_object("capture"),
            kms_key_id=model.key.key_arn if model.key else None,
            capture_options=[
                _Config.CaptureOptionProperty(capture_mode="Input"),
                _Config.CaptureOptionProperty(capture_mode="Output"),
            ],
        )
