"""Options as dataclass fields: how one is declared, read from text, checked, and described as JSON Schema."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import types
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Section = TypeVar("Section")


class ConfigError(ValueError):
    """A deployment that cannot be made as configured; the text names the option, its value and what is allowed."""


def option(
    default: Any,
    meaning: str,
    *,
    choices: Iterable[str] = (),
    low: float | None = None,
    high: float | None = None,
    pattern: str = "",
    form: str = "",
) -> Any:
    """A field with its meaning and limits. `form` says in words what `pattern` asks for."""
    limits = {"choices": tuple(choices), "low": low, "high": high, "pattern": pattern, "form": form}
    return dataclasses.field(default=default, metadata={"meaning": meaning, **limits})


def section(kind: type, meaning: str) -> Any:
    """A field that holds options of its own."""
    return dataclasses.field(default_factory=kind, metadata={"meaning": meaning})


def mapping(meaning: str) -> Any:
    """A field of names and texts that are the user's own."""
    return dataclasses.field(default_factory=dict, metadata={"meaning": meaning})


def nearest(name: str, known: Iterable[str]) -> str:
    """Say `did you mean x?`, or what is known."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."


def read(kind: type[Section], raw: Any, where: str = "") -> Section:
    """Build a section from decoded JSON, YAML or TOML, or from text. Raises ConfigError naming the option."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where or 'The configuration'} is {raw!r}: give {_known(kind)}.")
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in raw.items():
        if name not in hints:
            raise ConfigError(f"{_join(where, str(name))} is not an option: {nearest(str(name), hints)}")
        values[name] = _value(hints[name], value, _join(where, name))
    return kind(**values)


def check(config: Any, where: str = "") -> None:
    """Raise ConfigError unless every value is within what its field allows."""
    for field in fields(config):
        name, value = _join(where, field.name), getattr(config, field.name)
        if is_dataclass(value):
            check(value, name)
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            for index, item in enumerate(value):
                check(item, f"{name}[{index}]")
        else:
            for item in value if isinstance(value, tuple) else (value,):
                if not _within(item, field.metadata):
                    raise ConfigError(f"{name} is {item!r}: {_advice(type(config), field.name, item)}")


def json_schema(kind: type) -> dict[str, Any]:
    """JSON Schema of a section: what editors complete and check in a configuration file."""
    hints = get_type_hints(kind)
    properties = {field.name: _schema(hints[field.name], field) for field in fields(kind)}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _schema(hint: Any, field: dataclasses.Field[Any]) -> dict[str, Any]:
    facts = field.metadata
    if is_dataclass(hint):
        schema = json_schema(hint)  # type: ignore[arg-type]
    elif get_origin(hint) is tuple:
        item = get_args(hint)[0]
        schema = {"type": "array", "items": json_schema(item) if is_dataclass(item) else _scalar(item, facts)}  # type: ignore[arg-type]
    elif get_origin(hint) is not None:
        schema = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
    else:
        schema = _scalar(hint, facts)
    if field.default is not dataclasses.MISSING:
        schema["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
    return schema | {"description": facts["meaning"]}


def _scalar(hint: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": {str: "string", int: "integer", float: "number", bool: "boolean"}[hint]}
    limits = {
        "enum": list(facts["choices"]),
        "minimum": facts["low"],
        "maximum": facts["high"],
        "pattern": facts["pattern"] and f"^({facts['pattern']})$",
    }
    return schema | {name: limit for name, limit in limits.items() if limit not in (None, "", [])}


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` as `hint` says. Text is read as what is wanted: `-c key=value` knows nothing else."""
    if get_origin(hint) is tuple:
        items = _decoded(value, where) if isinstance(value, str) and value.startswith("[") else value
        if isinstance(items, str):
            items = [part.strip() for part in items.split(",") if part.strip()]
        if not isinstance(items, list | tuple):
            raise ConfigError(f"{where} is {value!r}: give a list.")
        item = get_args(hint)[0]
        return tuple(_value(item, value, f"{where}[{index}]") for index, value in enumerate(items))
    if is_dataclass(hint) or get_origin(hint) is not None:
        decoded = _decoded(value, where) if isinstance(value, str) else value
        if is_dataclass(hint):
            return read(hint, decoded, where)  # type: ignore[arg-type]
        if not isinstance(decoded, Mapping):
            raise ConfigError(f"{where} is {value!r}: give names with values.")
        return types.MappingProxyType({str(name): str(text) for name, text in decoded.items()})
    return _plain(hint, value, where)


def _plain(hint: Any, value: Any, where: str) -> Any:
    if hint is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if not isinstance(value, bool):
        with suppress(OverflowError, TypeError, ValueError):
            if hint in (int, float) and hint(value) == float(value) and math.isfinite(float(value)):
                return hint(value)
        if hint is str and isinstance(value, str | int):
            return str(value)  # an account number that YAML took for a number
    wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[hint]
    raise ConfigError(f"{where} is {value!r}: give {wanted}.")


def _decoded(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where} is {text!r}, which is not JSON ({error}).") from None


def _within(value: Any, facts: Mapping[str, Any]) -> bool:
    if isinstance(value, str) and facts.get("choices"):
        return value in facts["choices"]
    if isinstance(value, str) and facts.get("pattern"):
        return re.fullmatch(facts["pattern"], value, re.ASCII) is not None
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Written so that a NaN is outside.
        return (facts.get("low") is None or value >= facts["low"]) and (
            facts.get("high") is None or value <= facts["high"]
        )
    return True


def _advice(kind: type, name: str, value: Any) -> str:
    facts = next(field.metadata for field in fields(kind) if field.name == name)
    # A form that is put in words says more than the nearest choice.
    near = [] if facts["form"] else difflib.get_close_matches(str(value), facts["choices"], 1)
    return f"did you mean {near[0]}?" if near else f"give {_allowed(kind, name)}."


def _allowed(kind: type, name: str) -> str:
    facts = next(field.metadata for field in fields(kind) if field.name == name)
    if facts["form"]:
        return str(facts["form"])
    if facts["choices"]:
        return f"one of {', '.join(facts['choices'])}"
    low, high = facts["low"], facts["high"]
    if high is not None:
        return f"{low:g} to {high:g}"
    return f"at least {low:g}" if low is not None else str(facts["meaning"])


def _known(kind: type) -> str:
    return f"options such as {', '.join(field.name for field in fields(kind)[:4])}"


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
