"""JSON read field by field: a value of the type that is wanted, or an InvalidRequest that names the field."""

from __future__ import annotations

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


def _read_document(value: object, name: str, rank_fields: Sequence[str]) -> str:
    """Return a string, or the `rank_fields` of an object in lines. An empty text is a document like any other."""
    if isinstance(value, dict):
        present = [field for field in rank_fields if field in value]
        if not present:
            fields = " or ".join(map(repr, rank_fields))
            raise InvalidRequest(f"{name} has no field {fields}: name the text to rank.")
        return "\n".join(read_text(value[field], f"{name}.{field}") for field in present)
    if not isinstance(value, str):
        raise InvalidRequest(f'{name} must be a string or an object with "text", not {type_name(value)}.')
    return read_text(value, name)


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

    def group(self, *, rank_fields: Sequence[str] = ("text",), identity: str | None = None) -> Group:
        """Read `query`, `documents` and `top_n`. Raises InvalidRequest."""
        query = read_query(self.payload.get("query"))
        originals = read_list(self.payload.get("documents"), "documents")
        texts = tuple(
            _read_document(item, f"documents[{index}]", rank_fields) for index, item in enumerate(originals)
        )
        return Group(
            query, texts, top_n=self.count("top_n", "top_k"), originals=tuple(originals), identity=identity
        )
