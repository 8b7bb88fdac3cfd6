"""What an update of a stack needs and moto leaves out: an order, replacements before what they replace goes, a rollback, outputs of
other stacks, and that an export which is imported stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from graphlib import TopologicalSorter
from typing import Any

from moto.cloudformation import models, parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend, Stack, cloudformation_backends
from moto.cloudformation.parsing import ResourceMap
from moto.s3.models import FakeBucket

from . import refusals

# Nothing of these can be changed: an update makes a new one, and whoever refers to it is updated too.
REPLACED = ("AWS::SageMaker::EndpointConfig", "AWS::SageMaker::Model")

_change_bucket = FakeBucket.update_from_cloudformation_json
_resolve = CloudFormationBackend._resolve_update_parameters
_diff = ResourceMap.build_resource_diff
_clean = parsing.clean_json
_update = Stack.update


def resolve(self: Any, instance: Any, incoming_params: list[dict[str, Any]]) -> Any:
    """A parameter that was never given has no previous value; it keeps the template's."""
    given = [
        each
        for each in incoming_params
        if not each.get("UsePreviousValue") or each["ParameterKey"] in instance.parameters
    ]
    return _resolve(self, instance, given)


def clean(node: Any, resources: Any) -> Any:
    """With Fn::GetStackOutput, which is looked up when a stack is made or updated."""
    if not (isinstance(node, dict) and "Fn::GetStackOutput" in node):
        return _clean(node, resources)
    wanted = _clean(node["Fn::GetStackOutput"], resources)
    stacks = cloudformation_backends[resources._account_id][wanted.get("Region", resources._region_name)]
    for output in stacks.get_stack(wanted["StackName"]).outputs or ():
        if output["OutputKey"] == wanted["OutputName"]:
            return output["OutputValue"]
    raise ValidationError(
        message=f"Template error: stack {wanted['StackName']} has no output {wanted['OutputName']}"
    )


def diff(self: Any, other_template: dict[str, Any], parameters: dict[str, Any] | None = None) -> Any:
    found, resources = _diff(self, other_template, parameters), other_template["Resources"]
    changed = [
        name
        for name in found["Modify"]
        if _literal(resources[name], self) != _literal(self._resource_json_map[name], self)
    ]
    for name in changed:  # which grows
        if resources[name]["Type"] in REPLACED:
            changed += [
                other
                for other in self._resource_json_map
                if other in resources and other not in changed and name in _references(resources[other])
            ]
    return {**found, "Modify": changed}


def _literal(node: Any, resources: Any) -> Any:
    """With the values of other stacks' outputs: a value in place of a reference to the same is no change."""
    if isinstance(node, list):
        return [_literal(each, resources) for each in node]
    if not isinstance(node, dict):
        return node
    if "Fn::GetStackOutput" in node:
        with suppress(ValidationError):
            return clean(node, resources)
    return {key: _literal(each, resources) for key, each in node.items()}


def update(self: Any, template: dict[str, Any], parameters: dict[str, Any] | None = None) -> None:
    """What is new or changed, in the order of references and DependsOn; then what is replaced or no longer there goes."""
    found, old = self.build_resource_diff(template, parameters), self._resource_json_map
    self._template = template
    if parameters:
        self.input_parameters = parameters
    for load in (self.load_mapping, self.load_parameters, self.load_conditions):
        load()
    gone = {name: self._parsed_resources.pop(name, None) for name in found["Remove"]}
    self._resource_json_map = template["Resources"]
    replaced = []
    for name in _ordered(template["Resources"], [*found["Add"], *found["Modify"]]):
        if name in found["Add"]:
            _ = self[name]  # which makes it
            continue
        before = self._parsed_resources[name]
        after = parsing.parse_and_update_resource(
            name,
            self._resource_json_map[name],
            self,
            account_id=self._account_id,
            region_name=self._region_name,
        )
        if after is not None:
            self._parsed_resources[name] = after
            if after is not before and template["Resources"][name]["Type"] in REPLACED:
                replaced.append((before, old[name]))
    removed = [(gone[name], old[name]) for name in reversed(_ordered(old, list(gone))) if gone[name]]
    _clean_up(self, [*reversed(replaced), *removed])


def ordered(self: Any) -> list[str]:
    """References and DependsOn: moto makes what a resource refers to when it comes to it, and not what that depends on."""
    return _ordered(self._resource_json_map, list(self._resource_json_map))


def _clean_up(self: Any, going: list[tuple[Any, Any]]) -> None:
    """What cannot be deleted stays behind, and the update is complete all the same."""
    going = [each for each in going if not each[1].get("DeletionPolicy", "Delete").startswith("Retain")]
    for _ in range(3):
        left = []
        for resource, definition in going:
            try:
                self._delete_resource(resource, definition)
            except Exception:  # whatever a service says
                left.append((resource, definition))
        going = left


def _ordered(resources: Mapping[str, Any], names: list[str]) -> list[str]:
    graph = {name: [each for each in _references(resources[name]) if each in names] for name in names}
    return list(TopologicalSorter(graph).static_order())


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "Ref" in node:
            yield node["Ref"]
        if "Fn::GetAtt" in node:
            yield node["Fn::GetAtt"][0]
        depends = node.get("DependsOn", [])
        yield from [depends] if isinstance(depends, str) else depends
        for each in node.values():
            yield from _references(each)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def update_stack(
    self: Any, template: str, role_arn: str | None = None, parameters: Any = None, tags: Any = None
) -> None:
    """CloudFormation goes back to the template before when an update fails, and says why among its events."""
    backend = cloudformation_backends[self.account_id][self.region_name]
    before, old_exports = self.template, [each.name for each in self.exports]
    others = {stack.name: stack.template_dict for stack in backend.stacks.values()}
    try:
        if why := refusals.export(self.name, self.template_dict, self.parse_template(template), others):
            raise ValidationError(message=why)
        _update(self, template, role_arn, parameters, tags)
    except Exception as error:  # whatever a service says
        why = getattr(error, "message", str(error))
        self._add_stack_event("UPDATE_ROLLBACK_IN_PROGRESS", resource_status_reason=why)
        _update(self, before, role_arn, parameters, tags)
        del self.events[-2:]  # of an update, which this is none
        self._add_stack_event("UPDATE_ROLLBACK_COMPLETE", resource_status_reason=why)
        self.status = "UPDATE_ROLLBACK_COMPLETE"
    for name in old_exports:
        backend.exports.pop(name, None)
    backend.exports.update({each.name: each for each in self.exports})


def change_bucket(
    cls: Any, /, original_resource: Any, cloudformation_json: dict[str, Any], **where: str
) -> Any:
    """moto looks for the bucket to tag by its name, which a template need not give."""
    properties = {**cloudformation_json["Properties"], "BucketName": original_resource.name}
    given = {**cloudformation_json, "Properties": properties}
    return _change_bucket(original_resource=original_resource, cloudformation_json=given, **where)


def install() -> None:
    FakeBucket.update_from_cloudformation_json = classmethod(change_bucket)
    CloudFormationBackend._resolve_update_parameters = resolve
    ResourceMap.build_resource_diff = diff
    ResourceMap.update = update
    ResourceMap._ResourceMap__get_resources_in_dependency_order = ordered
    Stack.update = update_stack
    for module in (parsing, models):
        if hasattr(module, "clean_json"):
            module.clean_json = clean
