"""Deployments and prices that the tests of the cost room share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagerank_cost.bill import Deployment, Scenario
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.models import choice
from sagerank_cost.queueing import Counts
from sagerank_cost.store import DATA
from sagerank_cost.traffic import Traffic

CATALOGUE = Catalogue()
TINY = choice("tiny")
# Instances that make a report quick.
FEW = ["--instance", "ml.c7i.4xlarge", "--instance", "ml.g4dn.xlarge", "--instance", "ml.m5.xlarge"]


def deployment(mode: str = "realtime", instance: str = "ml.c7i.4xlarge", **changes: Any) -> Deployment:
    options = {
        "choice": TINY,
        "precision": "fp32",
        "region": "us-east-1",
        "min_instances": 0 if mode == "async" else 1,
        "max_instances": 500,
        **changes,
    }
    return Deployment(mode=mode, instance=instance, **options)


def scenario(traffic: Traffic, catalogue: Catalogue = CATALOGUE) -> Scenario:
    return Scenario(traffic, catalogue)


def poisson(rate: float, minutes: int = 4000, seed: int = 1) -> tuple[Counts, np.random.Generator]:
    """Requests of every minute at `rate` a second, and the generator that drew them."""
    generator = np.random.default_rng(seed)
    return generator.poisson(rate * 60, minutes), generator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the package's data that a test may change."""
    return shutil.copytree(DATA, tmp_path / "data")


@pytest.fixture
def same_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices of one age: it would change every day."""
    monkeypatch.setattr(Catalogue, "age_days", lambda *_: 64)
