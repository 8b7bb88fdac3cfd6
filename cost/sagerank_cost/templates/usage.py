"""How much endpoints of a template are used, by a file, and what that adds to their month."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from .. import CostError, unknown, values
from ..arithmetic import precisions
from ..bill import VOLUME_GB, Deployment, Scenario, bill, data_gb, itemise
from ..catalogue import Catalogue
from ..lines import HOURS_PER_MONTH, Statement
from ..models import Choice, Model, check_precision, choice
from ..options import OPTIONS
from ..throughput import Speed
from ..traffic import Traffic, daily
from .files import load

DEFAULT = "default"
RATES = ("requests_per_second", "requests_per_month")
# What an entry may say: options of `sagerank cost`, under their names, and what only a usage file has.
_OPTIONS = [
    OPTIONS[name]
    for name in ("documents", "tokens", "swing", "variation", "max-tokens", "confidence", "cold-start")
]
_DEFAULTS = {option.dest: option.default for option in _OPTIONS}
_READERS: dict[str, Callable[[str], Any]] = {
    "requests_per_second": values.number(1e-9, 1e9),
    "requests_per_month": values.number(1e-2, 1e15),
    "model": values.name,
    "precision": values.name,
    "seconds_per_request": values.number(1e-6, 86_400),
    "log_bytes": values.number(0, 1e9),
    **{option.dest: option.read for option in _OPTIONS if option.read is not None},
}
# Stands for a model of which nothing but its seconds is known.
_ANY = Choice((Model(name="a model", vocabulary=0, hidden=0, layers=0, heads=0, intermediate=0, ndcg=None),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Where a share of an endpoint's requests goes: `least` to `most` instances of a type with volumes of `volume_gb`, or serverless memory in MB."""

    mode: str
    region: str
    instance: str
    least: int = 1
    most: int = 1
    volume_gb: int = VOLUME_GB
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What an endpoint is asked in a month, and how fast it answers: by a model's estimate, or in `seconds` for a request.

    `log_bytes` are what a request leaves in the log; None where that is not known.
    """

    traffic: Traffic
    choice: Choice | None
    precision: str | None
    max_tokens: int
    confidence: float
    cold_start: float
    seconds: float | None
    log_bytes: float | None

    @property
    def gb(self) -> Decimal:
        """GB that requests and answers have in a month."""
        return sum(data_gb(self.traffic), Decimal(0))

    def month(self, variant: Variant, catalogue: Catalogue) -> Statement:
        """What the variant costs with its share of the requests, all lines of hours and volumes included.

        Raises CostError where it cannot carry them, or is not priced.
        """
        traffic = self.traffic.scaled(variant.share)
        scenario = Scenario(traffic, catalogue, self.max_tokens, self.confidence, self.cold_start)
        if variant.mode != "serverless" and variant.least == variant.most:
            hours = Decimal(variant.least * HOURS_PER_MONTH)
            month = itemise(self._deployment(variant, "fp32"), scenario, hours)
        else:
            month = self._scaled(variant, scenario)
        if self.log_bytes:
            month.add("logs_ingest", Decimal(repr(traffic.requests * self.log_bytes / 1e9)), "log ingestion")
        for name, line in month.lines.items():
            if line.unit == "GB-month":
                size = f"volumes, {variant.volume_gb} GB each"
                quantity = line.quantity * variant.volume_gb / VOLUME_GB
                month.lines[name] = replace(line, name=size, quantity=quantity)
        return month

    def _scaled(self, variant: Variant, scenario: Scenario) -> Statement:
        """The bill in the precision asked for, or else in the usual one there."""
        if self.seconds is not None:
            pace = Speed(
                seconds=self.seconds, low=self.seconds, high=self.seconds, basis="given", why="by you"
            )
            return bill(self._deployment(variant, "fp32"), scenario, pace).statement
        if self.choice is None:
            raise CostError("its usage says neither model nor seconds_per_request: give one")
        serverless = variant.mode == "serverless"
        usual, *_ = precisions(None if serverless else scenario.catalogue.instance(variant.instance))
        return bill(self._deployment(variant, self.precision or usual), scenario).statement

    def _deployment(self, variant: Variant, precision: str) -> Deployment:
        return Deployment(
            choice=self.choice or _ANY,
            precision=precision,
            mode=variant.mode,
            region=variant.region,
            instance=variant.instance,
            min_instances=variant.least,
            max_instances=variant.most,
        )


class Usage:
    """Entries of a usage file by the endpoint that they are of, by logical id or name, and `default`, which is of all others.

    What an entry does not say, `default` does. Raises CostError for a file that is malformed, and for what it may not say.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        entries = {str(name): self._values(str(name), entry) for name, entry in load(path).items()}
        if not entries:
            raise CostError(f"{path} has no entry: give one for {DEFAULT}, or for an endpoint by its name.")
        default = entries.get(DEFAULT, {})
        # With others beside it, default may be what they have in common and no more.
        self._found = {DEFAULT} if len(entries) > 1 else set()
        self._uses = {name: self._use(name, default, entry) for name, entry in entries.items()}
        self._endpoints: set[str] = set()

    def of(self, names: Sequence[str]) -> Use | None:
        """The use of the endpoint that has these names, of which the first is shown where an entry finds none."""
        self._endpoints.add(names[0])
        name = next((name for name in (*names, DEFAULT) if name in self._uses), DEFAULT)
        self._found.add(name)
        return self._uses.get(name)

    def check(self) -> None:
        """Raise CostError for an entry that was of no endpoint."""
        for name in self._uses:
            if name not in self._found:
                there = ", ".join(sorted(self._endpoints)) or "none"
                raise CostError(f"{self._path}: {name} is of no endpoint on either side. There are: {there}.")

    def _values(self, name: str, entry: Any) -> dict[str, Any]:
        """What an entry says, read."""
        if not isinstance(entry, dict):
            raise CostError(f"{self._path}: {name} is {entry!r:.60}: give it {', '.join(_READERS)}.")
        found = {}
        for key, given in entry.items():
            if key not in _READERS:
                raise CostError(f"{self._path}: {name}: {unknown('value', str(key), _READERS)}")
            try:
                found[key] = _READERS[key](given if isinstance(given, str) else repr(given))
            except ValueError as error:
                raise CostError(f"{self._path}: {key} of {name} is {given!r:.60}: {error}.") from None
        return found

    def _use(self, name: str, default: Mapping[str, Any], entry: Mapping[str, Any]) -> Use | None:
        """None where `default` says no number of requests."""
        if not any(rate in entry for rate in RATES):
            entry = {rate: default[rate] for rate in RATES if rate in default} | dict(entry)
        rates = [rate for rate in RATES if rate in entry]
        if not rates and name in self._found:
            return None
        if len(rates) != 1:
            raise CostError(f"{self._path}: give {name} one of {' and '.join(RATES)}, not {len(rates)}.")
        rate = entry[rates[0]] / (1 if rates[0] == RATES[0] else HOURS_PER_MONTH * 3600)
        said = _DEFAULTS | {key: value for key, value in default.items() if key not in RATES} | dict(entry)
        shape = {key: said[key] for key in ("documents", "tokens", "swing", "variation")}
        try:
            return Use(
                traffic=daily(rate, **shape),
                choice=choice(said["model"]) if "model" in said else None,
                precision=check_precision(said["precision"]) if "precision" in said else None,
                max_tokens=said["max_tokens"],
                confidence=said["confidence"] / 100,
                cold_start=said["cold_start"],
                seconds=said.get("seconds_per_request"),
                log_bytes=said.get("log_bytes"),
            )
        except CostError as error:
            raise CostError(f"{self._path}: {name}: {error}") from None
