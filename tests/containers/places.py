"""What AWS gives a container: CPUs and memory of instance types and of serverless endpoints, from the cost module's catalogue."""

from __future__ import annotations

from sagerank_cost.catalogue import Catalogue
from sagerank_cost.memory import SERVERLESS_VCPUS

from .running import Limits

_INSTANCES = ("ml.c7i.large", "ml.t2.medium")


def _instance(name: str) -> Limits:
    machine = Catalogue().instance(name)
    return Limits(cpus=machine.vcpu, memory_mb=round(1024 * machine.memory_gib))


PLACES = {name: _instance(name) for name in _INSTANCES} | {
    f"serverless {size // 1024} GB": Limits(cpus=vcpus, memory_mb=size)
    for size, vcpus in SERVERLESS_VCPUS.items()
}
