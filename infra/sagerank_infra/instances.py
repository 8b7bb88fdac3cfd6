"""Hosting instance types by name: processor, memory and GPU, as the price catalogue has them."""

from __future__ import annotations

from functools import cache

from sagerank_cost import CostError, memory
from sagerank_cost.catalogue import Catalogue, Instance

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


def usual_cache_mb(mode: str, instance: str) -> int:
    """MB of scores that our server keeps in a mode on a hosting type (empty: serverless), unless it is told otherwise."""
    return round(memory.cache_mb(mode, hardware(instance))) if instance else 0
