"""Whether the model fits, how fast it is and what a month costs, as sagerank_cost estimates it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from sagerank_cost import CostError
from sagerank_cost.arithmetic import precisions
from sagerank_cost.bill import VOLUME_GB, Deployment, Scenario, TooLate, bill, request_alone
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.formulas import QUEUE_SECONDS
from sagerank_cost.lines import HOURS_PER_MONTH, AtLeast, Statement
from sagerank_cost.memory import fit, host_mb, room_mb, serverless_mb
from sagerank_cost.models import choice
from sagerank_cost.standing import instance_metrics
from sagerank_cost.throughput import Speed, serverless_speed, speed
from sagerank_cost.traffic import constant

from . import fleet
from .config import DeployConfig, read_file
from .environment import cache_mb, max_tokens
from .instances import catalogue, hardware
from .options import ConfigError
from .standing import Standing, standing

_BUSY = 0.6  # the share of an instance's time that scaling aims at


@dataclass(frozen=True, slots=True)
class Estimate:
    """A month in US dollars: AtLeast where a line has no known price, None where there is no total. lines: its items; notes: what is not counted, and why."""

    usd: Decimal | None
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    conditions: str

    def __str__(self) -> str:
        least = "at least " if isinstance(self.usd, AtLeast) else ""
        total = "not known" if self.usd is None else f"{least}USD {self.usd} a month"
        return "; ".join((f"{total} ({self.conditions})", *self.lines, *self.notes))


def check_model(config: DeployConfig) -> None:
    """Raise ConfigError for a cascade that makes no sense."""
    try:
        choice(config.model)
    except CostError as error:
        raise ConfigError(f"model is {config.model!r}: {error}") from None


def parameters(config: DeployConfig) -> int:
    return sum(model.parameters for model in choice(config.model).stages)


def precision(config: DeployConfig, instance: str) -> str:
    """The precision of the arithmetic on an instance type (empty: serverless): as configured, or the usual one."""
    return config.precision or precisions(hardware(instance) if instance else None)[0]


def check_precision(config: DeployConfig, instance: str = "") -> None:
    """Raise ConfigError for a precision that an instance type, or serverless, does not compute in."""
    usable = precisions(hardware(instance) if instance else None)
    if config.precision and config.precision not in usable:
        of = f" of component {config.component}" if config.component else ""
        raise ConfigError(
            f"precision{of} is {config.precision!r}, which {instance or 'serverless'} does not compute in: give {' or '.join(usable)}."
        )


def check_fit(config: DeployConfig, instance: str) -> None:
    """Raise ConfigError unless the instance's memory holds the model and one pair of the longest."""
    used = precision(config, instance)
    kept = cache_mb(config, instance)
    memory = fit(choice(config.model), used, max_tokens(config), hardware(instance), cache_mb=kept)
    if not memory.copies:
        raise ConfigError(
            f"instance is {instance!r}, which has {memory.available_mb:.0f} MB of {memory.where} to spare; {config.model} in {used} needs {memory.needed_mb:.0f} MB "
            f"for a pair of {max_tokens(config)} tokens: take a larger type, or lower settings.max_tokens{f' or settings.cache_mb, which is {kept}' if kept else ''}."
        )


def serverless_memory(config: DeployConfig) -> int:
    """Memory of a serverless endpoint, in MB. Raises ConfigError where the model does not fit."""
    kept = cache_mb(config, "")
    smallest = serverless_mb(choice(config.model), precision(config, ""), max_tokens(config), cache_mb=kept)
    wanted = config.serverless.memory_mb
    if smallest is None or (wanted and wanted < smallest):
        need = "more than the 6144 there are" if smallest is None else f"{smallest}"
        raise ConfigError(
            f"serverless.memory_mb is {wanted}: {config.model} needs {need} for a pair of {max_tokens(config)} tokens; give that much, or lower settings.max_tokens."
        )
    return wanted or smallest


def component_memory(config: DeployConfig) -> int:
    """Host memory that one copy of an inference component asks for, in MB of 2^20 bytes: as configured, or what `sagerank cost fit` promises."""
    own = fleet.asked(config)
    if own and own.memory_mb:
        return own.memory_mb
    return math.ceil(max(host_needs(config, instance) for instance in config.instances) / 1.048576)


def host_needs(config: DeployConfig, instance: str) -> float:
    """MB of an instance's host memory that a copy beside other models takes at most."""
    used, kept = precision(config, instance), cache_mb(config, instance)
    return host_mb(choice(config.model), used, max_tokens(config), hardware(instance), cache_mb=kept)


def host_room(instance: str) -> float:
    """MB of an instance's host memory that are for models."""
    return room_mb(hardware(instance))


def tracked(config: DeployConfig) -> float:
    """What scaling holds an instance at, by the slow bound of the estimated speed for `traffic`.

    Requests a minute that keep it busy for 60 % of its time; where they queue, those that are QUEUE_SECONDS of work.
    """
    seconds = _pace(config, "autoscaling.target").high
    busy = QUEUE_SECONDS if config.traits.queued else 60 * _BUSY
    return max(1.0, round(busy / seconds, 1))


def latency_limit_ms(config: DeployConfig) -> int:
    """Limit of the 99th percentile: thrice the slowest estimate for a request of `traffic`, at least 2 s.

    An alarm that expected traffic raises would take every update back. A queued request may be of any size, and takes a
    slot beside others: it is late at half of the time after which it fails.
    """
    if config.traits.queued:
        return 500 * config.asynchronous.timeout_seconds
    return max(2000, 100 * round(30 * _pace(config, "alarms.p99_ms").high))


def _pace(config: DeployConfig, option: str) -> Speed:
    """The estimated speed for a request of `traffic`. Raises ConfigError that asks for `option`, which is 0, where it cannot be estimated."""
    used = precision(config, config.instance)
    documents, tokens = config.traffic.documents, config.traffic.tokens
    try:
        if not config.traits.instances:
            memory = serverless_memory(config)
            return serverless_speed(choice(config.model), used, memory, documents=documents, tokens=tokens)
        machine = hardware(config.instance)
        alone = speed(choice(config.model), used, machine, documents=documents, tokens=tokens)
        return replace(alone, high=alone.high * fleet.crowd(config)) if config.traits.components else alone
    except CostError as error:
        raise ConfigError(
            f"{option} is 0, and the speed cannot be estimated ({error}): give a value."
        ) from None


def unit_price(config: DeployConfig) -> Decimal | None:
    """Price in US dollars of an instance's hour, or of a second of serverless; None where it is not known."""
    try:
        if not config.traits.instances:
            return catalogue().rate(config.region, "serverless", serverless_memory(config)).usd
        return catalogue().hosting(config.region, config.instance).usd
    except CostError:
        return None


def monthly(config: DeployConfig, *, beside: Standing | None = None) -> Estimate:
    """For the configured traffic, with what the stacks put beside the model, or with `beside`; nothing here refuses a deployment."""
    prices, load = catalogue(), config.traffic
    conditions = f"{load.requests_per_second:g} requests/s of {load.documents} x {load.tokens} tokens, {config.region}, speed at its slow bound, prices of {prices.date()}"
    try:
        month = _month(config, prices, standing(config) if beside is None else beside)
    except CostError as error:
        return Estimate(None, (), (str(error),), conditions)
    lines = tuple(f"{line.name} {line.usd}" for line in month.lines.values())
    return Estimate(month.usd, lines, tuple(month.notes), conditions)


def priced(file: Path, prices: Catalogue) -> Statement:
    """The month of a configuration file's deployment, for `sagerank cost diff`.

    Raises ConfigError or CostError for what cannot be read or priced. What `rules` refuses beyond that, such as
    options that exclude each other, is not looked for.
    """
    if not read_file(file):
        raise ConfigError(
            f"{file} is neither a template nor a configuration: give one with Resources, or one with options such as model and instance."
        )
    config = DeployConfig.read(file, {})
    if config.traits.instances:
        hardware(config.instance)  # names the option where the type is not known
    return _month(config, prices, standing(config))


def _month(config: DeployConfig, prices: Catalogue, beside: Standing) -> Statement:
    """The bill that `sagerank cost` makes of the same deployment and a constant rate, and the other variants' instances."""
    traits, wanted, load = config.traits, config.autoscaling, config.traffic
    bounds = fleet.bounds(config)
    least = max(bounds[0], 0 if traits.scales_to_zero else 1)
    models = fleet.models(config)
    deployment = Deployment(
        choice=choice(config.model),
        precision=precision(config, config.instance),
        mode=config.mode,
        region=config.region,
        instance=config.instance if traits.instances else str(serverless_memory(config)),
        min_instances=least,
        max_instances=max(bounds[1], least),
        target=_BUSY,
        standing=beside,
    )
    rate = len(models) * load.requests_per_second
    traffic = constant(rate, documents=load.documents, tokens=load.tokens)
    scenario = Scenario(traffic, prices, max_tokens(config))
    try:
        pace = _mixed(models, deployment, scenario) if config.components else None
        month = bill(deployment, scenario, pace).statement
    except TooLate as error:
        month = error.bill.statement
        month.notes.insert(0, str(error))
    for variant in config.variants:
        instance, count = variant.instance or config.instance, variant.count
        name = f"{variant.name}: {instance} hours"
        try:
            month.add_hours(instance, Decimal(count * HOURS_PER_MONTH), name)
        except CostError as error:
            month.leave_out(name, str(error))
        if config.metrics.enhanced:
            each = instance_metrics(gpus=hardware(instance).gpus, components=False)
            month.add("metric", count * each, f"{variant.name}: metrics of each instance")
        if not hardware(instance).local_disk:
            month.add("volume", count * VOLUME_GB, f"{variant.name}: volumes, {VOLUME_GB} GB each")
    if config.components:
        month.notes.append(f"the traffic goes to each of {len(models)} models")
    if wanted.schedules:
        month.notes.append("not counted: instances that schedules add")
    if not config.own_server:
        month.notes.append("not counted: what the container logs")
    return month


def _mixed(models: tuple[DeployConfig, ...], deployment: Deployment, scenario: Scenario) -> Speed:
    """The pace of requests that go to all models alike."""
    paces = [
        request_alone(
            replace(deployment, choice=choice(each.model), precision=precision(each, deployment.instance)),
            scenario,
        )
        for each in models
    ]
    mean = sum(pace.seconds for pace in paces) / len(paces)
    return replace(paces[0], seconds=mean, low=mean, high=mean)
