"""From the bytes of a body to the JSON values and rows in it, one for each request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from ..contract import InvalidRequest, Limits, PayloadTooLarge, RerankError, UnsupportedMediaType

JSON, JSON_LINES, CSV = "application/json", "application/jsonlines", "text/csv"
_MEDIA_TYPES = {
    JSON: JSON,
    "text/json": JSON,
    JSON_LINES: JSON_LINES,
    "application/jsonl": JSON_LINES,
    "application/json-lines": JSON_LINES,
    "application/ndjson": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/x-ndjson": JSON_LINES,
    CSV: CSV,
    "application/csv": CSV,
}
# Labels that clients put on a body when nobody told them what it is: JSON may be in it.
_UNLABELLED = (
    "",
    "*/*",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "binary/octet-stream",
    "text/plain",
)
_CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")
_PARAMETER = re.compile(r';\s*([^\s=;"]+)=("(?:[^"\\]|\\.)*"|[^;]*)')
_MARKS = (b",", b":", b"[", b"{")
_VALUES, _VALUES_OF_A_DOCUMENT = 300_000, 30  # at most some 60 MB and 60 ms
_BLANK = " \t\r\n"  # between JSON's values; other separators may stand in its strings


def media_type(content_type: str | None, body: bytes) -> tuple[str, dict[str, str]]:
    """Return JSON, JSON_LINES or CSV, and the label's parameters. Raises UnsupportedMediaType."""
    name, semicolon, rest = (content_type or JSON).partition(";")
    label = name.strip().lower()
    found = JSON if label.endswith("+json") else _MEDIA_TYPES.get(label)
    if not found and label in _UNLABELLED and body.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        found = JSON
    if not found:
        raise UnsupportedMediaType(
            f"Content-Type {name.strip()[:80]!r} is not read here: send {JSON}, {JSON_LINES} or {CSV}."
        )
    parameters = {
        key.lower(): value.strip("\"' \t").lower() for key, value in _PARAMETER.findall(semicolon + rest)
    }
    if (charset := parameters.get("charset", "utf-8")) not in _CHARSETS:
        raise UnsupportedMediaType(f"Charset {charset[:40]!r} is not read here: send UTF-8.")
    return found, parameters


def accepts(accept: str) -> str:
    """Return the media type that an Accept header names first: JSON, JSON_LINES or CSV; "" where it leaves that open."""
    return _MEDIA_TYPES.get(accept.partition(",")[0].partition(";")[0].strip().lower(), "")


def most_values(limits: Limits) -> int:
    """Return how many JSON values and names a body may have."""
    return max(_VALUES, limits.max_documents * _VALUES_OF_A_DOCUMENT)


def most_fields(limits: Limits) -> int:
    """Return how many fields of CSV a body may have: a request or a pair has at most four."""
    return max(_VALUES, limits.max_documents * 5)


def bound_values(body: bytes, most: int) -> None:
    """Raise PayloadTooLarge where JSON has more values and names than `most`, each of which takes much memory."""
    # Each but the first follows one of four marks. Where strings hold too many of them, strings are left out: without
    # escapes every quotation mark begins or ends one.
    if sum(map(body.count, _MARKS)) < most:
        return
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    count, inside = 0, 0
    for start in range(0, len(plain), 65_536):
        parts = plain[start : start + 65_536].split(b'"')
        count += sum(map(b"".join(parts[inside::2]).count, _MARKS))
        inside ^= (len(parts) - 1) % 2
        if count >= most:
            raise PayloadTooLarge(
                f"The body has more than {most} JSON values: send only what is to be ranked."
            )


@contextmanager
def naming(part: str) -> Iterator[None]:
    """Let the sentence of an error begin with the part of the body that it is of; "": of all."""
    try:
        yield
    except RerankError as error:
        if part:
            error.args = (f"{part}: {error}",)
        raise


@contextmanager
def naming_the_dialect(name: str) -> Iterator[None]:
    """Let an error be answered in the form of that dialect, where it is not another's already."""
    try:
        yield
    except RerankError as error:
        error.dialect = error.dialect or name
        raise


def lines(text: str, most: int) -> Iterator[tuple[str, str]]:
    """Yield the name and text of each line, which ends at \\n alone.

    Raises InvalidRequest for a blank one between others, and PayloadTooLarge where there are more than `most`.
    """
    whole = text.rstrip(_BLANK)
    if not whole:
        return
    for number, found in enumerate(re.finditer(r"([^\n]*)(?:\n|$)", whole), 1):
        if found.start() == len(whole):
            return
        if not found[1].strip(_BLANK):
            raise InvalidRequest(f"Line {number} is blank, and answers go by lines: leave it out.")
        if number > most:
            raise _too_many(most)
        yield f"Line {number}", found[1]


def values(text: str, most: int) -> tuple[list[Any], bool]:
    """Return the values of a JSON body and whether they are several: one after the other, or objects in a list.

    Raises PayloadTooLarge where there are more than `most`.
    """
    found: list[Any] = []
    at, whole = 0, text.rstrip(_BLANK)
    while at < len(whole):
        value, at = _value(whole, "The body", at)
        found.append(value)
        if len(found) > most:
            raise _too_many(most)
    if (
        len(found) == 1
        and isinstance(found[0], list)
        and found[0]
        and all(isinstance(one, dict) for one in found[0])
    ):
        if len(found[0]) > most:
            raise _too_many(most)
        return found[0], True
    return found, len(found) > 1


def _too_many(most: int) -> PayloadTooLarge:
    """Return the error of a body that holds more requests than documents are allowed: one may have none of these."""
    return PayloadTooLarge(f"The body has more than {most} requests: split it.")


def decode(text: str, name: str) -> Any:
    """Return the value of a JSON text. Raises InvalidRequest, for NaN and infinities too, without quoting it."""
    value, end = _value(text, name)
    if text[end:].strip(_BLANK):
        raise _not_json(name, text, end)
    return value


def _value(text: str, name: str, start: int = 0) -> tuple[Any, int]:
    """Return the value that begins there, and where it ends."""
    try:
        return _DECODER.raw_decode(text, _NOT_BLANK.search(text, start).start())  # type: ignore[union-attr]
    except RecursionError:
        raise InvalidRequest(f"{name} is nested too deeply: send a flat request.") from None
    except json.JSONDecodeError as error:
        raise _not_json(name, text, error.pos) from None
    except ValueError:  # a number of too many digits
        raise InvalidRequest(f"{name} is not JSON: send valid JSON.") from None


def _not_json(name: str, text: str, at: int) -> InvalidRequest:
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    return InvalidRequest(f"{name} is not JSON (line {line}, column {column}): send valid JSON.")


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"{name} is not a JSON number: send a finite one.")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_NOT_BLANK = re.compile(r"[^ \t\r\n]|$")
