"""Whether models can share a fleet: their names, and room for a copy of each on one instance."""

from __future__ import annotations

import math

from . import estimate, fleet
from .config import DeployConfig
from .instances import hardware
from .options import ConfigError

_MIB = 1.048576  # MB of 10^6 bytes, which needs and room are counted in; SageMaker counts a component's memory in 2^20
_MOST = 30  # each is a dozen resources, and CloudFormation takes 500 in a stack


def check(config: DeployConfig) -> None:
    """Raise ConfigError for components of another mode, or of one name."""
    if not config.components:
        return
    if not config.traits.components:
        raise ConfigError(
            f"components are for mode scale-to-zero, and mode is {config.mode!r}: leave them out, or give variants."
        )
    if len(config.components) > _MOST:
        raise ConfigError(
            f"components has {len(config.components)}: a stack holds the alarms and policies of {_MOST}; give the others a deployment of their own."
        )
    names = ["component", *(each.name for each in config.components)]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"components has the name {max(names, key=names.count)!r} twice: the deployment's own model has 'component'; give each another."
        )


def check_together(config: DeployConfig, instance: str) -> None:
    """Raise ConfigError unless one instance has room for a copy of every model: host memory, vCPUs and GPUs."""
    machine, models = hardware(instance), fleet.models(config)
    if machine.gpu and len(models) > machine.gpus:
        raise ConfigError(
            f"components: {len(models)} models need a GPU each, and {instance} has {machine.gpus}: take a type with more, or leave some out."
        )
    for index, own in enumerate(config.components):
        if machine.gpu and own.cpus:
            raise ConfigError(
                f"components[{index}].cpus is {own.cpus:g}: a copy on {instance} has a GPU, and what vCPUs it needs beside it; leave it out."
            )
    shares = sum(fleet.cpus(each) for each in models)
    if not machine.gpu and (shares >= machine.vcpu or min(fleet.cpus(each) for each in models) < 0.1):
        raise ConfigError(
            f"components: the models ask for {shares:g} vCPUs, with nothing left for another or for SageMaker's agents on {instance}, which has {machine.vcpu}: lower cpus, or take a larger type."
        )
    needed = [estimate.host_needs(each, instance) for each in models]
    for index, (own, need) in enumerate(zip(config.components, needed[1:], strict=True)):
        # It is what is set aside, and no limit; what a GPU's process keeps of the host's is not ours to know.
        if own.memory_mb and own.memory_mb < math.ceil(need / _MIB) and not machine.gpu:
            raise ConfigError(
                f"components[{index}].memory_mb is {own.memory_mb}: {own.model} takes up to {math.ceil(need / _MIB)} MB of 2^20 bytes there; give as much, or leave it out."
            )
    wanted = sum(
        max(need, _MIB * estimate.component_memory(each)) for each, need in zip(models, needed, strict=True)
    )
    if wanted > (room := estimate.host_room(instance)):
        raise ConfigError(
            f"components: a copy of each of {len(models)} models takes {wanted:.0f} MB, and {instance} has {room:.0f} MB to spare: take a larger type, leave some out, or lower settings.max_tokens."
        )
