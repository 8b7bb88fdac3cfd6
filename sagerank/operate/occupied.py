"""What the endpoints of a region take of the account's quotas now, by the names of the quotas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .account import Account, look_up

CONCURRENCY = "Maximum total concurrency that can be allocated across all serverless endpoints"
_LISTS = ("ProductionVariants", "ShadowProductionVariants")


def of_instance(instance: str) -> str:
    """The name of the quota of a hosting type."""
    return f"{instance} for endpoint usage"


def of_region(account: Account, name: str) -> tuple[Counter[str], Counter[str]]:
    """What the endpoint of that name takes, and what all others do."""
    own, others = Counter[str](), Counter[str]()
    for endpoint in account.pages("sagemaker", "list_endpoints", "Endpoints"):
        if endpoint["EndpointStatus"] == "Failed":  # it has no instances
            continue
        for quota, count in _taken(account, endpoint["EndpointName"]):
            (own if endpoint["EndpointName"] == name else others)[quota] += count
    return own, others


def _taken(account: Account, endpoint: str) -> Iterator[tuple[str, int]]:
    sagemaker = account.client("sagemaker")
    found = look_up(sagemaker.describe_endpoint, EndpointName=endpoint)
    if found is None:  # it went meanwhile
        return
    # The endpoint says how many, and its configuration of which type.
    config = look_up(sagemaker.describe_endpoint_config, EndpointConfigName=found["EndpointConfigName"]) or {}
    running = {variant["VariantName"]: variant for key in _LISTS for variant in found.get(key, ())}
    for asked in (variant for key in _LISTS for variant in config.get(key, ())):
        now = running.get(asked["VariantName"], {})
        if "ServerlessConfig" in asked:
            serverless = now.get("CurrentServerlessConfig") or asked["ServerlessConfig"]
            yield CONCURRENCY, serverless["MaxConcurrency"]
        elif pools := now.get("InstancePools"):
            for pool in pools:
                yield of_instance(pool["InstanceType"]), pool.get("CurrentInstanceCount", 0)
        else:
            yield of_instance(_type(asked)), _count(asked, now)


def _type(variant: Mapping[str, Any]) -> str:
    pools = sorted(variant.get("InstancePools", ()), key=lambda pool: int(pool["Priority"]))
    return str(variant.get("InstanceType") or pools[0]["InstanceType"])


def _count(asked: Mapping[str, Any], now: Mapping[str, Any]) -> int:
    """Instances that there are or are being started."""
    counts = [now[key] for key in ("CurrentInstanceCount", "DesiredInstanceCount") if key in now]
    return max(counts) if counts else int(asked.get("InitialInstanceCount", 0))
