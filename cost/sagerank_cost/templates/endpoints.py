"""The endpoints of a template as line items: what they run all month, and what a usage file adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from .. import CostError, values
from ..bill import VOLUME_GB
from ..lines import HOURS_PER_MONTH, Statement
from ..memory import SERVERLESS_SIZES
from ..standing import TELEMETRY, instance_metrics
from .intrinsics import Resource, plain
from .usage import Usage, Use, Variant

ENDPOINTS = ("AWS::SageMaker::Endpoint", "AWS::SageMaker::EndpointConfig")
_TARGET = "AWS::ApplicationAutoScaling::ScalableTarget"
_COMPONENT = "AWS::SageMaker::InferenceComponent"
_COUNT, _SIZE, _WEIGHT = values.whole(0, 100_000), values.whole(1, 100_000), values.number(0, 1e9)


def add_endpoints(
    prefix: str, resources: Sequence[Resource], statement: Statement, usage: Usage | None
) -> Decimal:
    """Add what the endpoints among a template's resources cost, and return the GB that they are sent and send by the usage file.

    An endpoint is called as its resource is or, where a template has none, as its configuration, behind `prefix`.
    """
    endpoints = [resource for resource in resources if resource.kind == ENDPOINTS[0]]
    configs = [resource for resource in resources if resource.kind == ENDPOINTS[1]]
    targets = [resource for resource in resources if resource.kind == _TARGET]
    held = [resource.held("EndpointName") for resource in resources if resource.kind == _COMPONENT]
    pairs: list[tuple[Resource, Resource]] = []
    for endpoint in endpoints:
        called = endpoint.held("EndpointConfigName")
        config = next((each for each in configs if called in each.names), None)
        if config is None:
            what = f"{prefix}{endpoint.name}: what it runs"
            statement.leave_out(what, f"its configuration {plain(called)} is not in this template")
            continue
        pairs.append((endpoint, config))
    used = [config for _, config in pairs]
    pairs += [(config, config) for config in configs if config not in used]
    return sum(
        (
            _Endpoint(
                prefix=prefix,
                resource=endpoint,
                config=config,
                targets=_of(targets, endpoint, endpoints),
                components=sum(name in endpoint.names for name in held),
                statement=statement,
            ).add(usage)
            for endpoint, config in pairs
        ),
        Decimal(0),
    )


def _of(targets: Sequence[Resource], endpoint: Resource, others: Sequence[Resource]) -> list[Resource]:
    """The targets of autoscaling that name the endpoint, or none of this template's."""
    known = {name for other in others if other is not endpoint for name in other.names}
    named = [
        (target, target.held("ResourceId").removeprefix("endpoint/").partition("/")[0]) for target in targets
    ]
    return [target for target, name in named if name in endpoint.names or name not in known]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Endpoint:
    prefix: str
    resource: Resource
    config: Resource
    targets: Sequence[Resource]
    components: int  # how many of the template's are placed on it
    statement: Statement

    @property
    def label(self) -> str:
        return f"{self.prefix}{self.resource.name}"

    def add(self, usage: Usage | None) -> Decimal:
        named = [name for name in (*self.resource.names, *self.config.names) if "$" not in name]
        use = None
        if usage is not None:
            use = usage.of([self.label, self.resource.name, self.config.name, *named])
        try:
            queued = self.config.has("AsyncInferenceConfig")
            production = self.config.parts("ProductionVariants")
            variants = [*production, *self.config.parts("ShadowProductionVariants")]
            weights = [variant.number("InitialVariantWeight", _WEIGHT, 1.0) for variant in variants]
        except CostError as error:
            self.statement.leave_out(f"{self.label}: what it runs", str(error))
            return Decimal(0)
        # A shadow is sent copies of what the others are.
        whole, through = sum(weights[: len(production)]) or 1.0, Decimal(0)
        taken: set[str] = set()
        for number, (variant, weight) in enumerate(zip(variants, weights, strict=True), 1):
            called = variant.held("VariantName") or "AllTraffic"
            name = f"{self.label}/{plain(called)}"
            # Names that are decided later may look alike.
            name = f"{name} {number}" if name in taken else name
            taken.add(name)
            try:
                found = self._runs(name, variant, called, queued)
                share = weight / whole
                if use and share and self._used(name, replace(found, share=share), use):
                    # A shadow's copies are made behind the door.
                    through += use.gb * Decimal(repr(share)) * (number <= len(production))
                else:
                    self._standing(name, found)
            except CostError as error:
                self.statement.leave_out(f"{name}: what it runs", str(error))
        return through

    def _runs(self, name: str, variant: Resource, called: str, queued: bool) -> Variant:
        if variant.has("ServerlessConfig"):
            return self._serverless(name, variant.part("ServerlessConfig"), called)
        return self._instances(variant, called, queued)

    def _serverless(self, name: str, config: Resource, called: str) -> Variant:
        size = config.number("MemorySizeInMB", _COUNT)
        if size not in SERVERLESS_SIZES:
            sizes = ", ".join(map(str, SERVERLESS_SIZES))
            raise CostError(f"MemorySizeInMB: serverless memory is one of {sizes} MB, not {size}")
        warm = config.number("ProvisionedConcurrency", _COUNT, 0)
        for target in self._scaling(called, "DesiredProvisionedConcurrency"):
            warm = target.number("MinCapacity", _COUNT)
        if warm:
            what = f"provisioned concurrency, {warm} x {size} MB"
            self.statement.add(
                "provisioned", warm, what, memory_mb=size, key=f"{name}: {what}", label=f"{name}: {what}"
            )
        return Variant(mode="serverless", region=self.statement.region, instance=str(size))

    def _instances(self, variant: Resource, called: str, queued: bool) -> Variant:
        instance = variant.text("InstanceType")
        self.statement.catalogue.hosting(self.statement.region, instance)
        scaled, bounds = self._scaling(called, "DesiredInstanceCount"), ("MinCapacity", "MaxCapacity")
        managed = variant.part("ManagedInstanceScaling")
        if managed.properties and managed.text("Status", "ENABLED") != "DISABLED":
            scaled, bounds = [managed], ("MinInstanceCount", "MaxInstanceCount")

        def count(bound: str) -> int:
            if scaled and scaled[0].has(bound):
                return scaled[0].number(bound, _COUNT)
            return variant.number("InitialInstanceCount", _COUNT)

        least, most = sorted(map(count, bounds))
        return Variant(
            mode="async" if queued else "realtime" if least else "scale-to-zero",
            region=self.statement.region,
            instance=instance,
            least=least,
            most=most,
            volume_gb=variant.number("VolumeSizeInGB", _SIZE, VOLUME_GB),
        )

    def _scaling(self, called: str, dimension: str) -> list[Resource]:
        """The targets of the endpoint's that scale this dimension of the variant."""
        return [
            target
            for target in self.targets
            if target.held("ResourceId").endswith(f"/variant/{called}")
            and target.held("ScalableDimension").endswith(f":{dimension}")
        ]

    def _standing(self, name: str, found: Variant) -> None:
        """What it costs whoever asks it, and what it costs by use, which is not counted."""
        statement, region = self.statement, found.region
        statement.by_use[f"{name}: requests"] = "data in and out, by the GB"
        if found.mode == "serverless":
            usd = statement.catalogue.rate(region, "serverless", int(found.instance)).usd
            statement.by_use[f"{name}: processing"] = (
                f"serverless, {found.instance} MB: {usd} USD for each second of processing"
            )
            return
        if found.least:
            hours = Decimal(found.least * HOURS_PER_MONTH)
            what = _described(replace(found, most=found.least))
            statement.add_hours(found.instance, hours, what, key=f"{name}: {what}")
            self._measured(name, found, Decimal(found.least))
            if not statement.catalogue.instance(found.instance).local_disk:
                gb, what = found.least * found.volume_gb, f"volumes, {found.least} x {found.volume_gb} GB"
                statement.add("volume", gb, what, key=f"{name}: {what}", label=f"{name}: {what}")
        if found.most > found.least:
            usd = statement.catalogue.hosting(region, found.instance).usd
            statement.by_use[f"{name}: {_described(found)}"] = (
                f"above {found.least}, each at {usd} USD an hour"
            )

    def _measured(self, name: str, found: Variant, instances: Decimal) -> None:
        """Add the metrics that so many instances have of their own."""
        asked = self.config.part("MetricsConfig")
        if asked.on("EnableEnhancedMetrics"):
            gpus = self.statement.catalogue.instance(found.instance).gpus
            each = instance_metrics(
                gpus=gpus,
                components="ExecutionRoleArn" in self.config.properties,
                models=max(1, self.components),
            )
            what = "metrics of each instance"
            self.statement.add(
                "metric", each * instances, what, key=f"{name}: {what}", label=f"{name}: {what}"
            )
        if asked.on("EnableDetailedObservability"):
            self.statement.leave_out(f"{name}: {TELEMETRY[0]}", TELEMETRY[1])

    def _used(self, name: str, found: Variant, use: Use) -> bool:
        """Whether its use could be priced: all that it costs is added then."""
        try:
            month = use.month(found, self.statement.catalogue)
        except CostError as error:
            self.statement.leave_out(f"{name}: its use", str(error))
            return False
        for line in month.lines.values():
            what = _described(found) if line.unit == "hour" else line.name
            if line.unit == "hour":
                self._measured(name, found, line.quantity / HOURS_PER_MONTH)
            self.statement.lines[f"{name}: {what}"] = replace(line, name=what)
        for what, why in month.unknown.items():
            self.statement.leave_out(f"{name}: {what}", why)
        self.statement.notes += [f"{name}: {note}" for note in month.said]
        return True


def _described(variant: Variant) -> str:
    count = f"{variant.least} to {variant.most}" if variant.most > variant.least else f"{variant.least}"
    return f"{count} x {variant.instance}"
