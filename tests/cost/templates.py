"""Templates that the tests of the cost room write, and what may stand in one by mistake."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from sagerank_cost.lines import Statement
from sagerank_cost.templates.template import read

from .conftest import CATALOGUE


def variant(
    instance: str = "ml.m5.xlarge", count: int = 1, name: str = "main", **more: object
) -> dict[str, object]:
    return {"VariantName": name, "InstanceType": instance, "InitialInstanceCount": count, **more}


def endpoint(*variants: dict[str, object], **more: object) -> dict[str, Any]:
    return {
        "Type": "AWS::SageMaker::EndpointConfig",
        "Properties": {"ProductionVariants": list(variants), **more},
    }


def scaling(least: int, most: int = 8, name: str = "main") -> dict[str, Any]:
    properties = {
        "MinCapacity": least,
        "MaxCapacity": most,
        "ResourceId": {"Fn::Join": ["", ["endpoint/", {"Ref": "Endpoint"}, f"/variant/{name}"]]},
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    return {"Type": "AWS::ApplicationAutoScaling::ScalableTarget", "Properties": properties}


def write(path: Path, parts: dict[str, Any] | None = None, /, **resources: Any) -> Path:
    """A template of the resources, with `parts` beside them."""
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps({"Resources": resources, **(parts or {})}), encoding="utf-8")
    return path


def month(path: Path) -> Statement:
    return read(path, CATALOGUE, "us-east-1")


def lines(path: Path) -> dict[str, Decimal]:
    return {name: line.usd for name, line in month(path).lines.items()}


def serverless(**config: object) -> dict[str, Any]:
    return endpoint({"VariantName": "main", "ServerlessConfig": {"MaxConcurrency": 5, **config}})


# What may stand anywhere in a template, and what none of its authors meant to.
WRONG = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["2", "ml.m5.xlage", "AWS::NoValue", "AWS::RDS::DBInstance", "aws://x", "${X}", "IsProd"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Ref", "Fn::If", "Fn::Sub", "Fn::Join", "Fn::GetAtt", "Fn::FindInMap", "Condition", "Type"]
            ),
            inner,
            max_size=2,
        )
    ),
    max_leaves=6,
)
