"""Inference components: models that share an endpoint's instance, each in as many copies as are asked for, or none."""

from __future__ import annotations

import threading
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.sagemaker import models
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.responses import SageMakerResponse

from .artefact import ContainerFailed
from .container import Container
from .endpoints import RUNNING
from .place import Place

# (region, name) -> what DescribeInferenceComponent says
_COMPONENTS: dict[tuple[str, str], dict[str, Any]] = {}


def create_inference_component(self: Any) -> ActionResult:
    backend, name, endpoint = (
        self.sagemaker_backend,
        self._get_param("InferenceComponentName"),
        self._get_param("EndpointName"),
    )
    if backend.describe_endpoint(endpoint)["EndpointStatus"] != "InService":
        raise ValidationError(message=f"Endpoint {endpoint} is not InService.")
    copies, now = self._get_param("RuntimeConfig")["CopyCount"], utcnow()
    if copies < 1:
        raise ValidationError(message="Inference components copy count an integer larger than 0")
    arn = f"arn:aws:sagemaker:{backend.region_name}:{backend.account_id}:inference-component/{name}"
    _COMPONENTS[backend.region_name, name] = component = {
        "InferenceComponentName": name,
        "InferenceComponentArn": arn,
        "EndpointName": endpoint,
        "EndpointArn": backend.endpoints[endpoint].arn,
        "VariantName": self._get_param("VariantName"),
        "Specification": self._get_param("Specification"),
        "RuntimeConfig": {"DesiredCopyCount": copies, "CurrentCopyCount": 0},
        "CreationTime": now,
        "LastModifiedTime": now,
        "InferenceComponentStatus": "Creating",
    }
    RUNNING.setdefault((backend.region_name, endpoint), {})[name] = []
    threading.Thread(target=_reach, args=(backend, component), daemon=True).start()
    return ActionResult({"InferenceComponentArn": arn})


def _reach(backend: Any, component: dict[str, Any]) -> None:
    """Start or stop copies until there are as many as desired."""
    name, endpoint = component["InferenceComponentName"], backend.endpoints[component["EndpointName"]]
    config = backend.endpoint_configs[endpoint.endpoint_config_name]
    variant = next(
        each for each in config.production_variants if each["VariantName"] == component["VariantName"]
    )
    place = Place.of_component(name, variant, component["Specification"])
    running = RUNNING[backend.region_name, component["EndpointName"]][name]
    counts, status = component["RuntimeConfig"], "InService"
    try:
        while len(running) < counts["DesiredCopyCount"]:
            running.append(Container(backend, component["Specification"]["ModelName"], place))
    except ContainerFailed as error:
        component["FailureReason"], status = str(error), "Failed"
    while len(running) > counts["DesiredCopyCount"]:
        running.pop().stop()
    counts["CurrentCopyCount"], component["LastModifiedTime"] = len(running), utcnow()
    component["InferenceComponentStatus"] = status


def _component(self: Any) -> dict[str, Any]:
    name = self._get_param("InferenceComponentName")
    if (self.region, name) not in _COMPONENTS:
        raise ValidationError(message=f'Could not find inference component "{name}".')
    return _COMPONENTS[self.region, name]


def describe_inference_component(self: Any) -> ActionResult:
    return ActionResult(_component(self))


def list_inference_components(self: Any) -> ActionResult:
    return ActionResult({"InferenceComponents": _of(self.region, self._get_param("EndpointNameEquals"))})


def _of(region: str, endpoint: str | None) -> list[dict[str, Any]]:
    return [
        each
        for (where, _), each in _COMPONENTS.items()
        if where == region and endpoint in (None, each["EndpointName"])
    ]


def update_inference_component_runtime_config(self: Any) -> ActionResult:
    component = _component(self)
    if component["InferenceComponentStatus"] != "InService":
        raise ValidationError(
            message=f"Inference component {component['InferenceComponentName']} is not InService."
        )
    component["InferenceComponentStatus"] = "Updating"
    component["RuntimeConfig"]["DesiredCopyCount"] = self._get_param("DesiredRuntimeConfig")["CopyCount"]
    threading.Thread(target=_reach, args=(self.sagemaker_backend, component), daemon=True).start()
    return ActionResult({"InferenceComponentArn": component["InferenceComponentArn"]})


def delete_inference_component(self: Any) -> ActionResult:
    component = _component(self)
    name = component["InferenceComponentName"]
    if component["InferenceComponentStatus"] in ("Creating", "Updating"):
        raise ValidationError(message=f"Inference component {name} is being changed.")
    del _COMPONENTS[self.region, name]
    for container in RUNNING[self.region, component["EndpointName"]].pop(name):
        container.stop()
    return EmptyResult()


def install() -> None:
    """After endpoints, whose deletion it refuses while there are components."""
    deleted = models.SageMakerModelBackend.delete_endpoint

    def delete_endpoint(self: Any, endpoint_name: str) -> None:
        if _of(self.region_name, endpoint_name):
            raise ValidationError(
                message=f"Cannot delete endpoint {endpoint_name}: it has inference components."
            )
        deleted(self, endpoint_name)

    models.SageMakerModelBackend.delete_endpoint = delete_endpoint
    for operation in (
        create_inference_component,
        describe_inference_component,
        list_inference_components,
        update_inference_component_runtime_config,
        delete_inference_component,
    ):
        setattr(SageMakerResponse, operation.__name__, operation)
