"""Where SageMaker runs a container: its share of an instance or of a serverless endpoint, and the log that it writes to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sagerank_cost.catalogue import Catalogue, Instance
from sagerank_cost.memory import SERVERLESS_VCPUS

from ..containers.running import Limits


@cache
def _hardware(instance: str) -> Instance:
    return Catalogue().instance(instance)


@dataclass(frozen=True, slots=True)
class Place:
    """instance: its type; empty where it is serverless. cpus, memory_mb: what is less than all of the instance."""

    name: str  # of the variant, the component or the job
    log_group: str
    instance: str = ""
    cpus: float | None = None
    memory_mb: int | None = None

    @classmethod
    def of_variant(cls, endpoint: str, variant: Mapping[str, Any]) -> Place:
        name, group = variant["VariantName"], f"/aws/sagemaker/Endpoints/{endpoint}"
        if "ServerlessConfig" in variant:
            memory = variant["ServerlessConfig"]["MemorySizeInMB"]
            return cls(name, group, cpus=SERVERLESS_VCPUS[memory], memory_mb=memory)
        return cls(name, group, instance_type(variant))

    @classmethod
    def of_component(
        cls, component: str, variant: Mapping[str, Any], specification: Mapping[str, Any]
    ) -> Place:
        needs = specification["ComputeResourceRequirements"]
        return cls(
            component,
            f"/aws/sagemaker/InferenceComponents/{component}",
            instance_type(variant),
            needs.get("NumberOfCpuCoresRequired"),
            # The least is what is set aside, and no limit.
            needs.get("MaxMemoryRequiredInMb"),
        )

    @property
    def serverless(self) -> bool:
        return not self.instance

    @property
    def architecture(self) -> str:
        return _hardware(self.instance).arch if self.instance else "amd64"

    @property
    def limits(self) -> Limits:
        """Of this machine's processors where there are fewer."""
        cpus, memory = self.cpus, self.memory_mb
        if self.instance:
            machine = _hardware(self.instance)
            cpus, memory = cpus or machine.vcpu, memory or int(machine.memory_gib * 1024)
        assert cpus is not None
        return Limits(min(cpus, len(os.sched_getaffinity(0))), memory)


def capacity(instance: str) -> tuple[float, int, int]:
    """Memory in MB, vCPUs and GPUs that components may be given."""
    machine = _hardware(instance)
    return machine.memory_gib * 1024, machine.vcpu, machine.gpus


def instance_type(variant: Mapping[str, Any]) -> str:
    """A variant's, the first where there are several to choose from."""
    return str(variant.get("InstanceType") or variant["InstancePools"][0]["InstanceType"])
