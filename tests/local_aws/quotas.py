"""Service Quotas, and SageMaker's refusal of endpoints that are more than they allow.

An increase that is asked for is granted at once, and a decrease too, which AWS does not do: so tests make an account poor.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from moto.sagemaker.exceptions import SagemakerClientError
from moto.servicequotas.exceptions import NoSuchResource
from moto.servicequotas.responses import ServiceQuotasResponse

_CONCURRENCY = "Maximum total concurrency that can be allocated across all serverless endpoints"
_MEMORY = "Memory size in MB per serverless endpoint"
# What a test's account may have of everything, unless it asks for less.
_PLENTY = {_CONCURRENCY: 1000, _MEMORY: 6144}
_INSTANCES = 20
# (region, name of the quota) -> its value, where it was asked for
_APPLIED: dict[tuple[str, str], int] = {}


class ResourceLimitExceeded(SagemakerClientError):  # type: ignore[misc]
    code = "ResourceLimitExceeded"


@cache
def _names() -> dict[str, str]:
    """Quota codes by name."""
    import botocore.session

    sagemaker = botocore.session.get_session().get_service_model("sagemaker")
    types = sagemaker.shape_for("ProductionVariantInstanceType").enum
    names = [*_PLENTY, *(f"{kind} for endpoint usage" for kind in types)]
    return {name: f"L-{hashlib.sha256(name.encode()).hexdigest()[:8].upper()}" for name in names}


def _value(region: str, name: str) -> int:
    return _APPLIED.get((region, name), _PLENTY.get(name, _INSTANCES))


def _quota(region: str, name: str) -> dict[str, Any]:
    return {
        "ServiceCode": "sagemaker",
        "QuotaCode": _names()[name],
        "QuotaName": name,
        "Value": float(_value(region, name)),
        "Adjustable": True,
    }


def list_service_quotas(self: Any) -> str:
    """In pages, in the order of their codes, as the names come in none."""
    asked = json.loads(self.body)
    if asked["ServiceCode"] != "sagemaker":
        raise NoSuchResource
    first, most = int(asked.get("NextToken", 0)), int(asked.get("MaxResults", 100))
    names = sorted(_names(), key=_names().__getitem__)
    answer: dict[str, Any] = {"Quotas": [_quota(self.region, name) for name in names[first : first + most]]}
    if first + most < len(names):
        answer["NextToken"] = str(first + most)
    return json.dumps(answer)


def request_service_quota_increase(self: Any) -> str:
    asked = json.loads(self.body)
    name = next((name for name, code in _names().items() if code == asked["QuotaCode"]), None)
    if name is None:
        raise NoSuchResource
    _APPLIED[self.region, name] = int(asked["DesiredValue"])
    request = {"Id": name, "Status": "APPROVED", "QuotaName": name, "DesiredValue": asked["DesiredValue"]}
    return json.dumps({"RequestedQuota": request})


def require(backend: Any, config_name: str, updated: str = "") -> None:
    """Raise as AWS does where an endpoint of that configuration is more than the account may have beside what there is.

    updated: the endpoint whose new instances start beside its old ones; a serverless one has none.
    """
    taken = Counter[str]()
    for endpoint in backend.endpoints.values():
        if endpoint.endpoint_status == "Failed":
            continue
        counts = {each["VariantName"]: each for each in endpoint.production_variants}
        config = backend.endpoint_configs[endpoint.endpoint_config_name]
        if not (endpoint.endpoint_name == updated and "ServerlessConfig" in config.production_variants[0]):
            taken.update(dict(_taken(config, counts)))
    for name, delta in _taken(backend.endpoint_configs[config_name], {}):
        used = 0 if name == _MEMORY else taken[name]
        value, unit = _value(backend.region_name, name), _unit(name)
        if used + delta > value:
            raise ResourceLimitExceeded(
                f"The account-level service limit '{name}' is {value} {unit}, with current utilization of {used} {unit} and a request delta of {delta} {unit}. "
                "Please use AWS Service Quotas to request an increase for this quota. If AWS Service Quotas is not available, contact AWS support to request an increase for this quota."
            )


def _unit(name: str) -> str:
    return {_MEMORY: "MBs", _CONCURRENCY: "None"}.get(name, "Instances")


def _taken(config: Any, now: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    found = Counter[str]()
    variants = (*config.production_variants, *(getattr(config, "shadow_production_variants", None) or ()))
    for variant in variants:
        if "ServerlessConfig" in variant:
            found[_CONCURRENCY] += variant["ServerlessConfig"]["MaxConcurrency"]
            found[_MEMORY] = variant["ServerlessConfig"]["MemorySizeInMB"]
            continue
        kind = variant.get("InstanceType") or variant["InstancePools"][0]["InstanceType"]
        count = now.get(variant["VariantName"], {}).get("CurrentInstanceCount")
        found[f"{kind} for endpoint usage"] += (
            variant.get("InitialInstanceCount", 1) if count is None else count
        )
    yield from found.items()


def install() -> None:
    """Before endpoints are asked for: they look here."""
    ServiceQuotasResponse.list_service_quotas = list_service_quotas
    ServiceQuotasResponse.request_service_quota_increase = request_service_quota_increase
    ServiceQuotasResponse.list_aws_default_service_quotas = list_service_quotas
