"""A CloudFormation template as its resources and values: what Ref, Fn::If and the like make of parameters' defaults and mappings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .. import CostError

Read = TypeVar("Read")
Number = TypeVar("Number", int, float)
# No template that can be deployed, of 500 resources, comes near: it is one whose values are made of one another many times over.
_STEPS = 1_000_000
_PLACE = re.compile(r"\$\{([^!}][^}]*)\}")


class Unresolved(CostError):
    """A value that a template leaves to its deployment."""


def target(node: Any) -> str | None:
    """The logical id that a Ref or Fn::GetAtt names."""
    match node:
        case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), *_]}:
            return name
        case {"Fn::GetAtt": str(path)}:
            return path.partition(".")[0]
    return None


class Values:
    """Reads the values of one template, deployed to `region` with its parameters at their defaults, which `assumed` collects.

    Methods raise Unresolved, with the reason, for what only a deployment decides, and RecursionError where values are made of one another without end.
    """

    def __init__(self, template: Mapping[str, Any], region: str) -> None:
        self._region = region
        self._parameters = _mapping(template.get("Parameters"))
        self._mappings = _mapping(template.get("Mappings"))
        self._conditions = _mapping(template.get("Conditions"))
        self.assumed: dict[str, Any] = {}
        self._steps = 0

    def value(self, node: Any) -> Any:
        """Text, a number, a list or a mapping, whose own values may be intrinsic again; None for AWS::NoValue."""
        self._step()
        match node:
            case {"Ref": name} if len(node) == 1:
                return self._parameter(name)
            case {"Fn::If": [condition, yes, no]}:
                return self.value(yes if self.condition(condition) else no)
            case {"Fn::FindInMap": [name, first, second, *_]}:
                return self._found(*(self.text(part) for part in (name, first, second)))
            case {"Fn::Join": _} | {"Fn::Sub": _}:
                return self.text(node)
            case {**given} if len(given) == 1 and str(next(iter(given))).startswith("Fn::"):
                raise Unresolved(f"{next(iter(given))} is decided when it is deployed")
        return node

    def items(self, node: Any) -> list[Any]:
        """The items of a list, without those that a condition leaves out; nothing is an empty list."""
        found = self.value(node)
        if found is not None and not isinstance(found, list):
            raise Unresolved(f"{_shown(found)} stands where a list belongs")
        # What an item refers to, such as a subnet, need not be known.
        items = (self.value(item) if "Fn::If" in _mapping(item) else item for item in found or ())
        return [item for item in items if item is not None and item != {"Ref": "AWS::NoValue"}]

    def mapping(self, node: Any) -> dict[str, Any]:
        """A mapping; nothing is an empty one."""
        found = self.value(node)
        if found is not None and not isinstance(found, dict):
            raise Unresolved(f"{_shown(found)} stands where an object belongs")
        return found or {}

    def text(self, node: Any, *, held: bool = False) -> str:
        """A text; with `held`, what is decided later is held as ${ITS_NAME}, or as ${?}."""
        match node:
            case {"Fn::Join": [str(between), list(parts)]}:
                return self._made(between.join(self.text(part, held=held) for part in parts))
            case {"Fn::Sub": [str(form), dict(given)]}:
                return self._filled(form, given, held)
            case {"Fn::Sub": str(form)}:
                return self._filled(form, {}, held)
        name = target(node)
        try:
            found = self.value(node)
        except Unresolved:
            if held:
                return f"${{{name or '?'}}}"
            raise
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            raise Unresolved(f"{_shown(found)} stands where text belongs")
        return str(found)

    def _filled(self, form: str, given: Mapping[str, Any], held: bool) -> str:
        def fill(place: re.Match[str]) -> str:
            name = place[1].strip()
            node = {"Fn::GetAtt": name} if "." in name else {"Ref": name}
            return self.text(given.get(name, node), held=held)

        return self._made(_PLACE.sub(fill, form))

    def _made(self, text: str) -> str:
        """A text that is put together: the longer, the more steps it counts for."""
        self._step(1 + len(text) // 100)
        return text

    def _step(self, count: int = 1) -> None:
        self._steps += count
        if self._steps > _STEPS:
            raise RecursionError

    def condition(self, node: Any) -> bool:
        """Whether a condition, or the one of a name, holds."""
        self._step()
        match node:
            case {"Fn::Equals": [one, other]}:
                return self.text(one) == self.text(other)
            case {"Fn::Not": [inner]}:
                return not self.condition(inner)
            case {"Fn::And": list(parts)}:
                return all(self.condition(part) for part in parts)
            case {"Fn::Or": list(parts)}:
                return any(self.condition(part) for part in parts)
            case {"Condition": str(name)} | str(name) if name in self._conditions:
                return self.condition(self._conditions[name])
        raise Unresolved(f"the condition {_shown(node)} is decided when it is deployed")

    def _parameter(self, name: Any) -> Any:
        if name == "AWS::NoValue":
            return None
        if name == "AWS::Region":
            return self._region
        parameter = _mapping(self._parameters.get(name)) if isinstance(name, str) else {}
        kind, default = str(parameter.get("Type")), parameter.get("Default")
        # The default of a parameter of AWS::SSM:: is where its value is kept.
        if parameter and (default is None or kind.startswith("AWS::SSM::")):
            raise Unresolved(f"the parameter {_shown(name)} has no default")
        if not parameter:
            raise Unresolved(f"{_shown(name)} is decided when it is deployed")
        self.assumed[name] = default
        many = kind == "CommaDelimitedList" or kind.startswith("List<")
        return str(default).split(",") if many else default

    def _found(self, name: str, first: str, second: str) -> Any:
        row = _mapping(_mapping(self._mappings.get(name)).get(first))
        if second not in row:
            raise Unresolved(f"the mapping {_shown(name)} has no {_shown(first)}, {_shown(second)}")
        return row[second]


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of a template. Methods raise CostError, with the property's name, for what is not known or makes no sense."""

    name: str
    kind: str
    properties: Mapping[str, Any]
    asset: str  # the file that a nested stack is in; "" for none
    values: Values

    def text(self, name: str, default: str | None = None) -> str:
        return str(self._read(name, default, self.values.text))

    def held(self, name: str) -> str:
        """A text in which what is decided later is held by name; "" where there is none, or nothing that is text."""
        try:
            return self.values.text(self.properties.get(name, ""), held=True)
        except CostError:
            return ""

    def parts(self, name: str) -> list[Resource]:
        """The mappings in a list, each to be read as a resource is; nothing is an empty list."""
        return [self._of(self.values.mapping(item)) for item in self.items(name)]

    def items(self, name: str) -> list[Any]:
        return list(self._read(name, [], self.values.items))

    def part(self, name: str) -> Resource:
        """The mapping of a property, to be read as a resource is; without any property where there is none."""
        return self._of(self._read(name, {}, self.values.mapping))

    def has(self, name: str) -> bool:
        return self.values.value(self.properties.get(name)) is not None

    def on(self, name: str) -> bool:
        """Whether a switch is on; one that is decided later, or not given, is off."""
        try:
            return str(self.values.value(self.properties.get(name, False))).lower() == "true"
        except CostError:
            return False

    @property
    def names(self) -> tuple[str, ...]:
        """What refers to it: ${ITS_NAME}, and the name that it is given, if any."""
        given = self.held(f"{self.kind.rpartition('::')[2]}Name")
        return (f"${{{self.name}}}", *([given] if given else []))

    def _of(self, properties: Mapping[str, Any]) -> Resource:
        return Resource(self.name, self.kind, properties, self.asset, self.values)

    def number(self, name: str, read: Callable[[str], Number], default: Number | None = None) -> Number:
        """A number, which may be written as text, as `read` takes it; it raises ValueError for others."""

        def number(node: Any) -> Number:
            text = self.values.text(node)
            try:
                return read(text)
            except ValueError as error:
                raise ValueError(f"it is {_shown(text)}, {error}") from None

        return self._read(name, default, number)

    def _read(self, name: str, default: Read | None, read: Callable[[Any], Read]) -> Read:
        try:
            node = self.properties.get(name)
            if node is None or self.values.value(node) is None:
                if default is None:
                    raise ValueError("it is not given")
                return default
            return read(node)
        except ValueError as error:
            raise CostError(f"{name}: {error}") from None


def resources(template: Mapping[str, Any], values: Values) -> Iterator[Resource]:
    """The resources that are deployed, those included of which it is not known. Raises CostError for what is none."""
    listed = template.get("Resources")
    if not isinstance(listed, dict):
        raise CostError(f"Resources is {_shown(listed)}: give an object with a resource for each name")
    for name, resource in listed.items():
        given = _mapping(resource)
        kind, properties, condition = given.get("Type"), given.get("Properties") or {}, given.get("Condition")
        if not (isinstance(kind, str) and isinstance(properties, dict)):
            raise CostError(
                f"{_shown(name)} of Resources is malformed: give it a Type that is text, and Properties that are an object"
            )
        try:
            deployed = condition is None or values.condition(condition)
        except Unresolved:
            deployed = True
        if deployed:
            asset = _mapping(given.get("Metadata")).get("aws:asset:path")
            yield Resource(
                plain(str(name)), kind, properties, asset if isinstance(asset, str) else "", values
            )


def plain(text: str) -> str:
    """The text without line ends and control characters, at a length that a table bears."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


def _mapping(node: Any) -> dict[str, Any]:
    return node if isinstance(node, dict) else {}


def _shown(node: Any) -> str:
    """What is there in a few words, whatever it is."""
    text = repr(node) if isinstance(node, str | int | float | bool | None) else f"a {type(node).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
