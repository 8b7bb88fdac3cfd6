"""The CloudFormation stacks of a deployment, found by its name."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import OperateError
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    name: str
    status: str
    reason: str
    outputs: Mapping[str, str]
    tags: Mapping[str, str]
    changed: str  # when it was made or last updated, in UTC
    protected: bool  # from being deleted
    role: str  # by which CloudFormation acts

    @property
    def qualifier(self) -> str:
        """Of the CDK's bootstrap stack that it was deployed by."""
        found = re.search(r":role/cdk-([a-z0-9]{1,10})-cfn-exec-role-", self.role)
        return found[1] if found else BOOTSTRAP_QUALIFIER

    @property
    def settled(self) -> bool:
        return not self.status.endswith("_IN_PROGRESS") or self.empty

    @property
    def made(self) -> bool:
        """Nothing is left of a stack whose creation failed: it has to go before it is made again."""
        return not self.empty and self.status not in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED")

    @property
    def empty(self) -> bool:
        """Only a change set was made, by a deployment that ended before it: there is nothing in it, and nothing is under way."""
        return self.status == "REVIEW_IN_PROGRESS"


def find(account: Account, name: str) -> dict[str, Stack]:
    """The stacks that exist, by network, model, endpoint, observability."""
    return {part: stack for part in PARTS if (stack := _describe(account, f"{name}-{part}"))}


def _describe(account: Account, stack: str) -> Stack | None:
    answer = look_up(account.client("cloudformation").describe_stacks, StackName=stack)
    if answer is None:
        return None
    found = answer["Stacks"][0]
    outputs = {item["OutputKey"]: item["OutputValue"] for item in found.get("Outputs", ())}
    changed: datetime.datetime = found.get("LastUpdatedTime") or found["CreationTime"]
    return Stack(
        name=found["StackName"],
        status=found["StackStatus"],
        reason=found.get("StackStatusReason", ""),
        outputs=outputs,
        tags={tag["Key"]: tag["Value"] for tag in found.get("Tags", ())},
        changed=changed.astimezone(datetime.UTC).isoformat(timespec="seconds"),
        protected=found.get("EnableTerminationProtection", False),
        role=found.get("RoleARN", ""),
    )


def require_settled(found: Mapping[str, Stack]) -> None:
    """Raise OperateError where CloudFormation is at work."""
    busy = [f"{stack.name} ({stack.status})" for stack in found.values() if not stack.settled]
    if busy:
        raise OperateError(f"CloudFormation is still at work on {', '.join(busy)}: wait until it ends.")


def template_of(account: Account, stack: Stack) -> dict[str, Any]:
    """The template that a stack was made of, as it was given."""
    if stack.empty:
        return {"Resources": {}}
    body: Any = account.client("cloudformation").get_template(StackName=stack.name)["TemplateBody"]
    if isinstance(body, str):  # botocore decodes JSON where it is valid
        try:
            body = json.loads(body)
        except ValueError:
            raise OperateError(
                f"The template of {stack.name} is no JSON: another program than the CDK deployed it, which has to change it too."
            ) from None
    template: dict[str, Any] = body
    return template


def resources_of(account: Account, stack: Stack) -> list[Resource]:
    """What the stack made and what becomes of it."""
    if stack.empty:
        return []
    kept = {
        name
        for name, resource in template_of(account, stack)["Resources"].items()
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
