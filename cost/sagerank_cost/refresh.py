"""`sagerank cost refresh`: the catalogue again from the AWS Price List Query API, after a look at what would change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from . import CostError
from .catalogue import HOSTING_COLUMNS, RATE_COLUMNS, Catalogue, Price
from .store import write

SOURCE = "pricelist"
_SOURCE_TEXT = "AWS Price List Query API, service AmazonSageMaker (sagerank cost refresh)"
# A price that moves further than this is more likely a misread item than a new price.
SUSPICIOUS = Decimal("0.25")
# What is asked for in a region: attributes that items must have.
_QUERIES: tuple[dict[str, str], ...] = (
    {"component": "Hosting"},
    {"productFamily": "ML Serverless"},
    {"volumeType": "General Purpose-Hosting"},
    {"operation": "Invoke-Endpoint"},
)
_SERVERLESS = {
    "ServerlessInf": "serverless",
    "ServerlessProvisionedConcurrency-Usage": "provisioned",
    "ServerlessProvisionedConcurrency-Duration": "provisioned_processing",
}
_DATA = {"Hosting:IN": "data_in", "Hosting:OUT": "data_out"}

# (region, "hosting", instance type) or (region, item, memory in MB or "").
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """A price that changes: `old` is None for one that is new, and `new` for one that has vanished."""

    key: Key
    old: Decimal | None
    new: Decimal | None

    @property
    def suspicious(self) -> bool:
        if self.old is None:
            return False
        return self.new is None or abs(self.new / self.old - 1) > SUSPICIOUS

    def __str__(self) -> str:
        region, item, size = self.key
        what = size if item == "hosting" else f"{item} {size} MB" if size else item
        if self.old is None:
            return f"+ {region} {what}: {self.new}"
        if self.new is None:
            return f"- {region} {what}: {self.old}, no longer listed"
        return f"~ {region} {what}: {self.old} -> {self.new} ({self.new / self.old - 1:+.1%})"


@dataclass(frozen=True, slots=True)
class Refreshed:
    """Prices of the regions asked for, and their changes; `unspecified` types lack a known specification."""

    regions: tuple[str, ...]
    prices: dict[Key, Price]
    changes: tuple[Change, ...]
    unspecified: tuple[str, ...]

    @property
    def suspicious(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.suspicious)


def client(endpoint_url: str | None = None) -> Any:
    """A client of the API, whose endpoint is in us-east-1, whichever region is priced. It needs pricing:GetProducts."""
    import boto3

    return boto3.client("pricing", region_name="us-east-1", endpoint_url=endpoint_url)


def fetch(catalogue: Catalogue, regions: Sequence[str], api: Any) -> Refreshed:
    """Ask for the regions' prices, and compare. Raises CostError where an answer makes no sense; nothing is written."""
    prices: dict[Key, Price] = {}
    unspecified = set()
    for region in regions:
        for key, price in _prices(api, region):
            if key[1] == "hosting" and key[2] not in catalogue.instances:
                unspecified.add(key[2])
                continue
            if key in prices and prices[key].usd != price.usd:
                raise CostError(
                    f"The Price List names two prices for {' '.join(key)}: {prices[key].usd} and {price.usd}; nothing was changed."
                )
            prices[key] = price
        if not any(key[:2] == (region, "hosting") for key in prices):
            raise CostError(
                f"The Price List has no hosting price for {region}: check the name of the region."
            )
    old = {key: price for key, price in _known(catalogue).items() if key[0] in regions}
    # Items this API is not asked for (NAT gateways, alarms, ...) stay as they are.
    asked = {"hosting", "volume", *_SERVERLESS.values(), *_DATA.values()}
    changes = [
        Change(key, old[key].usd if key in old else None, prices[key].usd if key in prices else None)
        for key in sorted({*old, *prices})
        if key[1] in asked
    ]
    return Refreshed(
        tuple(regions),
        prices,
        tuple(change for change in changes if change.old != change.new),
        tuple(sorted(unspecified)),
    )


def apply(catalogue: Catalogue, refreshed: Refreshed) -> None:
    """Rewrite hosting.csv, rates.csv and sources.csv of the catalogue's folder: what has vanished goes, the rest gets its date."""
    gone = {change.key for change in refreshed.changes if change.new is None}
    merged = {key: price for key, price in _known(catalogue).items() if key not in gone} | refreshed.prices
    folder = catalogue.folder
    write(folder / "sources.csv", ("source", "text"), (catalogue.sources | {SOURCE: _SOURCE_TEXT}).items())
    rates = [
        (*key, price.usd, price.unit, price.source, price.date, price.confidence)
        for key, price in merged.items()
        if key[1] != "hosting"
    ]
    hosting = [
        (region, instance, price.usd, price.source, price.date, price.confidence)
        for (region, item, instance), price in merged.items()
        if item == "hosting"
    ]
    write(folder / "rates.csv", RATE_COLUMNS, rates)
    write(folder / "hosting.csv", HOSTING_COLUMNS, hosting)


def _known(catalogue: Catalogue) -> dict[Key, Price]:
    hosting: dict[Key, Price] = {
        (region, "hosting", instance): price for (region, instance), price in catalogue.hosting_prices.items()
    }
    return hosting | catalogue.rates


def _prices(api: Any, region: str) -> Iterator[tuple[Key, Price]]:
    for query in _QUERIES:
        for item in _products(api, query | {"regionCode": region}):
            attributes = item.get("product", {}).get("attributes", {})
            key = _key(region, attributes)
            if key is not None:
                for price in _on_demand(item, " ".join(key)):
                    yield key, price


def _products(api: Any, attributes: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    from botocore.exceptions import BotoCoreError, ClientError

    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in attributes.items()]
    try:
        for page in api.get_paginator("get_products").paginate(
            ServiceCode="AmazonSageMaker", Filters=filters
        ):
            for text in page["PriceList"]:
                yield json.loads(text)
    except (BotoCoreError, ClientError) as error:
        raise CostError(
            f"The Price List could not be read: {error}. It needs credentials that allow pricing:GetProducts."
        ) from None
    except ValueError:
        raise CostError(
            "The Price List answered with an item that is not JSON; nothing was changed."
        ) from None


def _key(region: str, attributes: Mapping[str, str]) -> Key | None:
    """What an item prices; None for what has prices of its own: Outposts, free tiers, other components."""
    if attributes.get("locationType", "AWS Region") != "AWS Region" or attributes.get("regionCode") != region:
        return None
    instance, group = attributes.get("instanceName", ""), attributes.get("group", "")
    if attributes.get("component") == "Hosting" and instance.startswith("ml."):
        return region, "hosting", instance
    if group in _SERVERLESS and attributes.get("memorygb", "").isdecimal():
        return region, _SERVERLESS[group], str(1024 * int(attributes["memorygb"]))
    if attributes.get("volumeType") == "General Purpose-Hosting":
        return region, "volume", ""
    if group in _DATA:
        return region, _DATA[group], ""
    return None


def _on_demand(item: Mapping[str, Any], what: str) -> Iterator[Price]:
    """The item's prices in US dollars above 0: a free tier has 0, and China has another currency."""
    units = {
        "Hrs": "USD per hour",
        "seconds": "USD per second",
        "GB": "USD per GB",
        "GB-Mo": "USD per GB-month",
    }
    date = str(item.get("publicationDate", ""))[:10]
    for term in item.get("terms", {}).get("OnDemand", {}).values():
        for dimension in _values(term.get("priceDimensions")):
            text = dimension.get("pricePerUnit", {}).get("USD")
            unit = str(dimension.get("unit"))
            if text is None or dimension.get("beginRange", "0") != "0" or unit not in units:
                continue
            try:
                usd = Decimal(text).normalize()
            except InvalidOperation:
                raise CostError(
                    f"The Price List has the price {text!r} for {what}; nothing was changed."
                ) from None
            if usd > 0:
                yield Price(
                    usd=Decimal(f"{usd:f}"), unit=units[unit], source=SOURCE, date=date, confidence="high"
                )


def _values(mapping: Any) -> Iterable[Mapping[str, Any]]:
    return mapping.values() if isinstance(mapping, dict) else ()
