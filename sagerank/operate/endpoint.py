"""An endpoint as SageMaker describes it: its state, its variants, what scales it, and waiting for it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import OperateError
from .account import Account, look_up

BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_POLL_SECONDS = 5.0
_PRODUCTION, _SHADOW = "ProductionVariants", "ShadowProductionVariants"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A variant as it runs."""

    name: str
    instance: str  # empty in serverless, where memory_mb counts, and where nothing says it
    current: int
    desired: int
    weight: float
    memory_mb: int
    provisioned: int
    models: tuple[str, ...]  # its own, or those of its inference components
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    name: str
    variant: str
    status: str
    model: str
    copies: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    name: str
    arn: str
    status: str
    failure: str
    config: str
    created: datetime.datetime
    modified: datetime.datetime
    variants: tuple[Variant, ...]
    components: tuple[Component, ...]
    asynchronous: bool

    @property
    def mode(self) -> str:
        if self.components:
            return "scale-to-zero"
        if self.asynchronous:
            return "async"
        return "serverless" if any(variant.memory_mb for variant in self.variants) else "realtime"


def describe(account: Account, name: str) -> Endpoint:
    """The endpoint with its variants and components. Raises OperateError where there is none."""
    answer = raw(account, name)
    # Somebody may have deleted the configuration; the endpoint serves on, and says less of itself.
    describe_config = account.client("sagemaker").describe_endpoint_config
    config = look_up(describe_config, EndpointConfigName=answer["EndpointConfigName"]) or answer
    split = any("ModelName" not in variant for variant in config.get(_PRODUCTION, ()))
    components = tuple(_components(account, name)) if split else ()
    running = {
        variant["VariantName"]: variant for key in (_PRODUCTION, _SHADOW) for variant in answer.get(key, ())
    }
    variants = tuple(
        _variant(wanted, running.get(wanted["VariantName"], {}), components, shadow=key == _SHADOW)
        for key in (_PRODUCTION, _SHADOW)
        for wanted in config.get(key, ())
    )
    return Endpoint(
        name=name,
        arn=answer["EndpointArn"],
        status=answer["EndpointStatus"],
        failure=answer.get("FailureReason", ""),
        config=answer["EndpointConfigName"],
        created=answer["CreationTime"],
        modified=answer["LastModifiedTime"],
        variants=variants,
        components=components,
        asynchronous=bool(config.get("AsyncInferenceConfig")),
    )


def _variant(
    wanted: Mapping[str, Any], now: Mapping[str, Any], components: tuple[Component, ...], *, shadow: bool
) -> Variant:
    """A variant by its configuration, and by what the endpoint says of it now."""
    name = wanted["VariantName"]
    own = [part.model for part in components if part.variant == name]
    serverless = now.get("CurrentServerlessConfig") or wanted.get("ServerlessConfig") or {}
    pools = "/".join(pool["InstanceType"] for pool in wanted.get("InstancePools", ()))
    return Variant(
        name=name,
        instance=wanted.get("InstanceType", pools),
        current=now.get("CurrentInstanceCount", 0),
        desired=now.get("DesiredInstanceCount", now.get("CurrentInstanceCount", 0)),
        weight=now.get("CurrentWeight", wanted.get("InitialVariantWeight", 1.0)),
        memory_mb=serverless.get("MemorySizeInMB", 0),
        provisioned=serverless.get("ProvisionedConcurrency", 0),
        models=(wanted["ModelName"],) if "ModelName" in wanted else tuple(own),
        shadow=shadow,
    )


def raw(account: Account, name: str) -> Mapping[str, Any]:
    """SageMaker's answer to DescribeEndpoint. Raises OperateError where there is none."""
    answer: Mapping[str, Any] | None = look_up(
        account.client("sagemaker").describe_endpoint, EndpointName=name
    )
    if answer is None:
        raise OperateError(f"There is no endpoint {name} in {account.region}{_others(account)}")
    return answer


def _others(account: Account) -> str:
    names = [
        endpoint["EndpointName"]
        for endpoint in account.client("sagemaker").list_endpoints(MaxResults=5)["Endpoints"]
    ]
    return (
        f": there are {', '.join(names)}."
        if names
        else ", nor any other: give --region, or deploy one with `sagerank deploy`."
    )


def _components(account: Account, name: str) -> list[Component]:
    components = []
    for listed in account.pages(
        "sagemaker", "list_inference_components", "InferenceComponents", EndpointNameEquals=name
    ):
        component = account.client("sagemaker").describe_inference_component(
            InferenceComponentName=listed["InferenceComponentName"]
        )
        model = component.get("Specification", {}).get("ModelName", "")
        copies = component.get("RuntimeConfig", {}).get("CurrentCopyCount", 0)
        components.append(
            Component(
                name=component["InferenceComponentName"],
                variant=component["VariantName"],
                status=component["InferenceComponentStatus"],
                model=model,
                copies=copies,
            )
        )
    return components


def wait(account: Account, name: str, progress: Callable[[str, float], None]) -> Endpoint:
    """Return the endpoint when nothing is under way any more; `progress` hears its status and the seconds since the start.

    Raises OperateError, with SageMaker's reason, where it does not end in service.
    """
    began = time.monotonic()
    while (status := raw(account, name)["EndpointStatus"]) in BUSY:
        progress(status, time.monotonic() - began)
        time.sleep(_POLL_SECONDS)
    endpoint = describe(account, name)
    if status != "InService":
        raise OperateError(
            f"The endpoint {name} is {status}: {endpoint.failure or 'SageMaker gives no reason'}. Its log is /aws/sagemaker/Endpoints/{name}; docs/deploy.md of sagerank's repository lists causes."
        )
    return endpoint
