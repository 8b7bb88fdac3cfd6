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
from .place import Place, capacity, instance_type

_NO_ROOM = (
    "There is not enough hardware resources on the instances for this endpoint to create a copy of the inference component. "
    "Please update resource requirements for this inference component, remove existing inference components, or increase the "
    "number of instances for this endpoint."
)
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


def _variant(backend: Any, component: dict[str, Any]) -> dict[str, Any]:
    endpoint = backend.endpoints[component["EndpointName"]]
    config = backend.endpoint_configs[endpoint.endpoint_config_name]
    return next(
        dict(each) for each in config.production_variants if each["VariantName"] == component["VariantName"]
    )


def _reach(backend: Any, component: dict[str, Any]) -> None:
    """Start or stop copies until there are as many as desired."""
    name, variant = component["InferenceComponentName"], _variant(backend, component)
    running = RUNNING[backend.region_name, component["EndpointName"]][name]
    counts, status = component["RuntimeConfig"], "InService"
    try:
        while len(running) < counts["DesiredCopyCount"]:
            running.append(_copy(backend, component, variant, component["Specification"]))
    except ContainerFailed as error:
        component["FailureReason"], status = str(error), "Failed"
    while len(running) > counts["DesiredCopyCount"]:
        running.pop().stop()
    counts["CurrentCopyCount"], component["LastModifiedTime"] = len(running), utcnow()
    component["InferenceComponentStatus"] = status


def _replace(backend: Any, component: dict[str, Any], specification: dict[str, Any]) -> None:
    """One copy after another; one that does not start leaves the old ones in service."""
    name, variant = component["InferenceComponentName"], _variant(backend, component)
    running = RUNNING[backend.region_name, component["EndpointName"]][name]
    old, fresh = list(running), list[Container]()
    try:
        for _ in old:
            fresh.append(_copy(backend, component, variant, specification, beside=len(old) - 1))
        running[:], component["Specification"] = fresh, specification
        component.pop("FailureReason", None)
    except ContainerFailed as error:
        old, component["FailureReason"] = fresh, str(error)
    for container in old:
        container.stop()
    component["LastModifiedTime"], component["InferenceComponentStatus"] = utcnow(), "InService"


def _copy(
    backend: Any,
    component: dict[str, Any],
    variant: dict[str, Any],
    specification: dict[str, Any],
    *,
    beside: int | None = None,
) -> Container:
    """Start a copy beside `beside` others of the component, or all that run. Raises ContainerFailed where no instance has room."""
    name, running = (
        component["InferenceComponentName"],
        RUNNING[backend.region_name, component["EndpointName"]],
    )
    copies = [specification["ComputeResourceRequirements"]]
    for other in _of(backend.region_name, component["EndpointName"]):
        number = len(running[other["InferenceComponentName"]])
        number = beside if other is component and beside is not None else number
        copies += number * [other["Specification"]["ComputeResourceRequirements"]]
    if not _placed(variant, copies):
        raise ContainerFailed(_NO_ROOM)
    return Container(backend, specification["ModelName"], Place.of_component(name, variant, specification))


def _placed(variant: dict[str, Any], copies: list[dict[str, Any]]) -> bool:
    """Whether as many instances as the variant may have hold the copies, the largest first."""
    needs = ("MinMemoryRequiredInMb", "NumberOfCpuCoresRequired", "NumberOfAcceleratorDevicesRequired")
    managed = variant.get("ManagedInstanceScaling", {})
    most = managed.get("MaxInstanceCount", variant["InitialInstanceCount"])
    instances = [list(capacity(instance_type(variant))) for _ in range(most)]
    for copy in sorted(copies, key=lambda each: -each["MinMemoryRequiredInMb"]):
        wanted = [copy.get(need, 0) for need in needs]
        for free in instances:
            if all(have >= want for have, want in zip(free, wanted, strict=True)):
                free[:] = [have - want for have, want in zip(free, wanted, strict=True)]
                break
        else:
            return False
    return True


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


def update_inference_component(self: Any) -> ActionResult:
    component = _component(self)
    if component["InferenceComponentStatus"] != "InService":
        raise ValidationError(
            message=f"Inference component {component['InferenceComponentName']} is not InService."
        )
    component["InferenceComponentStatus"] = "Updating"
    arguments = (self.sagemaker_backend, component, self._get_param("Specification"))
    threading.Thread(target=_replace, args=arguments, daemon=True).start()
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
        update_inference_component,
        update_inference_component_runtime_config,
        delete_inference_component,
    ):
        setattr(SageMakerResponse, operation.__name__, operation)
