"""From the bytes of a body to the JSON values and rows in it, one for each request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from ..contract import InvalidRequest, Limits, PayloadTooLarge, UnsupportedMediaType

JSON, JSON_LINES, CSV = "application/json", "application/jsonlines", "text/csv"
_MEDIA_TYPES = {
    JSON: JSON,
    JSON_LINES: JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/x-ndjson": JSON_LINES,
    CSV: CSV,
}
_CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")
_PARAMETER = re.compile(r';\s*([^\s=;"]+)=("(?:[^"\\]|\\.)*"|[^;]*)')
_MARKS = (b",", b":", b"[", b"{")
_VALUES, _VALUES_OF_A_DOCUMENT = 300_000, 30  # at most some 60 MB and 60 ms


def media_type(content_type: str | None) -> str:
    name, semicolon, parameters = (content_type or JSON).partition(";")
    found = _MEDIA_TYPES.get(name.strip().lower())
    if not found:
        raise UnsupportedMediaType(
            f"Content-Type {name.strip()[:80]!r} is not read here: send {JSON}, {JSON_LINES} or {CSV}."
        )
    for key, value in _PARAMETER.findall(semicolon + parameters):
        if key.lower() == "charset" and value.strip("\"' \t").lower() not in _CHARSETS:
            raise UnsupportedMediaType(f"Charset {value.strip()[:40]!r} is not read here: send UTF-8.")
    return found


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield numbered lines, without blank ones. A line ends at \\n: other separators may stand in JSON's strings."""
    number, counted = 1, 0
    for line in re.finditer(r"[^ \t\r\n][^\n]*", text):
        number += text.count("\n", counted, line.start())
        counted = line.start()
        yield number, line.group()


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


def decode(text: str, name: str) -> Any:
    """Return the value of a JSON text. Raises InvalidRequest, for NaN and infinities too, without quoting it."""
    if not text.strip():
        raise InvalidRequest("The body is empty: send a request.")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidRequest(f"{name} is nested too deeply: send a flat request.") from None
    except ValueError as error:
        where = (
            f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        )
        raise InvalidRequest(f"{name} is not JSON{where}: send valid JSON.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"{name} is not a JSON number: send a finite one.")


def most_values(limits: Limits) -> int:
    """Return how many JSON values and names a body may have."""
    return max(_VALUES, limits.max_documents * _VALUES_OF_A_DOCUMENT)
