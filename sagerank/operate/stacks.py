"""The CloudFormation stacks of a deployment, found by its name."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .account import Account, look_up

# In the order in which they are made; they go in the reverse order.
PARTS = ("network", "model", "endpoint", "observability")


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of a stack. kept: its deletion policy lets it outlive the stack."""

    type: str
    id: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Stack:
    name: str
    status: str
    reason: str
    outputs: Mapping[str, str]
    changed: str  # when it was made or last updated, in UTC

    @property
    def settled(self) -> bool:
        return not self.status.endswith("_IN_PROGRESS")


def find(account: Account, name: str) -> dict[str, Stack]:
    """The stacks that exist, by network, model, endpoint, observability."""
    return {part: stack for part in PARTS if (stack := _describe(account, f"{name}-{part}"))}


def _describe(account: Account, stack: str) -> Stack | None:
    answer = look_up(account.client("cloudformation").describe_stacks, StackName=stack)
    if answer is None:
        return None
    found = answer["Stacks"][0]
    outputs = {item["OutputKey"]: item["OutputValue"] for item in found.get("Outputs", ())}
    changed = found.get("LastUpdatedTime") or found["CreationTime"]
    return Stack(
        found["StackName"],
        found["StackStatus"],
        found.get("StackStatusReason", ""),
        outputs,
        changed.astimezone(datetime.UTC).isoformat(timespec="seconds"),
    )


def template(account: Account, stack: Stack) -> Any:
    """The template that the stack has."""
    body = account.client("cloudformation").get_template(StackName=stack.name)["TemplateBody"]
    return json.loads(body) if isinstance(body, str) else body  # botocore decodes JSON where it is valid


def resources_of(account: Account, stack: Stack) -> list[Resource]:
    """What the stack made and what becomes of it."""
    kept = {
        name
        for name, resource in template(account, stack)["Resources"].items()
        if resource.get("DeletionPolicy", "Delete").startswith("Retain")
    }
    listed = account.pages(
        "cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=stack.name
    )
    return [
        Resource(item["ResourceType"], item["PhysicalResourceId"], item["LogicalResourceId"] in kept)
        for item in listed
        if item.get("PhysicalResourceId")
    ]


def names(made: Iterable[Resource], type: str) -> list[str]:
    """The names of the resources of a type."""
    return [last(resource.id) for resource in made if resource.type == type]


def last(arn: str) -> str:
    """The name at the end of an ARN: CloudFormation knows SageMaker's resources by ARN, SageMaker by name."""
    return arn.rsplit("/", 1)[-1]
