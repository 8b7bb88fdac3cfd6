"""What a deployment may ask of autoscaling and of an update: bounds, schedules, steps and waits."""

from __future__ import annotations

import zoneinfo

from . import fleet
from .config import DeployConfig
from .options import ConfigError


def check(config: DeployConfig) -> None:
    """Raise ConfigError for what AWS would refuse, with what to give instead."""
    _scaling(config)
    _schedules(config)
    _rollout(config)
    _waits(config)


def _scaling(config: DeployConfig) -> None:
    scaling = config.autoscaling
    ranges = [
        ("autoscaling", scaling.min, scaling.max),
        *((f"autoscaling.schedules[{n}]", s.min, s.max) for n, s in enumerate(scaling.schedules)),
        *((f"components[{n}]", each.min, each.max) for n, each in enumerate(config.components)),
    ]
    for where, least, most in ranges:
        if least > most:
            raise ConfigError(
                f"{where}.min is {least}, more than {where}.max, which is {most}: lower one or raise the other."
            )
        if least == 0 and not config.traits.scales_to_zero:
            raise ConfigError(
                f"{where}.min is 0: mode {config.mode} cannot scale to zero; give at least 1, or mode scale-to-zero (inference components), async or serverless."
            )
    if not config.traits.instances and config.autoscaling.schedules and not config.serverless.provisioned:
        raise ConfigError(
            "autoscaling.schedules need serverless.provisioned, which is 0: on-demand concurrency scales by itself."
        )
    if not config.traits.instances and scaling.target > 1:
        raise ConfigError(
            f"autoscaling.target is {scaling.target:g}: in serverless it is the share of provisioned concurrency in use; give 0.1 to 0.9."
        )


def _schedules(config: DeployConfig) -> None:
    names = [schedule.name for schedule in config.autoscaling.schedules]
    for index, schedule in enumerate(config.autoscaling.schedules):
        where = f"autoscaling.schedules[{index}]"
        if names.count(schedule.name) > 1:
            raise ConfigError(
                f"{where}.name is {schedule.name!r}, as another's is, and the later would replace the earlier: give each another."
            )
        known = zoneinfo.available_timezones()  # none where the system has no list of them
        if known and schedule.timezone not in known:
            raise ConfigError(
                f"{where}.timezone is {schedule.timezone!r}: give a name of the IANA's list, such as Europe/Berlin or UTC."
            )


def _rollout(config: DeployConfig) -> None:
    rollout, fewest = config.rollout, config.autoscaling.min
    if rollout.policy == "all-at-once":
        return
    if not config.traits.staged:
        raise ConfigError(
            f"rollout.policy is {rollout.policy!r}: mode {config.mode} is updated all-at-once by AWS; give that."
        )
    if fewest < 2:
        raise ConfigError(
            f"rollout.policy is {rollout.policy!r} with autoscaling.min {fewest}: one instance cannot be shifted in parts; give min 2, or all-at-once."
        )
    if rollout.percent and rollout.percent * fewest < 100:
        raise ConfigError(
            f"rollout.percent is {rollout.percent}, less than one of {fewest} instances: give at least {-(-100 // fewest)}, or 0."
        )
    least = {"canary": 1, "linear": 10, "rolling": 5}[rollout.policy]
    if rollout.percent and rollout.percent < least:
        raise ConfigError(
            f"rollout.percent is {rollout.percent}: a step of {rollout.policy} is {least} to 50 percent."
        )
    if rollout.policy == "rolling" and config.variants:
        raise ConfigError(
            "rollout.policy is 'rolling', which AWS excludes for several variants: give canary, linear or all-at-once."
        )


def _waits(config: DeployConfig) -> None:
    if not (config.traits.endpoint and config.traits.own_container):
        return  # a Marketplace package and a batch job know no waits
    rollout, models = config.rollout, fleet.models(config)
    # Copies of a component are replaced one after another.
    most = max(model.autoscaling.max for model in models)
    waits = rollout.wait_seconds * most if config.traits.components else rollout.waits(config.autoscaling.min)
    if waits >= rollout.timeout_seconds:
        raise ConfigError(
            f"rollout.timeout_seconds is {rollout.timeout_seconds}, and an update waits {waits} s in all (wait_seconds after every step, termination_seconds at the end): give more, up to 28800, or wait less."
        )
