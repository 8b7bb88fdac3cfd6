"""Instance types, prices and rates: dated rows with a source, read from data/*.csv."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path

from . import CostError, unknown
from .store import DATA, rows

STALE_DAYS = 90
# The columns of hosting.csv and rates.csv, which `refresh` writes and which are read here.
HOSTING_COLUMNS = ("region", "instance", "usd_per_hour", "source", "date", "confidence")
RATE_COLUMNS = ("region", "item", "memory_mb", "usd", "unit", "source", "date", "confidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars for one `unit`, as somebody stated it on `date` (ISO, or its first parts)."""

    usd: Decimal
    unit: str
    source: str
    date: str
    confidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A SageMaker hosting instance type. `clock_mhz` is the sustained turbo that the maker states.

    A burstable type has its `baseline`: the share of each vCPU that it may use all the time. More it can use only for a while,
    by the credits that it earned below. None: it is not burstable.
    """

    name: str
    vcpu: int
    memory_gib: float
    arch: str  # amd64 or arm64
    cpu: str
    isa: frozenset[str]
    clock_mhz: int
    gpu: str  # "" without one
    gpus: int
    gpu_memory_gib: float  # of one GPU
    accelerator: str  # Inferentia and Trainium: nothing of ours runs there
    local_disk: bool  # NVMe of its own: no volume is billed
    baseline: float | None = None
    maybe: frozenset[str] = frozenset()  # instruction sets that some or all machines of the type may have

    @property
    def cores(self) -> int:
        """Physical cores: a vCPU is half a core on amd64, and a core on arm64."""
        return self.vcpu if self.arch == "arm64" else max(1, self.vcpu // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A reranker that is billed by use: `per` request (of at most `documents`) or token."""

    name: str
    title: str
    price: Price
    per: str
    documents: int | None


class Catalogue:
    """What the CSV files of a folder say, each read when it is first asked for.

    `overrides` are prices of the user's own in US dollars, by instance type or service name. Raises CostError for a file
    that is malformed, and for a name that does not exist.
    """

    def __init__(self, folder: Path = DATA, overrides: Mapping[str, Decimal] | None = None) -> None:
        self.folder = folder
        self._overrides = dict(overrides or {})
        for name, usd in self._overrides.items():
            if name not in self.instances and name not in self.services:
                raise unknown("instance type or service", name, [*self.instances, *self.services])
            if not usd.is_finite() or usd <= 0:
                raise CostError(f"The price of {name} is {usd}: give more than 0.")

    @cached_property
    def sources(self) -> dict[str, str]:
        return {row["source"]: row["text"] for _, row in rows(self.folder / "sources.csv", "source", "text")}

    @cached_property
    def instances(self) -> dict[str, Instance]:
        path = self.folder / "instances.csv"
        columns = ("instance", "vcpu", "memory_gib", "arch", "cpu", "isa", "clock_mhz", "gpu", "gpus")
        instances = {}
        for line, row in rows(path, *columns, "gpu_memory_gib", "accelerator", "local_nvme_gb"):
            try:
                instances[row["instance"]] = Instance(
                    name=row["instance"],
                    vcpu=int(row["vcpu"]),
                    memory_gib=float(row["memory_gib"]),
                    arch=row["arch"],
                    cpu=row["cpu"],
                    isa=_features(row["isa"]),
                    maybe=_features(row["isa"], certain=False),
                    clock_mhz=int(row["clock_mhz"] or 0),
                    gpu=row["gpu"],
                    gpus=int(row["gpus"] or 0),
                    gpu_memory_gib=float(row["gpu_memory_gib"] or 0),
                    accelerator=row["accelerator"],
                    local_disk=bool(row["local_nvme_gb"]),
                    # Not in a copy of the data that an older version made.
                    baseline=float(row["baseline"]) if row.get("baseline") else None,
                )
            except ValueError as error:
                raise CostError(f"{path}:{line}: {error}: correct the row.") from None
        return instances

    @cached_property
    def hosting_prices(self) -> dict[tuple[str, str], Price]:
        """By region and instance type."""
        path = self.folder / "hosting.csv"
        return {
            (row["region"], row["instance"]): _price(path, line, row, "usd_per_hour", "hour")
            for line, row in rows(path, *HOSTING_COLUMNS)
        }

    @cached_property
    def rates(self) -> dict[tuple[str, str, str], Price]:
        """By region, item and memory in MB ("" where it does not depend on memory)."""
        path = self.folder / "rates.csv"
        return {
            (row["region"], row["item"], row["memory_mb"]): _price(path, line, row, "usd", row["unit"])
            for line, row in rows(path, *RATE_COLUMNS)
        }

    @cached_property
    def services(self) -> dict[str, Service]:
        path = self.folder / "services.csv"
        return {
            row["name"]: Service(
                name=row["name"],
                title=row["title"],
                price=_price(path, line, row, "usd", row["per"]),
                per=row["per"],
                documents=int(row["documents"]) if row["documents"] else None,
            )
            for line, row in rows(path, "name", "title", "usd", "per", "documents", "source", "date")
        }

    @cached_property
    def regions(self) -> tuple[str, ...]:
        return tuple(sorted({region for region, _ in self.hosting_prices}))

    def instance(self, name: str) -> Instance:
        if name not in self.instances:
            raise unknown("SageMaker hosting instance", name, self.instances)
        return self.instances[name]

    def region(self, name: str) -> str:
        if name not in self.regions:
            raise unknown("region with known prices", name, self.regions)
        return name

    def hosting(self, region: str, instance: str) -> Price:
        """The price of an hour of one instance. Raises CostError where none is known: a type may exist and not be sold there."""
        self.region(region)
        self.instance(instance)
        if instance in self._overrides:
            return _own(self._overrides[instance], "hour")
        price = self.hosting_prices.get((region, instance))
        if price is None:
            elsewhere = sorted(name for name, other in self.hosting_prices if other == instance)
            known = f"it is known in {', '.join(elsewhere[:5])}" if elsewhere else "it is known nowhere"
            raise CostError(
                f"No hosting price of {instance} is known in {region}: {known}; give yours with --price."
            )
        return price

    def offered(self, region: str) -> list[str]:
        """Instance types with a known price in the region."""
        self.region(region)
        return [instance for other, instance in self.hosting_prices if other == region]

    def rate(self, region: str, item: str, memory_mb: int | None = None) -> Price:
        """The price of an item of rates.csv: serverless and provisioned (by memory), data_in, data_out, volume, ...

        Raises CostError where it is not known.
        """
        key = (region, item, "" if memory_mb is None else str(memory_mb))
        if key not in self.rates:
            regions = sorted({other for other, name, size in self.rates if (name, size) == key[1:]})
            size = f" of {memory_mb} MB" if memory_mb else ""
            if not regions:
                sizes = sorted({int(other) for _, name, other in self.rates if name == item and other})
                if memory_mb is not None and sizes:
                    known = ", ".join(map(str, sizes))
                    raise CostError(f"No {item} price{size} is known anywhere: it is known of {known} MB.")
                raise unknown("rate", f"{item}{size}", {name for _, name, _ in self.rates})
            raise CostError(
                f"No {item} price{size} is known in {region}: it is known in {', '.join(regions[:6])}."
            )
        return self.rates[key]

    def service(self, name: str) -> Service:
        if name not in self.services:
            raise unknown("service", name, self.services)
        service = self.services[name]
        if name not in self._overrides:
            return service
        return replace(service, price=_own(self._overrides[name], service.per))

    def date(self) -> datetime.date:
        """The newest date of a hosting price."""
        return datetime.date.fromisoformat(max(price.date for price in self.hosting_prices.values()))

    def age_days(self, today: datetime.date | None = None) -> int:
        return ((today or datetime.date.today()) - self.date()).days


def _own(usd: Decimal, unit: str) -> Price:
    today = datetime.date.today().isoformat()
    return Price(usd=usd, unit=unit, source="given by you", date=today, confidence="yours")


def _features(text: str, *, certain: bool = True) -> frozenset[str]:
    """The instruction sets that are certain, or those that are not, which have a question mark. What is in brackets is a comment."""
    names = (part.split("(")[0].strip() for part in text.split(";"))
    return frozenset(name.rstrip("?") for name in names if name and name.endswith("?") != certain)


def _price(path: Path, line: int, row: Mapping[str, str], column: str, unit: str) -> Price:
    try:
        usd = Decimal(row[column])
    except InvalidOperation:
        raise CostError(f"{path}:{line}: {column} is {row[column]!r}, not a number.") from None
    if not usd.is_finite() or usd <= 0:
        raise CostError(
            f"{path}:{line}: {column} is {usd}: a price is above 0, and what is unknown has no row."
        )
    return Price(
        usd=usd, unit=unit, source=row["source"], date=row["date"], confidence=row.get("confidence", "")
    )
