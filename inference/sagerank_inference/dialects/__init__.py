"""The request shapes in use for reranking, each answered in kind: one file for each family of wire formats.

On /invocations the shape of the body decides; the HTTP twins narrow it: /v2/rerank is Cohere's v2, /rerank
and /v1/rerank are Jina's unless the body is plainly another's. docs/api.md shows every dialect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
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
from .dialect import Dialect, Scored, sigmoid
from .fields import Fields, Raw, type_name
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
_LIMITS = Limits()
# JSON values in a body for each document that is allowed: an object of Python is up to forty times its text.
_VALUES = 50
# Without its end too: looked for again from every quote in it, that would take quadratic time.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# What stands for a Raw value while the rest is encoded. Half of a surrogate pair is in no text that was read.
_MARK = "\ud800"


@dataclass(frozen=True, slots=True)
class Call:
    """The body of one HTTP request: one rerank request, or one a line."""

    requests: tuple[RerankRequest, ...]
    media_type: str


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
    requests = []
    documents = 0
    for request in _requests(text, media_type, path, limits):
        requests.append(request)
        documents += sum(len(group.documents) for group in request.groups)
        if documents > limits.max_documents:
            with _naming_the_dialect(DIALECTS[requests[0].dialect]):
                more = "at least " if media_type != JSON else ""
                raise PayloadTooLarge(
                    f"The request has {more}{documents} documents, more than {limits.max_documents}: split it."
                )
    if not requests:
        raise InvalidRequest(f"The body is empty: send a request such as {_SHAPES}.")
    return Call(tuple(requests), media_type)


def _requests(text: str, media_type: str, path: str, limits: Limits) -> Iterator[RerankRequest]:
    def decode(text: str, name: str) -> Any:
        return _decode(text, name, _VALUES * limits.max_documents)

    if media_type == JSON:
        yield _read(decode(text, "The body"), path)
    elif media_type == JSON_LINES:
        # At line feeds alone: other characters that end a line elsewhere may stand in a string.
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip(" \t\r"):
                with _naming_the_line(number):
                    yield _read(decode(line, "The line"), path)
    else:
        with _naming_the_dialect(_MARKETPLACE):
            for number, row in csv_rows(text, max_bytes=limits.max_body_bytes):
                with _naming_the_line(number):
                    yield _MARKETPLACE.read_row(row, decode)


def _media_type(content_type: str | None) -> str:
    name, *parameters = (content_type or JSON).split(";")
    if name.strip().lower() not in _MEDIA_TYPES:
        raise UnsupportedMediaType(
            f"Content-Type {name.strip()[:80]!r} is not read here: send {JSON}, {JSON_LINES} or {CSV}."
        )
    for parameter in parameters:
        key, _, value = parameter.strip().lower().partition("=")
        if key == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii", "ascii"):
            raise UnsupportedMediaType(f"Charset {value[:40]!r} is not read here: send UTF-8.")
    return _MEDIA_TYPES[name.strip().lower()]


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


def _read(payload: object, path: str) -> RerankRequest:
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
        return dialect.read(Fields(payload))


def _of_path(path: str) -> Dialect | None:
    return next((dialect for dialect in DIALECTS.values() if dialect.path == path), None)


def _decode(text: str, name: str, most: int) -> Any:
    """Return the value of a JSON text, of at most so many values.

    Raises InvalidRequest, for NaN and infinities too, without quoting it. name: of the text, for messages.
    """
    if not text.strip():
        raise InvalidRequest(f"{name} is empty: send a request such as {_SHAPES}.")
    if _separators(text) > most and _separators(_STRING.sub("", text)) > most:
        raise PayloadTooLarge(f"{name} has more than {most} JSON values: send fewer fields, or split it.")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidRequest(f"{name} is nested too deeply: send a flat request.") from None
    except ValueError as error:
        where = (
            f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        )
        raise InvalidRequest(f"{name} is not JSON{where}: send a JSON object.") from None


def _separators(text: str) -> int:
    """Return about how many values a JSON text has, where it has no strings."""
    return text.count(",") + text.count("[") + text.count("{")


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


def render_error(error: RerankError, *, path: str, request_id: str) -> bytes:
    """Return JSON in the error form of the dialect; where the request could not be read that far, of the path."""
    dialect = DIALECTS[error.dialect] if error.dialect else _of_path(path) or _JINA
    return _encode(dialect.error(error, request_id))


def _encode(value: object) -> bytes:
    """Return JSON, with every Raw in it as it stands."""
    raws: list[str] = []

    def mark(raw: object) -> str:
        assert isinstance(raw, Raw)
        raws.append(raw.text)
        return _MARK

    text = json.dumps(value, default=mark, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if raws:
        parts = text.split(f'"{_MARK}"')
        text = parts[0] + "".join(chain.from_iterable(zip(raws, parts[1:], strict=True)))
    return text.encode()
