"""Scaling taken off an endpoint while it is updated, and put back: SageMaker refuses another instance type for what is a scalable target.

CloudFormation takes it off, by a template without it that keeps what it lacks as its metadata. So nothing else has to remember:
whatever ended in between, the stack itself says that its scaling is off, and what it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import OperateError, assembly
from .account import Account, sentences
from .stacks import Stack, find, template_of
from .terminal import say, watching

MARK = "sagerank:unscaled"
_KIND = "AWS::ApplicationAutoScaling::"
_POLL_SECONDS = 5.0
Template = Mapping[str, Any]


def without(template: Template, outputs: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The template without targets, policies, and the alarms that call the policies.

    outputs: of all stacks by their names, which stand in it in place of references: the update may take those away.
    """
    template = _literal(template, outputs)
    resources = template["Resources"]
    going = {id for id, resource in resources.items() if resource["Type"].startswith(_KIND)}
    while more := {id for id in resources.keys() - going if going & set(_references(resources[id]))}:
        going |= more
    # As text: to CloudFormation, a reference within would be one.
    off = json.dumps({id: resources[id] for id in sorted(going)})
    return {
        **template,
        "Metadata": {**template.get("Metadata", {}), MARK: off},
        "Resources": {id: resource for id, resource in resources.items() if id not in going},
    }


def back(template: Template) -> dict[str, Any]:
    """The template as `without` found it, with values in place of references to other stacks."""
    metadata = dict(template["Metadata"])
    resources = {**template["Resources"], **json.loads(metadata.pop(MARK))}
    rest = {key: value for key, value in template.items() if key != "Metadata"}
    return {**rest, **({"Metadata": metadata} if metadata else {}), "Resources": resources}


def _literal(node: Any, outputs: Mapping[str, Mapping[str, str]]) -> Any:
    if isinstance(node, list):
        return [_literal(each, outputs) for each in node]
    if not isinstance(node, Mapping):
        return node
    if wanted := node.get("Fn::GetStackOutput"):
        return outputs.get(wanted["StackName"], {}).get(wanted["OutputName"], node)
    return {key: _literal(each, outputs) for key, each in node.items()}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "Ref" or (key == "DependsOn" and isinstance(value, str)):
                yield value
            elif key == "Fn::GetAtt":
                yield value[0]
            elif key == "DependsOn":
                yield from value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def is_off(template: Template) -> bool:
    """Whether an update that took the scaling off has not come to its end."""
    return MARK in template.get("Metadata", {})


@contextmanager
def told(name: str, region: str) -> Iterator[None]:
    """Say at Ctrl-C, before anything else is said or done, that CloudFormation goes on."""
    try:
        yield
    except KeyboardInterrupt:
        say(
            f"\nCloudFormation goes on with what it was given: see `sagerank status {name} --region {region}`."
        )
        raise


@contextmanager
def unscaled(
    account: Account, name: str, stacks: Mapping[str, Stack], planned: Path, extra: Sequence[str]
) -> Iterator[None]:
    """Take the scaling off; however the update inside ends, it is on afterwards, as the stack then says.

    extra: more words for the CDK's command. Raises OperateError where CloudFormation cannot, and says then what puts it back.
    """
    say("SageMaker changes no instance type that is scaled: taking the scaling off, about a minute")
    with put_back(account, name, planned, extra):
        with told(name, account.region):
            outputs = {stack.name: stack.outputs for stack in stacks.values()}
            endpoint = stacks["endpoint"]
            off = without(template_of(account, endpoint), outputs)
            assembly.deploy(account, endpoint, off, planned, extra)
        yield


@contextmanager
def put_back(account: Account, name: str, planned: Path, extra: Sequence[str]) -> Iterator[None]:
    """However what is inside ends, the scaling that is off, perhaps since an earlier update, is on afterwards. As `unscaled` otherwise."""
    failed = ""
    try:
        yield
    except OperateError as error:
        failed = f"{error} "
        raise
    finally:
        _put_back(account, name, planned, extra, failed)


def _put_back(account: Account, name: str, planned: Path, extra: Sequence[str], failed: str) -> None:
    """Wait until CloudFormation has ended, and put back what it has not. failed: what is said first where that fails."""
    hint = f"The scaling of {name} may be off: `sagerank deploy` with the same options puts it back, and `sagerank status {name} --region {account.region}` says whether it is."
    try:
        with sentences():
            stack = _settled(account, name)
            if stack is None:  # destroyed meanwhile, and nothing is left to scale
                return
            template = template_of(account, stack)
            if is_off(template):  # the update did not come to the new template, which has its own
                say("Putting the scaling back: about a minute")
                assembly.deploy(account, stack, back(template), planned, extra)
                say("The scaling is back.")
    except KeyboardInterrupt:
        say(f"\n{hint}")
        raise
    except OperateError as error:
        raise OperateError(f"{failed}{error} {hint}") from None


def _settled(account: Account, name: str) -> Stack | None:
    """The endpoint's stack when CloudFormation has ended; None where it is gone."""
    began, usual = time.monotonic(), "its scaling is put back when CloudFormation has ended"
    with watching(f"{name}-endpoint", usual, "") as progress:
        while (stack := find(account, name).get("endpoint")) and not stack.settled:
            progress(stack.status, time.monotonic() - began)
            time.sleep(_POLL_SECONDS)
    return stack
