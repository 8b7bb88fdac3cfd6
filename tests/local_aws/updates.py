"""What an update of a stack needs and moto leaves out: parameters that keep their default, an order, and an endpoint whose
configuration was replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import Any

from moto.cloudformation.models import CloudFormationBackend
from moto.cloudformation.parsing import ResourceMap

# Nothing of these can be changed: an update makes a new one, and whoever refers to it is updated too.
_REPLACED = ("AWS::SageMaker::EndpointConfig", "AWS::SageMaker::Model")

_resolve = CloudFormationBackend._resolve_update_parameters
_diff = ResourceMap.build_resource_diff


def resolve(self: Any, instance: Any, incoming_params: list[dict[str, Any]]) -> Any:
    """A parameter that was never given has no previous value; it keeps the template's."""
    given = [
        each
        for each in incoming_params
        if not each.get("UsePreviousValue") or each["ParameterKey"] in instance.parameters
    ]
    return _resolve(self, instance, given)


def diff(self: Any, other_template: dict[str, Any], parameters: dict[str, Any] | None = None) -> Any:
    found = _diff(self, other_template, parameters)
    resources, changed = other_template["Resources"], list(found["Modify"])
    for name in changed:  # which grows
        if resources[name]["Type"] in _REPLACED:
            changed += [
                other
                for other in self._resource_json_map
                if other in resources and other not in changed and name in _references(resources[other])
            ]
    graph = {name: [each for each in _references(resources[name]) if each in changed] for name in changed}
    return {**found, "Modify": list(TopologicalSorter(graph).static_order())}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "Ref" in node:
            yield node["Ref"]
        if "Fn::GetAtt" in node:
            yield node["Fn::GetAtt"][0]
        for each in node.values():
            yield from _references(each)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def install() -> None:
    CloudFormationBackend._resolve_update_parameters = resolve
    ResourceMap.build_resource_diff = diff
