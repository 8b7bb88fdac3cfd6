"""Fleet: the models that share an endpoint's instances as inference components, each configured as if it stood alone."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from .beside import Component
from .config import DeployConfig
from .instances import hardware
from .options import option

# Of an instance's vCPUs: not all, as SageMaker's agents have a share; and more than half, of two as well, so that a copy
# that is alone in its kind has an instance to itself.
_SHARE = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentConfig(DeployConfig):
    """The configuration of one of `components`; what it does not say of itself is the deployment's."""

    component: str = option("", "which of them")

    def __post_init__(self) -> None:
        """Every part has been checked where it was read."""


def models(config: DeployConfig) -> tuple[DeployConfig, ...]:
    """The deployment's own model and, in mode scale-to-zero, those beside it on the same fleet."""
    return (config, *(_of(config, each) for each in config.components))


def _of(config: DeployConfig, component: Component) -> ComponentConfig:
    given = {field.name: getattr(config, field.name) for field in fields(config)}
    scaling = replace(
        config.autoscaling, min=component.min, max=component.max, target=component.target, schedules=()
    )
    own = {
        "model": component.model,
        "precision": component.precision,
        "artefact": component.artefact,
        "artefact_sha256": component.artefact_sha256,
        "autoscaling": scaling,
    }
    return ComponentConfig(**given | own, component=component.name)


def asked(config: DeployConfig) -> Component | None:
    """The entry of `components` that a configuration is of; None for the deployment's own model."""
    return next((each for each in config.components if each.name == config.component), None)


def cpus(config: DeployConfig) -> float:
    """The vCPUs of a copy on the smallest type that may run: those given, or an equal part of what the others leave."""
    own = asked(config)
    if own and own.cpus:
        return own.cpus
    given = [each.cpus for each in config.components if each.cpus]
    sharing = 1 + len(config.components) - len(given)
    # To what SageMaker's API may hold: a third has no end.
    return int(100 * max(0.0, _SHARE * _vcpus(config) - sum(given)) / sharing) / 100


def crowd(config: DeployConfig) -> float:
    """How many times slower than alone on its instance a copy is, by the processors that it has."""
    alone = _SHARE * _vcpus(config)
    return 1.0 if hardware(config.instance).gpu else max(1.0, alone / max(cpus(config), 0.01))


def bounds(config: DeployConfig) -> tuple[int, int]:
    """Instances of the fleet, at least and at most.

    One holds a copy of every model; at most every copy has one to itself, so that none waits for room that others left in pieces.
    """
    scaling = [each.autoscaling for each in models(config)]
    return max(each.min for each in scaling), sum(each.max for each in scaling)


def _vcpus(config: DeployConfig) -> int:
    return min(hardware(instance).vcpu for instance in config.instances)
