"""Endpoint: the model as SageMaker knows it, the endpoint's configuration, the endpoint, its scaling and its rollback alarms.

Model and configuration have no names of their own, so that a change replaces them: the new ones are made before the endpoint
is updated, and the old ones go when the new ones serve.
"""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sns as sns
from constructs import Construct

from . import components, fleet, metrics, rollout, scaling
from .accepted import accept
from .artefact import Artefact
from .beside import Variant
from .config import DeployConfig
from .environment import environment
from .hosting import metrics_facts
from .instances import hardware
from .model import Foundation
from .network import Placement
from .outputs import publish
from .standing import scales
from .variants import main_variant, other_variant

_Config = sagemaker.CfnEndpointConfig


class Endpoint(Construct):
    """An endpoint with `alarms` that roll its updates back; mode batch has a model only, for jobs that come and go."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: DeployConfig,
        model: Foundation,
        placement: Placement | None,
    ) -> None:
        super().__init__(scope, id)
        self._config, self._outer, self._placement = config, model, placement
        self.alarms: list[cloudwatch.Alarm] = []
        created = self._model("Model", config, model.artefact)
        if model.artefact:
            cdk.CfnOutput(self, "ModelDataUri", value=model.artefact.uri)
        if not config.traits.endpoint:
            publish(self, config, "ModelName", created.attr_model_name, parameter="model-name")
            return
        self.alarms += rollout.rollback_alarms(self, config, model.log_groups[config.component])
        configuration = self._configuration(created)
        endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=config.name,
            endpoint_config_name=configuration.attr_endpoint_config_name,
            deployment_config=rollout.deployment(config, self.alarms),
            **self._retained(),
        )
        scaled: sagemaker.CfnEndpoint | sagemaker.CfnInferenceComponent = endpoint
        if config.traits.components:
            scaled = components.place(
                self, config, model=created, endpoint=endpoint, alarms=list(self.alarms)
            )
        scaling.scale(self, config, scaled)
        for other in fleet.models(config)[1:]:
            self._beside(other, endpoint)
        if config.traits.components:
            for each in fleet.models(config):
                name = metrics.component(each)
                publish(self, each, "InferenceComponentName", name, parameter="inference-component-name")
        publish(self, config, "EndpointName", endpoint.attr_endpoint_name, parameter="endpoint-name")
        publish(self, config, "EndpointArn", endpoint.ref, parameter="endpoint-arn")
        if model.key:
            # Whatever of the endpoint uses the key, this does, so that the export of 0.6 that is still imported stays.
            cdk.CfnOutput(self, "KeyArn", value=model.key.key_arn)

    def _retained(self) -> dict[str, Any]:
        """An update keeps the instances that scaling has started; weights, and a fixed fleet, are what the configuration says."""
        config = self._config
        if not config.traits.instances or config.traits.components or not scales(config):
            return {}
        weight = sagemaker.CfnEndpoint.VariantPropertyProperty(variant_property_type="DesiredWeight")
        return {"retain_all_variant_properties": True, "exclude_retained_variant_properties": [weight]}

    def _beside(self, config: DeployConfig, endpoint: sagemaker.CfnEndpoint) -> None:
        """Another model on the same instances, with alarms and scaling of its own."""
        scope, outer = Construct(self, f"Component{config.component}"), self._outer
        created = self._model(
            f"Model{config.component}",
            config,
            outer.locate(f"Artefact{config.component}", config.artefact),
        )
        alarms = rollout.rollback_alarms(scope, config, outer.log_groups[config.component])
        self.alarms += alarms
        placed = components.place(scope, config, model=created, endpoint=endpoint, alarms=alarms)
        scaling.scale(scope, config, placed)

    def _model(
        self, id: str, config: DeployConfig, artefact: Artefact | None, variant: Variant | None = None
    ) -> sagemaker.CfnModel:
        outer = self._outer
        container = sagemaker.CfnModel.ContainerDefinitionProperty
        created = sagemaker.CfnModel(
            self,
            id,
            execution_role_arn=outer.role.role_arn,
            primary_container=container(
                image=outer.image.uri if outer.image else None,
                environment=environment(config, variant),
                **artefact.data(),
            )
            if artefact
            else container(model_package_name=config.model_package),
            # The container has no network: SageMaker fetches artefact and image for it. Serverless has no such switch.
            enable_network_isolation=config.traits.instances or None,
            vpc_config=self._vpc(sagemaker.CfnModel.VpcConfigProperty),
        )
        if not config.traits.instances:
            accept(created, "serverless endpoints have no network isolation", "CKV_AWS_370")
        # SageMaker tries the role's rights when the model is created. Another artefact makes another policy: until an
        # update has succeeded, and after a rollback, instances of the old model still start.
        created.node.add_dependency(outer)
        # A role of the user's own is not changed: it has the right already.
        if artefact and not config.role:
            created.node.add_dependency(artefact.readable(self, id, outer.role))
        return created

    def _vpc(self, kind: Any) -> Any:
        where = self._placement
        return kind(subnets=where.subnets, security_group_ids=where.security_groups) if where else None

    def _configuration(self, created: sagemaker.CfnModel) -> sagemaker.CfnEndpointConfig:
        config, key = self._config, self._outer.key
        production = [main_variant(config, created)]
        shadows: list[sagemaker.CfnEndpointConfig.ProductionVariantProperty] = []
        for variant in config.variants:
            id, artefact = f"Model{variant.name}", self._outer.artefact
            if variant.artefact:
                artefact = self._outer.locate(f"Artefact{variant.name}", variant.artefact)
            model = self._model(id, config, artefact, variant)
            (shadows if variant.shadow else production).append(other_variant(config, variant, model))
        extra: dict[str, Any] = {}
        # An NVMe disk is encrypted by its hardware, and CreateEndpointConfig fails when a key is named beside one.
        if (
            key
            and config.instances
            and not any(hardware(instance).local_disk for instance in config.instances)
        ):
            extra["kms_key_id"] = key.key_arn
        if config.traits.queued:
            extra["async_inference_config"] = self._asynchronous(created)
        if config.capture.percent:
            extra["data_capture_config"] = self._capture()
        if config.traits.components:
            # With inference components these belong to the endpoint.
            extra |= {"execution_role_arn": self._outer.role.role_arn, "enable_network_isolation": True}
            extra["vpc_config"] = self._vpc(_Config.VpcConfigProperty)
        if facts := metrics_facts(config):
            extra["metrics_config"] = _Config.MetricsConfigProperty(**facts)
        return _Config(
            self,
            "Configuration",
            production_variants=production,
            shadow_production_variants=shadows or None,
            **extra,
        )

    def _asynchronous(
        self, created: sagemaker.CfnModel
    ) -> sagemaker.CfnEndpointConfig.AsyncInferenceConfigProperty:
        config, outer = self._config, self._outer
        done, failed = (
            sns.Topic(self, id, master_key=outer.key, enforce_ssl=True) for id in ("Done", "Failed")
        )
        if not config.role:
            topics = [done.topic_arn, failed.topic_arn]
            allowed = iam.PolicyStatement(actions=["sns:Publish"], resources=topics)
            created.node.add_dependency(
                iam.Policy(self, "Publishes", roles=[outer.role], statements=[allowed])
            )
        cdk.CfnOutput(self, "SuccessTopic", value=done.topic_arn)
        cdk.CfnOutput(self, "ErrorTopic", value=failed.topic_arn)
        return _Config.AsyncInferenceConfigProperty(
            client_config=_Config.AsyncInferenceClientConfigProperty(
                max_concurrent_invocations_per_instance=config.asynchronous.concurrency
            ),
            output_config=_Config.AsyncInferenceOutputConfigProperty(
                kms_key_id=outer.key.key_arn if outer.key else None,
                s3_output_path=outer.data.uri("output"),
                s3_failure_path=outer.data.uri("output/failed"),
                notification_config=_Config.AsyncInferenceNotificationConfigProperty(
                    success_topic=done.topic_arn, error_topic=failed.topic_arn
                ),
            ),
        )

    def _capture(self) -> sagemaker.CfnEndpointConfig.DataCaptureConfigProperty:
        outer = self._outer
        return _Config.DataCaptureConfigProperty(
            enable_capture=True,
            initial_sampling_percentage=self._config.capture.percent,
            destination_s3_uri=outer.data.uri("capture"),
            kms_key_id=outer.key.key_arn if outer.key else None,
            capture_options=[
                _Config.CaptureOptionProperty(capture_mode=mode) for mode in ("Input", "Output")
            ],
        )
