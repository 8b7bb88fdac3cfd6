"""Hosting instance types by name: processor, memory and GPU, as the price catalogue has them."""

from __future__ import annotations

from functools import cache

from sagerank_cost import CostError
from sagerank_cost.catalogue import Catalogue, Instance
from sagerank_cost.memory import CACHE_MB as CACHE_MB

from .options import ConfigError


@cache
def catalogue() -> Catalogue:
    return Catalogue()


def hardware(instance: str) -> Instance:
    """Processor, memory and GPU of a hosting type. Raises ConfigError for one whose processor and memory are not known."""
    try:
        return catalogue().instance(instance)
    except CostError as error:
        raise ConfigError(f"instance is {instance!r}: {error}") from None
