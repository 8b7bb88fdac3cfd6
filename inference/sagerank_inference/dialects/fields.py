"""JSON read field by field: a value of the type that is wanted, or an InvalidRequest that names the field."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..contract import Group, InvalidRequest, Limits, PayloadTooLarge

_RANK_FIELDS = 64  # each is looked for in every document
_compact = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode

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


def read_rank_fields(value: object, name: str) -> Sequence[str]:
    """Return the different names of a list."""
    names = dict.fromkeys(
        read_text(entry, f"{name}[{index}]") for index, entry in enumerate(read_list(value, name))
    )
    if len(names) > _RANK_FIELDS:
        raise InvalidRequest(f"{name} has {len(names)} different names: send at most {_RANK_FIELDS}.")
    return tuple(names)


def _read_document(value: object, name: str, rank_fields: Sequence[str]) -> str:
    """Return a string, or the `rank_fields` of an object in lines. An empty text is a document like any other."""
    if isinstance(value, dict):
        present = [field for field in rank_fields if field in value]
        if not present:
            fields = " or ".join(repr(_short(field)) for field in rank_fields[:3])
            raise InvalidRequest(f"{name} has no field {fields}: name the text to rank.")
        return "\n".join(read_text(value[field], f"{name}.{_short(field)}") for field in present)
    if not isinstance(value, str):
        raise InvalidRequest(f'{name} must be a string or an object with "text", not {type_name(value)}.')
    return read_text(value, name)


def _short(field: str) -> str:
    return field if len(field) <= 40 else f"{field[:40]}..."


def _written(value: object, name: str) -> str:
    """Return the JSON of a decoded value, which can be sent back as it is. Raises InvalidRequest."""
    try:
        return read_text(_compact(value), name)
    except RecursionError:
        raise InvalidRequest(f"{name} is nested too deeply: send a flat object.") from None
    except ValueError:  # an infinity: 1e999
        raise InvalidRequest(
            f"{name} holds a number too large to be sent back: send a smaller one."
        ) from None


@dataclass(slots=True)
class Allowance:
    """How many documents one body may bring, and has brought so far."""

    limit: int = Limits().max_documents
    used: int = 0

    def take(self, count: int) -> None:
        self.used += count
        if self.used > self.limit:
            raise PayloadTooLarge(
                f"The request has at least {self.used} documents, more than {self.limit}: split it."
            )


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object, whose options are read under the first of several names that is present and not null."""

    payload: Mapping[str, Any]
    allowance: Allowance = field(default_factory=Allowance)

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

    def documents(self, name: str) -> list[Any]:
        """Read a list whose every entry brings a document, and none more than are allowed."""
        values = read_list(self.payload.get(name), name)
        self.allowance.take(len(values))
        return values

    def group(
        self, *, rank_fields: Sequence[str] = ("text",), identity: str | None = None, echo: bool = False
    ) -> Group:
        """Read `query`, `documents` and `top_n`. Raises InvalidRequest.

        echo: documents that are objects will be sent back.
        """
        query = read_query(self.payload.get("query"))
        texts: list[str] = []
        originals: list[str | None] = []
        for index, value in enumerate(self.documents("documents")):
            name = f"documents[{index}]"
            texts.append(_read_document(value, name, rank_fields))
            originals.append(_written(value, name) if echo and isinstance(value, dict) else None)
        return Group(
            query,
            tuple(texts),
            top_n=self.count("top_n", "top_k"),
            originals=tuple(originals) if any(originals) else None,
            identity=identity,
        )
