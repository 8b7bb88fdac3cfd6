"""SageMaker's control plane where moto's stops: instance types of today, endpoints that take a while and can fail, UpdateEndpoint
with its silent rollback; and models, whose image and artefact must be there.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

from moto.applicationautoscaling.models import applicationautoscaling_backends
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.sagemaker import models
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.responses import SageMakerResponse

from . import artefact, images, quotas, refusals
from .artefact import ContainerFailed
from .container import Container
from .place import Place
from .registry import given

# (region, endpoint) -> name of the variant or inference component -> its containers
RUNNING: dict[tuple[str, str], dict[str, list[Container]]] = {}
# What moto drops of a request, and DescribeX of AWS gives back.
_KEPT = {
    "Model": ("EnableNetworkIsolation",),
    "EndpointConfig": (
        "ShadowProductionVariants",
        "ExecutionRoleArn",
        "VpcConfig",
        "EnableNetworkIsolation",
        "MetricsConfig",
    ),
}


@cache
def _enum(shape: str) -> frozenset[str]:
    import botocore.session

    return frozenset(botocore.session.get_session().get_service_model("sagemaker").shape_for(shape).enum)


def _check_variants(self: Any, variants: list[dict[str, Any]]) -> None:
    for variant in variants:
        types = (
            [variant["InstanceType"]]
            if "InstanceType" in variant
            else [pool["InstanceType"] for pool in variant.get("InstancePools", ())]
        )
        for kind in types:
            if kind not in _enum("ProductionVariantInstanceType"):
                raise ValidationError(
                    message=f"Value '{kind}' at 'productionVariants.1.member.instanceType' failed to satisfy constraint: Member must satisfy enum value set"
                )
        ami = variant.get("InferenceAmiVersion")
        if ami and ami not in _enum("ProductionVariantInferenceAmiVersion"):
            raise ValidationError(
                message=f"Value '{ami}' at 'productionVariants.1.member.inferenceAmiVersion' failed to satisfy constraint: Member must satisfy enum value set"
            )
        if "ServerlessConfig" in variant:
            self.validate_serverless_config(variant["ServerlessConfig"])
        elif not types:
            raise ValidationError(
                message="A production variant needs InstanceType, InstancePools or ServerlessConfig."
            )


def _check_models(self: Any, variants: list[dict[str, Any]]) -> None:
    for variant in variants:
        if "ModelName" in variant and variant["ModelName"] not in self._models:
            raise ValidationError(message=f'Could not find model "{variant["ModelName"]}".')


def _start(backend: Any, endpoint: str, config_name: str) -> dict[str, list[Container]]:
    """A container for each variant with a model, however many instances it has."""
    config = backend.endpoint_configs[config_name]
    started: dict[str, list[Container]] = {}
    try:
        for variant in (
            *config.production_variants,
            *(getattr(config, "shadow_production_variants", None) or ()),
        ):
            if "ModelName" in variant:
                place = Place.of_variant(endpoint, variant)
                started[place.name] = [Container(backend, variant["ModelName"], place)]
    except ContainerFailed:
        _stop(started)
        raise
    return started


def _stop(containers: Mapping[str, list[Container]]) -> None:
    for each in containers.values():
        for container in each:
            container.stop()


def _in_thread(work: Any, *arguments: Any) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()


_create_endpoint = models.SageMakerModelBackend.create_endpoint
_delete_endpoint = models.SageMakerModelBackend.delete_endpoint


def create_endpoint(self: Any, endpoint_name: str, endpoint_config_name: str, tags: Any) -> Any:
    if endpoint_name in self.endpoints:
        raise ValidationError(
            message=f'Cannot create already existing endpoint "{self.endpoints[endpoint_name].arn}".'
        )
    if endpoint_config_name in self.endpoint_configs:
        quotas.require(self, endpoint_config_name)
    endpoint = _create_endpoint(self, endpoint_name, endpoint_config_name, tags)
    endpoint.endpoint_status = "Creating"

    def start() -> None:
        try:
            RUNNING[self.region_name, endpoint_name] = _start(self, endpoint_name, endpoint_config_name)
            _deployed(self, endpoint)
            _set(endpoint, "InService")
        except ContainerFailed as error:
            _set(endpoint, "Failed", str(error))

    _in_thread(start)
    return endpoint


def _set(endpoint: Any, status: str, reason: str | None = None) -> None:
    endpoint.failure_reason, endpoint.last_modified_time = reason, utcnow()
    endpoint.endpoint_status = status


def _deployed(backend: Any, endpoint: Any) -> None:
    """Which digest a variant runs, as DescribeEndpoint says it."""
    config = backend.endpoint_configs[endpoint.endpoint_config_name]
    for variant, asked in zip(endpoint.production_variants, config.production_variants, strict=True):
        model = backend._models.get(asked.get("ModelName"))
        if image := getattr(model, "image", None):
            specified = model.primary_container["Image"]
            variant["DeployedImages"] = [
                {
                    "SpecifiedImage": specified,
                    "ResolvedImage": image.resolved,
                    "ResolutionTime": model.creation_time,
                }
            ]


def update_endpoint(self: Any) -> ActionResult:
    """All at once; containers that do not start leave the old configuration in service, and the status says InService."""
    backend, name, wanted = (
        self.sagemaker_backend,
        self._get_param("EndpointName"),
        self._get_param("EndpointConfigName"),
    )
    backend.describe_endpoint(name)
    backend.describe_endpoint_config(wanted)
    endpoint, key = backend.endpoints[name], (backend.region_name, name)
    if endpoint.endpoint_status != "InService":
        raise ValidationError(message=f'Cannot update in-progress endpoint "{endpoint.arn}".')
    deployment = self._get_param("DeploymentConfig")
    if why := refusals.update(
        _properties(backend, endpoint.endpoint_config_name),
        _properties(backend, wanted),
        deployment,
        _targets(backend),
        name,
    ):
        raise ValidationError(message=why)
    quotas.require(backend, wanted, name)  # the new instances start beside the old ones
    kept = _kept(
        endpoint,
        self._get_param("RetainAllVariantProperties"),
        self._get_param("ExcludeRetainedVariantProperties"),
    )
    endpoint.endpoint_status, endpoint.last_deployment_config = "Updating", deployment
    before = _properties(backend, endpoint.endpoint_config_name)
    every = (before[kind] or () for kind in ("ProductionVariants", "ShadowProductionVariants"))
    variants = {variant["VariantName"] for each in every for variant in each}

    def replace() -> None:
        try:
            fresh = _start(backend, name, wanted)
        except ContainerFailed as error:
            _set(endpoint, "InService", str(error))
            return
        old = RUNNING.get(key, {})
        # An inference component is no variant, and stays.
        staying = {name: old.pop(name) for name in list(old) if name not in variants}
        RUNNING[key] = fresh | staying
        endpoint.endpoint_config_name = wanted
        endpoint.production_variants = endpoint._process_production_variants(
            backend.endpoint_configs[wanted].production_variants
        )
        for variant in endpoint.production_variants:
            variant.update(kept.get(variant["VariantName"], {}))
        _deployed(backend, endpoint)
        _set(endpoint, "InService")
        _stop(old)

    _in_thread(replace)
    return ActionResult({"EndpointArn": endpoint.arn})


def _properties(backend: Any, name: str) -> dict[str, Any]:
    """Of an endpoint configuration, what decides whether an endpoint can be updated from it or to it."""
    config = backend.endpoint_configs[name]
    return {
        "ProductionVariants": config.production_variants,
        "ShadowProductionVariants": getattr(config, "shadow_production_variants", None),
        "AsyncInferenceConfig": config.async_inference_config,
    }


def _targets(backend: Any) -> set[str]:
    """The resource ids that Application Auto Scaling knows."""
    scaling = applicationautoscaling_backends[backend.account_id][backend.region_name]
    return {id for targets in scaling.targets.values() for id in targets}


_RETAINED = {
    "DesiredInstanceCount": ("DesiredInstanceCount", "CurrentInstanceCount"),
    "DesiredWeight": ("DesiredWeight", "CurrentWeight"),
}


def _kept(endpoint: Any, retain: bool, excluded: list[dict[str, str]] | None) -> dict[str, dict[str, Any]]:
    """What an update leaves as it is, by variant, although the new configuration says otherwise."""
    out = {each["VariantPropertyType"] for each in excluded or ()}
    keys = [key for kind, names in _RETAINED.items() if retain and kind not in out for key in names]
    return {
        variant["VariantName"]: {key: variant[key] for key in keys if key in variant}
        for variant in endpoint.production_variants
    }


def delete_endpoint(self: Any, endpoint_name: str) -> None:
    _delete_endpoint(self, endpoint_name)
    _stop(RUNNING.pop((self.region_name, endpoint_name), {}))


def _checked(create: Any) -> Any:
    """CreateModel looks for artefact and image, and keeps the digest that a tag stands for at that time."""

    def create_model(self: Any) -> Any:
        role, given_container = self._get_param("ExecutionRoleArn"), self._get_param("PrimaryContainer") or {}
        artefact.check(given_container, self.region, role)
        image = None
        if given() and "Image" in given_container:
            image = images.resolve(given_container["Image"], role, self.current_account)
        result = create(self)
        self.sagemaker_backend._models[self._get_param("ModelName")].image = image
        return result

    return create_model


def _keep(kind: str, held_in: str) -> None:
    """Let the created object remember what moto does not."""
    from botocore import xform_name

    operation = f"create_{xform_name(kind)}"
    original = getattr(SageMakerResponse, operation)

    def create(self: Any) -> Any:
        result = original(self)
        created = getattr(self.sagemaker_backend, held_in)[self._get_param(f"{kind}Name")]
        for name in _KEPT[kind]:
            if self._get_param(name) is not None:
                setattr(created, xform_name(name), self._get_param(name))
        return result

    setattr(SageMakerResponse, operation, create)


def _leave_out_empty(operation: str) -> None:
    """AWS describes nothing that there is none of; its own SDK would look for the members of an empty one."""
    original = getattr(SageMakerResponse, operation)

    def describe(self: Any) -> ActionResult:
        described = original(self).result
        return ActionResult({name: value for name, value in described.items() if value != {}})

    setattr(SageMakerResponse, operation, describe)


def install() -> None:
    for kind in ("model", "endpoint_config", "endpoint"):
        _leave_out_empty(f"describe_{kind}")
    models.FakeEndpointConfig.validate_production_variants = _check_variants
    models.SageMakerModelBackend.validate_production_variants = _check_models
    models.SageMakerModelBackend.create_endpoint = create_endpoint
    models.SageMakerModelBackend.delete_endpoint = delete_endpoint
    SageMakerResponse.update_endpoint = update_endpoint
    SageMakerResponse.create_model = _checked(SageMakerResponse.create_model)
    _keep("Model", "_models")
    _keep("EndpointConfig", "endpoint_configs")
