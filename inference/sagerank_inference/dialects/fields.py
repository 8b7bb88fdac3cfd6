"""JSON read field by field: a value of the type that is wanted, or an InvalidRequest that names the field."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..contract import Group, InvalidRequest

_TYPE_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


_SHOWN = 40  # characters of a caller's own name in a message


@dataclass(frozen=True, slots=True)
class Raw:
    """A value as the JSON text that it is echoed as: a body's objects are many times its size."""

    text: str


def type_name(value: object) -> str:
    """Return the type of a decoded value in JSON's words, with its article."""
    return _TYPE_NAMES.get(type(value), "something else")


def read_text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a string, not {type_name(value)}.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(
                f"{name} holds half of a surrogate pair, which is no text: send valid Unicode."
            ) from None
    return value


def read_query(value: object, name: str = "query") -> str:
    if isinstance(value, dict):
        if "image" in value:
            raise InvalidRequest(f"{name} is an image, and these models read text: send a string.")
        value = value.get("text")
    text = read_text(value, name)
    if not text.strip():
        raise InvalidRequest(f"{name} is blank: send the words to rank the documents for.")
    return text


def read_list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequest(f"{name} must be a list, not {type_name(value)}.")
    if not value:
        raise InvalidRequest(f"{name} is empty: send at least one document.")
    return value


def _read_document(value: object, name: str, rank_fields: Mapping[str, int]) -> str:
    """Return a string, or the `rank_fields` of an object in lines, in their order. An empty text is a document like any other."""
    if isinstance(value, dict):
        # Of the object's fields those that rank, and not the other way round: either may be very many.
        present = sorted(filter(rank_fields.__contains__, value), key=rank_fields.__getitem__)
        if not present:
            fields = " or ".join(repr(field[:_SHOWN]) for field in list(rank_fields)[:3])
            raise InvalidRequest(f"{name} has no field {fields}: name the text to rank.")
        return "\n".join(read_text(value[field], f"{name}.{field[:_SHOWN]}") for field in present)
    if not isinstance(value, str):
        raise InvalidRequest(f'{name} must be a string or an object with "text", not {type_name(value)}.')
    return read_text(value, name)


def _echo(value: object, name: str) -> object:
    """Return what goes back in place of a document. Raises InvalidRequest for what no answer can hold."""
    if isinstance(value, str):
        return value
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            f"{name} holds half of a surrogate pair, which is no text: send valid Unicode."
        ) from None
    except ValueError:
        raise InvalidRequest(
            f"{name} holds a number that is not finite, such as 1e999: send finite ones."
        ) from None
    except RecursionError:
        raise InvalidRequest(f"{name} is nested too deeply: send a flat object.") from None
    return Raw(text)


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object, whose options are read under the first of several names that is present and not null."""

    payload: Mapping[str, Any]

    def get(self, *names: str) -> tuple[str, Any]:
        """Return the name that was used and its value, or the first name and None."""
        return next(
            ((name, self.payload[name]) for name in names if self.payload.get(name) is not None),
            (names[0], None),
        )

    def flag(self, *names: str, default: bool) -> bool:
        name, value = self.get(*names)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidRequest(f"{name} must be true or false, not {type_name(value)}.")
        return value

    def count(self, *names: str) -> int | None:
        name, value = self.get(*names)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidRequest(f"{name} must be a whole number of at least 1.")
        return value

    def refuse(self, *names: str) -> None:
        """Raise InvalidRequest where one of the fields asks for something."""
        for name in names:
            if self.payload.get(name):
                raise InvalidRequest(f"{name} is not offered by these models: leave it out.")

    def group(
        self, *, rank_fields: Sequence[str] = ("text",), identity: str | None = None, echo: bool = True
    ) -> Group:
        """Read `query`, `documents` and `top_n`. Raises InvalidRequest. echo: documents go back as they came."""
        query = read_query(self.payload.get("query"))
        given = read_list(self.payload.get("documents"), "documents")
        ranks = {field: rank for rank, field in enumerate(dict.fromkeys(rank_fields))}
        texts = tuple(_read_document(item, f"documents[{index}]", ranks) for index, item in enumerate(given))
        originals = None
        if echo and any(isinstance(item, dict) for item in given):
            originals = tuple(_echo(item, f"documents[{index}]") for index, item in enumerate(given))
        return Group(query, texts, top_n=self.count("top_n", "top_k"), originals=originals, identity=identity)
