"""The CloudFormation stacks of a deployment, found by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .account import Account, look_up

BOOTSTRAP_QUALIFIER = "hnb659fds"  # the CDK's own
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
    protected: bool = False  # by termination protection
    role: str = ""  # by which CloudFormation acts

    @property
    def qualifier(self) -> str:
        """Of the CDK's bootstrap stack that it was deployed by."""
        found = re.search(r":role/cdk-([a-z0-9]{1,10})-cfn-exec-role-", self.role)
        return found[1] if found else BOOTSTRAP_QUALIFIER

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
    return Stack(
        found["StackName"],
        found["StackStatus"],
        found.get("StackStatusReason", ""),
        outputs,
        protected=found.get("EnableTerminationProtection", False),
        role=found.get("RoleARN", ""),
    )


def resources_of(account: Account, stack: Stack) -> list[Resource]:
    """What the stack made and what becomes of it."""
    formation = account.client("cloudformation")
    template: Any = formation.get_template(StackName=stack.name)["TemplateBody"]
    if isinstance(template, str):  # botocore decodes JSON where it is valid
        template = json.loads(template)
    kept = {
        name
        for name, resource in template["Resources"].items()
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
