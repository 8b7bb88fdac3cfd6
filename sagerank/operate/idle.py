"""`sagerank idle`: endpoints of an account and region that nobody calls, and what they cost meanwhile."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tqdm import tqdm

from sagerank_cost import CostError
from sagerank_cost.catalogue import Catalogue

from .account import Account
from .endpoint import Endpoint, Variant, describe

HOURS_PER_MONTH = 730
_QUERIES = 500  # of one GetMetricData


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """An endpoint without a call for `days`. usd_per_hour is None where a price is not known, and 0 where nothing runs."""

    endpoint: str
    mode: str
    created: datetime.datetime
    days: int
    variants: tuple[str, ...]
    usd_per_hour: Decimal | None
    notes: tuple[str, ...]

    @property
    def usd_per_month(self) -> Decimal | None:
        return None if self.usd_per_hour is None else self.usd_per_hour * HOURS_PER_MONTH


def idle(account: Account, days: int, *, now: datetime.datetime | None = None) -> tuple[list[Quiet], int]:
    """Idle endpoints, the dearest first, and how many there are in all. Younger ones than `days` cannot have been idle for so long."""
    now = now or datetime.datetime.now(datetime.UTC)
    since = now - datetime.timedelta(days=days)
    names = [listed["EndpointName"] for listed in account.pages("sagemaker", "list_endpoints", "Endpoints")]
    old = [
        endpoint
        for name in tqdm(names, unit="endpoint", disable=None if sys.stderr else True, leave=False)
        if (endpoint := describe(account, name)).created <= since and endpoint.status == "InService"
    ]
    called = _called(account, old, since, now)
    catalogue = Catalogue()
    found = [
        _quiet(endpoint, account.region, days, catalogue) for endpoint in old if endpoint.name not in called
    ]
    found.sort(key=lambda quiet: (quiet.usd_per_hour is not None, -(quiet.usd_per_hour or 0)))
    return found, len(names)


def _called(
    account: Account, endpoints: Sequence[Endpoint], since: datetime.datetime, now: datetime.datetime
) -> set[str]:
    """Names of the endpoints that were called in the time, whether or not they could answer."""
    signs = [(endpoint.name, sign) for endpoint in endpoints for sign in _signs(endpoint)]
    found: set[str] = set()
    cloudwatch = account.client("cloudwatch")
    for start in range(0, len(signs), _QUERIES):
        part = signs[start : start + _QUERIES]
        queries = [_query(f"q{index}", sign) for index, (_, sign) in enumerate(part)]
        for page in cloudwatch.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries, StartTime=since, EndTime=now
        ):
            for result in page["MetricDataResults"]:
                if sum(result["Values"]) > 0:
                    found.add(part[int(result["Id"][1:])][0])
    return found


@dataclass(frozen=True, slots=True)
class _Sign:
    """A metric that is over 0 where somebody called."""

    metric: str
    statistic: str
    dimensions: dict[str, str]


def _signs(endpoint: Endpoint) -> Iterator[_Sign]:
    """What the endpoint's mode emits: an asynchronous one has no Invocations, and one that finds no instance no latency."""
    owners = [{"EndpointName": endpoint.name, "VariantName": variant.name} for variant in endpoint.variants]
    components = [{"InferenceComponentName": component.name} for component in endpoint.components]
    for owner in (*owners, *components):
        yield _Sign("ModelLatency", "SampleCount", owner)
        if not endpoint.asynchronous:
            yield _Sign("Invocations", "Sum", owner)
    for component in components:
        yield _Sign("NoCapacityInvocationFailures", "Sum", component)
    if endpoint.asynchronous:
        yield _Sign("ApproximateBacklogSize", "Maximum", {"EndpointName": endpoint.name})


def _query(id: str, sign: _Sign) -> dict[str, Any]:
    metric = {
        "Namespace": "AWS/SageMaker",
        "MetricName": sign.metric,
        "Dimensions": [{"Name": name, "Value": text} for name, text in sign.dimensions.items()],
    }
    # A day: finer points are dropped after 15 days, and only whether there is any counts.
    stat = {"Metric": metric, "Period": 86_400, "Stat": sign.statistic}
    return {"Id": id, "MetricStat": stat, "ReturnData": True}


def _quiet(endpoint: Endpoint, region: str, days: int, catalogue: Catalogue) -> Quiet:
    price, notes = hourly(endpoint, region, catalogue)
    shown = tuple(_show(variant) for variant in endpoint.variants)
    return Quiet(
        endpoint=endpoint.name,
        mode=endpoint.mode,
        created=endpoint.created,
        days=days,
        variants=shown,
        usd_per_hour=price,
        notes=notes,
    )


def _show(variant: Variant) -> str:
    if variant.memory_mb:
        return f"serverless {variant.memory_mb} MB"
    return f"{variant.current} x {variant.instance or 'an unknown type'}"


def hourly(endpoint: Endpoint, region: str, catalogue: Catalogue) -> tuple[Decimal | None, tuple[str, ...]]:
    """US dollars an hour of what runs now, idle or not; None, and why, where a part has no known price."""
    total, notes = Decimal(0), []
    for variant in endpoint.variants:
        if variant.current and not (variant.instance or variant.memory_mb):
            notes.append(
                f"The configuration of {endpoint.name} was deleted: nothing says on which instances {variant.name} runs."
            )
        try:
            if variant.instance and variant.current:
                total += variant.current * catalogue.hosting(region, variant.instance).usd
            elif variant.provisioned:
                total += (
                    variant.provisioned * 3600 * catalogue.rate(region, "provisioned", variant.memory_mb).usd
                )
        except CostError as error:
            notes.append(str(error))
    return (None if notes else total), tuple(notes)
