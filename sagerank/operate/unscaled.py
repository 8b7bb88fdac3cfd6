"""Scaling taken off an endpoint while it is updated, and put back: SageMaker refuses another instance type for what is a scalable target.

CloudFormation takes it off, by a template without it that keeps what it lacks as its metadata. So nothing else has to remember:
whatever ended in between, the stack itself says that its scaling is off, and what it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import assembly
from .account import Account
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
def unscaled(account: Account, name: str, stacks: Mapping[str, Stack], planned: Path) -> Iterator[None]:
    """Take the scaling off; however the update inside ends, it is on afterwards, as the stack then says.

    Raises OperateError where CloudFormation cannot.
    """
    say("SageMaker changes no instance type that is scaled: taking the scaling off, about a minute")
    try:
        outputs = {stack.name: stack.outputs for stack in stacks.values()}
        endpoint = stacks["endpoint"]
        assembly.deploy(account, endpoint, without(template_of(account, endpoint), outputs), planned)
        yield
    finally:
        _put_back(account, name, planned)


def _put_back(account: Account, name: str, planned: Path) -> None:
    hint = "The scaling is off: the next `sagerank deploy` puts it back, and `sagerank status` says so until then."
    began = time.monotonic()
    with watching(
        f"{name}-endpoint", "its scaling is put back when CloudFormation has ended", hint
    ) as progress:
        while not (stack := find(account, name)["endpoint"]).settled:
            progress(stack.status, time.monotonic() - began)
            time.sleep(_POLL_SECONDS)
        template = template_of(account, stack)
        if is_off(template):  # the update did not come to the new template, which has its own
            say("Putting the scaling back: about a minute")
            try:
                assembly.deploy(account, stack, back(template), planned)
            except BaseException:
                say(hint)
                raise
