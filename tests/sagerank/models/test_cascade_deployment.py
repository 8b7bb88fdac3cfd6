"""A cascade in a stack, in the memory model, and what of it cannot be deployed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template

from sagerank.models.build import MICRO
from sagerank_cost.memory import copy_mb
from sagerank_cost.models import choice
from sagerank_inference.archive import pack
from sagerank_inference.artefact import Manifest
from sagerank_infra import rules
from sagerank_infra.app import build as build_stacks
from sagerank_infra.config import ConfigError

DEPLOY = {
    "model": "tiny>base@20",
    "mode": "realtime",
    "instance": "ml.c7i.xlarge",
    "artefact": "s3://models/cascade/model.tar.gz",
}


def test_a_stack_of_a_cascade(tmp_path: Path) -> None:
    config = rules.read(None, DEPLOY)
    made = build_stacks(cdk.App(outdir=str(tmp_path)), config)
    template = Template.from_stack(cdk.Stack.of(made.endpoint))
    template.has_resource_properties(
        "AWS::SageMaker::Model", {"Tags": _tagged("sagerank:model", "tiny/base@20")}
    )
    assert "USD" in str(made.observability.cost)


def _tagged(key: str, value: str) -> object:
    from aws_cdk.assertions import Match

    return Match.array_with([{"Key": key, "Value": value}])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model": "tiny>base"}, "or a cascade of them such as tiny>base@20"),
        ({"model": "tiny>base@0"}, "or a cascade"),
        ({"model": "tiny>bse@5"}, "or a cascade"),
        ({"model": "tiny>tiny@5"}, "a model twice"),
        ({"model": "tiny>turbo@5>base@5"}, "keep fewer from stage to stage"),
        (
            {
                "mode": "marketplace",
                "model_package": "arn:aws:sagemaker:us-east-1:123456789012:model-package/x",
            },
            "give base",
        ),
    ],
)
def test_what_cannot_be_deployed_is_refused(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules.read(None, {**DEPLOY, **options})
    assert sentence in str(caught.value)


def test_memory_is_of_all_weights_and_the_largest_activations() -> None:
    tiny, base, both = (copy_mb(choice(name), "fp32", 8192) for name in ("tiny", "base", "tiny>base@20"))
    weights = copy_mb(choice("tiny"), "fp32", 1) - copy_mb(choice("micro"), "fp32", 1)
    assert base + weights < both < base + tiny
    three = choice("tiny>turbo@40>base@10")
    assert three.name == "tiny>turbo@40>base@10"
    shapes = [choice(name) for name in ("tiny", "turbo", "base")]
    parts = [shape.flops(count, 150) for shape, count in zip(shapes, (100, 40, 10), strict=True)]
    assert three.flops(100, 150) == pytest.approx(sum(parts))


def test_a_local_artefact_has_to_be_the_cascade_that_is_named(tmp_path: Path) -> None:
    """Of the right number of parameters, which is all that is looked at: the manifest stands before the weights."""
    manifest = dataclasses.replace(
        Manifest.read(MICRO), parameters=choice("tiny>base@20").parameters, keep=(20,), files={}
    )
    manifest.write(tmp_path)
    pack({"manifest.json": tmp_path / "manifest.json"}, tmp_path / "model.tar.gz")
    local = {**DEPLOY, "artefact": str(tmp_path / "model.tar.gz")}
    rules.read(None, local)
    with pytest.raises(ConfigError, match="M parameters, and tiny has"):
        rules.read(None, {**local, "model": "tiny"})
    missing = {**DEPLOY, "artefact": str(tmp_path / "none.tar.gz")}
    with pytest.raises(ConfigError, match=r"build --model 'tiny>base@20' --output"):
        rules.read(None, missing)
