"""The image of this checkout, and models of every size to serve with it. Both are kept: a second run finds them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sagerank_inference.archive import replaced
from sagerank_inference.artefact import MANIFEST
from sagerank_inference.tokenise import Tokeniser

from ..conftest import ROOT
from .running import built_image, reason

_KEPT = ROOT / "build" / "containers" / "models"
# What int8 and bf16 move the logits of models with random weights, which rank nothing, by.
_TOLERANCE = 0.1


@pytest.fixture(scope="session")
def image() -> str:
    """Its name: built from this checkout, unless TEST_IMAGE names another."""
    if why := reason():
        pytest.skip(why)
    return os.environ.get("TEST_IMAGE") or built_image()


@pytest.fixture(scope="session")
def artefact() -> Callable[[str, str], Path]:
    """Make the artefact of a model and a precision; needs PyTorch but for micro."""
    return make


def make(model: str, precision: str = "fp32") -> Path:
    """The artefact of micro, or of a shape with random weights: tiny, turbo or base; its folder is not to be changed."""
    from sagerank.models import graph_bf16
    from sagerank.models.build import resolve
    from sagerank.models.quantise import quantise

    reference = resolve(model if model == "micro" else f"random:{model}", cache=_KEPT)
    if precision == "fp32":
        return reference
    folder = _KEPT / f"{reference.name}-{precision}"
    if not (folder / MANIFEST).is_file():
        pairs = Tokeniser.load(reference)("what causes rain", ["Clouds cool and drop water. " * 20]).ids
        with replaced(folder) as new:
            bf16 = precision == "bf16"
            made = graph_bf16.convert(reference, new) if bf16 else quantise(reference, new, pairs)
            replace(made, tolerance=_TOLERANCE).write(new)
    return folder
