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


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A variant as it runs. instance is empty in serverless, where memory_mb counts. models: of the variant, or of its inference components."""

    name: str
    instance: str
    current: int
    desired: int
    weight: float
    memory_mb: int
    provisioned: int
    models: tuple[str, ...]
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
    found = raw(account, name)
    # Somebody may have deleted the configuration; the endpoint serves on without.
    config = (
        look_up(
            account.client("sagemaker").describe_endpoint_config,
            EndpointConfigName=found["EndpointConfigName"],
        )
        or {}
    )
    components = (
        tuple(_components(account, name))
        if any("ModelName" not in variant for variant in config.get("ProductionVariants", ()))
        else ()
    )
    live = {
        variant["VariantName"]: variant
        for variant in (*found.get("ProductionVariants", ()), *found.get("ShadowProductionVariants", ()))
    }
    variants = []
    for shadow, wanted in (
        (False, config.get("ProductionVariants", ())),
        (True, config.get("ShadowProductionVariants", ())),
    ):
        for variant in wanted:
            now = live.get(variant["VariantName"], {})
            serverless = now.get("CurrentServerlessConfig") or variant.get("ServerlessConfig") or {}
            pools = "/".join(pool["InstanceType"] for pool in variant.get("InstancePools", ()))
            models = (
                [variant["ModelName"]]
                if "ModelName" in variant
                else [part.model for part in components if part.variant == variant["VariantName"]]
            )
            variants.append(
                Variant(
                    name=variant["VariantName"],
                    instance=variant.get("InstanceType", pools),
                    current=now.get("CurrentInstanceCount", 0),
                    desired=now.get("DesiredInstanceCount", now.get("CurrentInstanceCount", 0)),
                    weight=now.get("CurrentWeight", variant.get("InitialVariantWeight", 1.0)),
                    memory_mb=serverless.get("MemorySizeInMB", 0),
                    provisioned=serverless.get("ProvisionedConcurrency", 0),
                    models=tuple(models),
                    shadow=shadow,
                )
            )
    return Endpoint(
        name=name,
        arn=found["EndpointArn"],
        status=found["EndpointStatus"],
        failure=found.get("FailureReason", ""),
        config=found["EndpointConfigName"],
        created=found["CreationTime"],
        modified=found["LastModifiedTime"],
        variants=tuple(variants),
        components=components,
        asynchronous=bool(config.get("AsyncInferenceConfig")),
    )


def raw(account: Account, name: str) -> Mapping[str, Any]:
    """SageMaker's answer to DescribeEndpoint. Raises OperateError where there is none."""
    found: Mapping[str, Any] | None = look_up(
        account.client("sagemaker").describe_endpoint, EndpointName=name
    )
    if found is None:
        raise OperateError(f"There is no endpoint {name} in {account.region}{_others(account)}")
    return found


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
    found = []
    for listed in account.pages(
        "sagemaker", "list_inference_components", "InferenceComponents", EndpointNameEquals=name
    ):
        component = account.client("sagemaker").describe_inference_component(
            InferenceComponentName=listed["InferenceComponentName"]
        )
        model = component.get("Specification", {}).get("ModelName", "")
        copies = component.get("RuntimeConfig", {}).get("CurrentCopyCount", 0)
        found.append(
            Component(
                name=component["InferenceComponentName"],
                variant=component["VariantName"],
                status=component["InferenceComponentStatus"],
                model=model,
                copies=copies,
            )
        )
    return found


def wait(account: Account, name: str, progress: Callable[[str, float], None]) -> Endpoint:
    """Return the endpoint when nothing is under way any more; `progress` hears its status and the seconds since the start.

    Raises OperateError, with SageMaker's reason, where it does not end in service.
    """
    began = time.monotonic()
    while (status := raw(account, name)["EndpointStatus"]) in BUSY:
        progress(status, time.monotonic() - began)
        time.sleep(_POLL_SECONDS)
    found = describe(account, name)
    if status != "InService":
        raise OperateError(
            f"The endpoint {name} is {status}: {found.failure or 'SageMaker gives no reason'}. Its log is /aws/sagemaker/Endpoints/{name}; docs/deploy.md lists causes."
        )
    return found
