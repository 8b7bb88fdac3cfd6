"""A CloudFormation template of ours as Terraform's JSON, for the providers hashicorp/awscc and hashicorp/aws.

terraform.json lists both providers' arguments and decides what a property becomes: what it does not list is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from . import OperateError
from .terraform_types import KINDS, SCHEMA, Kind, snake

_DATA = {
    "AWS::AccountId": ("aws_caller_identity", "account_id"),
    "AWS::Partition": ("aws_partition", "partition"),
    "AWS::Region": ("aws_region", "region"),
    "AWS::URLSuffix": ("aws_partition", "dns_suffix"),
}


class _Code(str):
    """An expression of Terraform's language."""


class _Text(list[str]):
    """A string of literal parts and of expressions."""


def translate(template: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The configuration, and a sentence for each thing that Terraform's providers cannot be told.

    Raises OperateError for a resource, property or function that has no translation.
    """
    return _Translation(template).whole()


class _Translation:
    def __init__(self, template: Mapping[str, Any]) -> None:
        self._template = template
        schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
        self._known, self._versions = schema["resources"], schema["versions"]
        self._data: set[str] = set()
        self._notes: set[str] = set()

    def whole(self) -> tuple[dict[str, Any], list[str]]:
        variables = {
            snake(name): self._variable(name, each)
            for name, each in self._template.get("Parameters", {}).items()
        }
        resources: dict[str, Any] = {}
        for name, each in self._template["Resources"].items():
            kind = self._kind(each["Type"])
            resources.setdefault(kind.resource, {})[name] = self._resource(kind, each)
        outputs = {
            snake(name): {
                "value": _json(self._resolved(each["Value"])),
                **({"description": _literal(each["Description"])} if "Description" in each else {}),
            }
            for name, each in self._template.get("Outputs", {}).items()
        }
        needed = {
            name: {"source": f"hashicorp/{name}", "version": f">= {version}"}
            for name, version in self._versions.items()
        }
        notes = sorted(self._notes)
        found = {
            "//": " ".join((self._template["Description"], *notes)),
            "terraform": {"required_version": ">= 1.0", "required_providers": needed},
            "variable": variables,
            "data": {name: {"current": {}} for name in sorted(self._data)},
            "resource": resources,
            "output": outputs,
        }
        return {name: each for name, each in found.items() if each}, notes

    def _kind(self, type: str) -> Kind:
        if type not in KINDS:
            raise OperateError(f"Terraform's providers have no {type}: give --format cloudformation.")
        return KINDS[type]

    def _variable(self, name: str, parameter: Mapping[str, Any]) -> dict[str, Any]:
        pattern = f"^({parameter['AllowedPattern']})$"
        condition = f"${{can(regex({_hcl(pattern)}, var.{snake(name)}))}}"
        message = f"{name} {parameter['ConstraintDescription']}."
        found = {"type": "string", "description": parameter["Description"]}
        if "Default" in parameter:
            found["default"] = parameter["Default"]
        return {**found, "validation": {"condition": condition, "error_message": _literal(message)}}

    def _resource(self, kind: Kind, resource: Mapping[str, Any]) -> dict[str, Any]:
        properties = dict(resource.get("Properties", {}))
        for left, note in kind.left_out.items():
            if left in properties and (left not in kind.unasked or properties[left] == kind.unasked[left]):
                del properties[left]
                self._notes.add(note)
        schema = self._known[kind.resource]
        shaped = self._resolved(dict(kind.reshape(properties)))
        named = {kind.names.get(key, snake(key)): each for key, each in shaped.items()}
        found = self._fields(named, schema, kind.resource)
        if before := resource.get("DependsOn"):
            every = before if isinstance(before, list) else [before]
            found["depends_on"] = [self._address(each) for each in every]
        lifecycle = {
            "create_before_destroy": kind.replaced_first,
            # Terraform can keep nothing that it forgets: it refuses to destroy this.
            "prevent_destroy": resource.get("DeletionPolicy") == "Retain",
        }
        if any(lifecycle.values()):
            found["lifecycle"] = {key: True for key, wanted in lifecycle.items() if wanted}
        return found

    def _fields(self, given: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> dict[str, Any]:
        found = {}
        for name, each in given.items():
            wanted = schema.get(name, "=")
            if isinstance(wanted, str) and wanted.endswith("="):
                raise OperateError(
                    f"Terraform's {where} takes no {name}, and the deployment is not the same without: give --format cloudformation."
                )
            found[name] = self._field(each, wanted, f"{where}.{name}")
        return found

    def _field(self, given: Any, wanted: Any, where: str) -> Any:
        if isinstance(given, _Text | str):
            return _json(given)
        if isinstance(wanted, dict):
            if isinstance(given, list):
                return [self._field(each, wanted, where) for each in given]
            return self._fields({snake(key): each for key, each in given.items()}, wanted, where)
        if wanted.startswith("map") and isinstance(given, list):  # of tags
            given = {tag["Key"]: tag["Value"] for tag in given}
        if wanted.startswith("string") and isinstance(given, dict):
            return f"${{jsonencode({_hcl(given)})}}"
        if wanted.startswith("map") or not isinstance(given, dict):
            return _json(given)
        raise OperateError(f"Terraform's {where} is no object: give --format cloudformation.")

    def _address(self, name: str) -> str:
        return f"{self._kind(self._template['Resources'][name]['Type']).resource}.{name}"

    def _attribute(self, name: str, attribute: str) -> _Code:
        kind = self._kind(self._template["Resources"][name]["Type"])
        found = kind.names.get(attribute, snake(attribute)) if attribute else kind.ref
        if found not in self._known[kind.resource]:
            raise OperateError(f"Terraform's {kind.resource} has no {found}: give --format cloudformation.")
        return _Code(f"{kind.resource}.{name}.{found}")

    def _resolved(self, value: Any) -> Any:
        """Plain values with text and expressions in place of CloudFormation's functions."""
        if isinstance(value, list):
            return [self._resolved(each) for each in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1 and (next(iter(value)) == "Ref" or next(iter(value)).startswith("Fn::")):
            return _Text(self._parts(value))
        return {key: self._resolved(each) for key, each in value.items()}

    def _parts(self, value: Any) -> Iterator[str]:
        match value:
            case str(text):
                yield text
            case {"Fn::Join": [str(between), list(parts)]}:
                for index, part in enumerate(parts):
                    if index and between:
                        yield between
                    yield from self._parts(part)
            case _:
                yield self._code(value)

    def _code(self, value: Any) -> _Code:
        match value:
            case {"Ref": str(name)}:
                return self._reference(name)
            case {"Fn::GetAtt": [str(name), str(attribute)]}:
                return self._attribute(name, attribute)
            case {"Fn::GetAZs": ""}:
                return self._datum("aws_availability_zones", "names")
            case {"Fn::Select": [int(index) | str(index), several]}:
                return _Code(f"{self._code(several)}[{index}]")
            case {"Fn::Split": [str(separator), whole]}:
                return _Code(f"split({_hcl(separator)}, {self._code(whole)})")
        raise OperateError(
            f"{next(iter(value))} has no translation to Terraform: give --format cloudformation."
        )

    def _reference(self, name: str) -> _Code:
        if name in _DATA:
            return self._datum(*_DATA[name])
        if name in self._template.get("Parameters", {}):
            return _Code(f"var.{snake(name)}")
        if name not in self._template["Resources"]:
            raise OperateError(f"Terraform has nothing for {name}: give --format cloudformation.")
        return self._attribute(name, "")

    def _datum(self, source: str, attribute: str) -> _Code:
        self._data.add(source)
        return _Code(f"data.{source}.current.{attribute}")


def _literal(text: str) -> str:
    """Text in which Terraform finds no template."""
    return text.replace("${", "$${").replace("%{", "%%{")


def _json(value: Any) -> Any:
    """A value of Terraform's JSON, whose strings are templates."""
    match value:
        case _Text():
            return "".join(f"${{{part}}}" if isinstance(part, _Code) else _literal(part) for part in value)
        case str():
            return _literal(value)
        case list():
            return [_json(each) for each in value]
        case dict():
            return {key: _json(each) for key, each in value.items()}
    return value


def _hcl(value: Any) -> str:
    """A value as an expression."""
    match value:
        case _Text():
            parts = (
                f"${{{part}}}" if isinstance(part, _Code) else json.dumps(_literal(part))[1:-1]
                for part in value
            )
            return f'"{"".join(parts)}"'
        case list():
            return f"[{', '.join(map(_hcl, value))}]"
        case dict():
            return f"{{{', '.join(f'{json.dumps(key)} = {_hcl(each)}' for key, each in value.items())}}}"
        case str():
            return json.dumps(_literal(value))
    return json.dumps(value)
