"""Findings of cdk-nag and checkov that stay as they are, each noted at its resource with the reason."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from constructs import Construct


def accept(resource: Construct, reason: str, *rules: str) -> None:
    """Note that `rules` (CKV_... of checkov, others of cdk-nag) find something at `resource`, and why it stays."""
    for rule in rules:
        if rule.startswith("CKV"):
            made = resource if isinstance(resource, cdk.CfnResource) else resource.node.default_child
            assert isinstance(made, cdk.CfnResource)
            known = (made.get_metadata("checkov") or {"skip": []})["skip"]
            made.add_metadata("checkov", {"skip": [*known, {"id": rule, "comment": reason}]})
        else:
            cdk.Validations.of(resource).acknowledge(cdk.Acknowledgment(id=rule, reason=reason))


def accept_wildcard(stack: cdk.Stack, entity: Construct, arn: str, reason: str) -> None:
    """Note the reason for a resource with a `*` in a policy of `entity`, by the name cdk-nag gives it."""
    accept(entity, reason, f"AwsSolutions-IAM5[Resource::{_flat(stack.resolve(arn))}]")


def _flat(value: Any) -> str:
    if isinstance(value, str):
        return value
    ((function, given),) = value.items()
    if function == "Fn::Join":
        return "".join(_flat(part) for part in given[1])
    return f"<{given if function == 'Ref' else '.'.join(given)}>"
