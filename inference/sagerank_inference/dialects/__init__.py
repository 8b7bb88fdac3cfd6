"""The request shapes in use for reranking, each answered in kind: one file for each family of wire formats.

On /invocations the shape of the body decides; the HTTP twins narrow it: /v2/rerank is Cohere's v2, /rerank
and /v1/rerank are Jina's unless the body is plainly another's. docs/api.md shows every dialect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, NoReturn

from ..contract import (
    InvalidRequest,
    Limits,
    PayloadTooLarge,
    RerankError,
    RerankRequest,
    Scores,
    UnsupportedMediaType,
)
from .cohere import CohereV1, CohereV2
from .dialect import Dialect, Scored, Written, sigmoid
from .fields import Allowance, Fields, type_name
from .jina import Jina, Marketplace, csv_rows
from .pairs import Dify, HuggingFace, LangChain
from .tei import Tei

__all__ = ["DIALECTS", "JSON", "Call", "parse", "render", "render_error", "sigmoid"]

_JINA, _MARKETPLACE = Jina(), Marketplace()
# By name. A body is read by the dialect of its path, else by the first that recognises it.
DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (CohereV2(), CohereV1(), _JINA, _MARKETPLACE, Tei(), LangChain(), HuggingFace(), Dify())
}
*_others, _last = (dialect.shape for dialect in DIALECTS.values() if dialect.shape)
_SHAPES = f"{', '.join(_others)} or {_last}"

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
_LIMITS = Limits()
_MARKS = (b",", b":", b"[", b"{")
_VALUES, _VALUES_OF_A_DOCUMENT = 300_000, 30  # at most some 60 MB and 60 ms
_EMPTY = f"The body is empty: send a request such as {_SHAPES}."
_WRITTEN = "\ud800"  # stands for a Written value: no text holds half of a surrogate pair


@dataclass(frozen=True, slots=True)
class Call:
    """The body of one HTTP request: one rerank request, or one a line."""

    requests: tuple[RerankRequest, ...]
    media_type: str

    @property
    def dialect(self) -> str:
        """By name: the form in which errors are answered, whatever else the lines hold."""
        return self.requests[0].dialect


def parse(
    body: bytes, content_type: str | None, *, path: str = "/invocations", limits: Limits = _LIMITS
) -> Call:
    """Read a body of any dialect. No content type means JSON.

    Raises a RerankError, with its dialect where that is known, for anything that cannot be scored as it stands.
    """
    if len(body) > limits.max_body_bytes:
        raise PayloadTooLarge(
            f"The body has {len(body)} bytes, more than {limits.max_body_bytes}: split the documents over several requests."
        )
    media_type = _media_type(content_type)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8 (byte {error.start}): encode it as UTF-8.") from None
    allowance = Allowance(limits.max_documents)
    values = max(_VALUES, limits.max_documents * _VALUES_OF_A_DOCUMENT)
    if media_type != CSV:  # whose JSON is known by columns
        _bound_values(body, values)
    requests = []
    if media_type == JSON:
        requests.append(_read(text, path, allowance))
    elif media_type == JSON_LINES:
        for number, line in _lines(text):
            with _naming_the_line(number):
                requests.append(_read(line, path, allowance))
    else:
        with _naming_the_dialect(_MARKETPLACE):
            if body.count(b"\n") > values:
                raise PayloadTooLarge(f"The body has more than {values} lines: leave out the blank ones.")

            def decode(documents: str) -> Any:
                _bound_values(documents.encode(), values)
                return _decode(documents, "documents")

            for number, row in csv_rows(text, max_bytes=limits.max_body_bytes):
                with _naming_the_line(number):
                    requests.append(_MARKETPLACE.read_row(row, allowance, decode))
    if not requests:
        raise InvalidRequest(_EMPTY)
    return Call(tuple(requests), media_type)


def _media_type(content_type: str | None) -> str:
    name, semicolon, parameters = (content_type or JSON).partition(";")
    media_type = _MEDIA_TYPES.get(name.strip().lower())
    if not media_type:
        raise UnsupportedMediaType(
            f"Content-Type {name.strip()[:80]!r} is not read here: send {JSON}, {JSON_LINES} or {CSV}."
        )
    for key, value in _PARAMETER.findall(semicolon + parameters):
        if key.lower() == "charset" and value.strip("\"' \t").lower() not in _CHARSETS:
            raise UnsupportedMediaType(f"Charset {value.strip()[:40]!r} is not read here: send UTF-8.")
    return media_type


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield numbered lines, without blank ones. A line ends at \\n: other separators may stand in JSON's strings."""
    number, counted = 1, 0
    for line in re.finditer(r"[^ \t\r\n][^\n]*", text):
        number += text.count("\n", counted, line.start())
        counted = line.start()
        yield number, line.group()


def _bound_values(body: bytes, most: int) -> None:
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
def _naming_the_dialect(dialect: Dialect) -> Iterator[None]:
    try:
        yield
    except RerankError as error:
        error.dialect = dialect.name
        raise


@contextmanager
def _naming_the_line(number: int) -> Iterator[None]:
    try:
        yield
    except RerankError as error:
        error.args = (f"Line {number}: {error}",)
        raise


def _read(text: str, path: str, allowance: Allowance) -> RerankRequest:
    payload = _decode(text, "The body")
    if not isinstance(payload, dict):
        raise InvalidRequest(
            f"The body must be a JSON object, not {type_name(payload)}: send one of {_SHAPES}."
        )
    recognised = (one for one in DIALECTS.values() if one.recognises(payload))
    # A query alone is for Jina's reader, which says that the documents are missing.
    dialect = _of_path(path) or next(recognised, _JINA if "query" in payload else None)
    if not dialect:
        raise InvalidRequest(f"The body has none of the shapes known here: send {_SHAPES}.")
    with _naming_the_dialect(dialect):
        return dialect.read(Fields(payload, allowance))


def _of_path(path: str) -> Dialect | None:
    return next((dialect for dialect in DIALECTS.values() if dialect.path == path), None)


def _decode(text: str, name: str) -> Any:
    """Return the value of a JSON text. Raises InvalidRequest, for NaN and infinities too, without quoting it."""
    if not text.strip():
        raise InvalidRequest(_EMPTY)
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


def render(
    call: Call, scores: Sequence[Sequence[Scores]], *, model: str, request_id: str
) -> tuple[bytes, str]:
    """Return body and content type of the answer. scores[r][g] are those of group g of request r."""
    answers = [
        DIALECTS[request.dialect].answer(Scored(request, of_groups, model, request_id))
        for request, of_groups in zip(call.requests, scores, strict=True)
    ]
    if call.media_type == JSON:
        return _encode(answers[0]), JSON
    return b"".join(_encode(answer) + b"\n" for answer in answers), JSON_LINES


def render_error(error: RerankError, *, path: str, request_id: str, dialect: str = "") -> bytes:
    """Return JSON in the error form of the dialect; where the request could not be read that far, of the path.

    dialect: by name; by default the error's.
    """
    name = dialect or error.dialect
    form = DIALECTS[name] if name else _of_path(path) or _JINA
    return _encode(form.error(error, request_id))


def _json(value: object, encode: Callable[[object], str]) -> str:
    """Return JSON, made of pieces: other threads wait while one is encoded."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{encode(name)}:{_json(one, encode)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(encode, value)) + "]"
    return encode(value)


def _encode(value: object) -> bytes:
    written: list[str] = []

    def mark(value: object) -> str:
        if not isinstance(value, Written):
            raise TypeError(f"{type(value).__name__} is not for JSON")
        written.append(value.json)
        return _WRITTEN

    encoder = json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"), default=mark
    )
    text = _json(value, encoder.encode)
    if written:
        between = text.split(f'"{_WRITTEN}"')
        text = "".join(chain.from_iterable(zip_longest(between, written, fillvalue="")))
    return text.encode()
