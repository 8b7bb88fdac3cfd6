"""The request shapes in use for reranking, each answered in kind.

On /invocations the shape of the body decides; the HTTP twins narrow it: /v2/rerank is Cohere's v2, /rerank
and /v1/rerank are Jina's unless the body is plainly another's. docs/api.md shows every dialect.
"""

from __future__ import annotations

import csv
import io
import json
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from .contract import (
    Dialect,
    Group,
    InvalidRequest,
    Limits,
    Overloaded,
    PayloadTooLarge,
    RerankError,
    RerankRequest,
    Scores,
    TokenLimitExceeded,
    Truncation,
    Unavailable,
    UnsupportedMediaType,
    best_first,
    status,
)

JSON, JSON_LINES, CSV = "application/json", "application/jsonlines", "text/csv"
_MEDIA_TYPES = {
    JSON: JSON,
    JSON_LINES: JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/x-ndjson": JSON_LINES,
    CSV: CSV,
}
_SHAPES = (
    '{"query", "documents"} (Jina, Cohere), {"data": {"query", "documents"}} (Jina on AWS Marketplace), {"query", "texts"} (TEI), '
    '{"text_pairs"} (LangChain), {"inputs": [{"text", "text_pair"}]} (Hugging Face) or {"inputs", "docs"} (Dify)'
)


_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Call:
    """The body of one HTTP request: one rerank request, or one a line."""

    requests: tuple[RerankRequest, ...]
    media_type: str


def parse(
    body: bytes, content_type: str | None, *, path: str = "/invocations", limits: Limits = _LIMITS
) -> Call:
    """Raise a RerankError, with its dialect where that is known, for anything that cannot be scored as it
    stands.
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
    if media_type == JSON:
        requests = [_parse_one(text, path, limits)]
    elif media_type == JSON_LINES:
        requests = [
            _at_line(number, _parse_one, line, path, limits)
            for number, line in enumerate(text.splitlines(), 1)
            if line.strip()
        ]
    else:
        requests = _parse_csv(text, limits)
    if not requests:
        raise InvalidRequest(f"The body is empty: send a request such as {_SHAPES}.")
    count = sum(len(group.documents) for request in requests for group in request.groups)
    if count > limits.max_documents:
        raise _with(
            requests[0].dialect,
            PayloadTooLarge(
                f"The request has {count} documents, more than {limits.max_documents}: split it."
            ),
        )
    return Call(tuple(requests), media_type)


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


def _with(dialect: Dialect, error: RerankError) -> RerankError:
    error.dialect = dialect
    return error


def _at_line(number: int, read: Callable[..., RerankRequest], *arguments: object) -> RerankRequest:
    try:
        return read(*arguments)
    except RerankError as error:
        error.args = (f"Line {number}: {error}",)
        raise


def _load(text: str) -> Any:
    if not text.strip():
        raise InvalidRequest(f"The body is empty: send a request such as {_SHAPES}.")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply: send a flat request.") from None
    except ValueError as error:
        place = (
            f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        )
        raise InvalidRequest(f"The body is not JSON{place}: send a JSON object.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"{name} is not a JSON number: send a finite one.")


def _parse_one(text: str, path: str, limits: Limits) -> RerankRequest:
    payload = _load(text)
    if not isinstance(payload, dict):
        raise InvalidRequest(f"The body must be a JSON object, not {_kind(payload)}: send one of {_SHAPES}.")
    dialect = _recognise(payload, path)
    try:
        return _READERS[dialect](_Fields(payload), dialect)
    except RerankError as error:
        raise _with(dialect, error) from None


def _recognise(payload: Mapping[str, Any], path: str) -> Dialect:
    if path == "/v2/rerank":
        return Dialect.COHERE_V2
    if "documents" in payload:
        if payload.get("api_version") == 2 or "priority" in payload:
            return Dialect.COHERE_V2
        if payload.get("api_version") == 1 or "rank_fields" in payload or "max_chunks_per_doc" in payload:
            return Dialect.COHERE_V1
        return Dialect.JINA
    for key, dialect in _BY_KEY.items():
        if key in payload:
            return Dialect.DIFY if key == "inputs" and "docs" in payload else dialect
    if "query" in payload:
        return Dialect.JINA  # whose reader then says that the documents are missing
    raise InvalidRequest(f"The body has none of the shapes known here: send {_SHAPES}.")


_BY_KEY = {
    "data": Dialect.MARKETPLACE,
    "texts": Dialect.TEI,
    "text_pairs": Dialect.LANGCHAIN,
    "inputs": Dialect.HUGGING_FACE,
}


# -- fields --------------------------------------------------------------------------------------------------


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), "something else")


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a string, not {_kind(value)}.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(
                f"{name} holds half of a surrogate pair, which is no text: send valid Unicode."
            ) from None
    return value


def _query(value: object, name: str = "query") -> str:
    if isinstance(value, dict):
        if "image" in value:
            raise InvalidRequest(f"{name} is an image, and these models read text: send a string.")
        value = value.get("text")
    text = _text(value, name)
    if not text.strip():
        raise InvalidRequest(f"{name} is blank: send the words to rank the documents for.")
    return text


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequest(f"{name} must be a list, not {_kind(value)}.")
    if not value:
        raise InvalidRequest(f"{name} is empty: send at least one document.")
    return value


def _documents(
    value: object, name: str = "documents", rank_fields: Sequence[str] = ("text",)
) -> tuple[str, ...]:
    """Texts of a list of strings or objects. An empty text is a document like any other."""
    texts = []
    for index, item in enumerate(_list(value, name)):
        if isinstance(item, dict):
            present = [field for field in rank_fields if field in item]
            if not present:
                fields = " or ".join(map(repr, rank_fields))
                raise InvalidRequest(f"{name}[{index}] has no field {fields}: name the text to rank.")
            texts.append("\n".join(_text(item[field], f"{name}[{index}].{field}") for field in present))
        elif isinstance(item, str):
            texts.append(_text(item, f"{name}[{index}]"))
        else:
            raise InvalidRequest(
                f'{name}[{index}] must be a string or an object with "text", not {_kind(item)}.'
            )
    return tuple(texts)


@dataclass(frozen=True, slots=True)
class _Fields:
    """A JSON object read field by field, under the first of several names that is present and not null."""

    payload: Mapping[str, Any]

    def get(self, *names: str) -> tuple[str, Any]:
        return next(
            ((name, self.payload[name]) for name in names if self.payload.get(name) is not None),
            (names[0], None),
        )

    def flag(self, *names: str, default: bool) -> bool:
        name, value = self.get(*names)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidRequest(f"{name} must be true or false, not {_kind(value)}.")
        return value

    def count(self, *names: str) -> int | None:
        name, value = self.get(*names)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidRequest(f"{name} must be a whole number of at least 1.")
        return value

    def refuse(self, *names: str) -> None:
        for name in names:
            if self.payload.get(name):
                raise InvalidRequest(f"{name} is not offered by these models: leave it out.")


# -- requests ------------------------------------------------------------------------------------------------


def _read_jina(fields: _Fields, dialect: Dialect) -> RerankRequest:
    fields.refuse("return_embeddings", "image", "images")
    group = _group(fields)
    return RerankRequest(
        dialect,
        (group,),
        return_documents=fields.flag("return_documents", default=True),
        truncation=Truncation(
            allowed=fields.flag("truncate", "truncation", default=True),
            max_document_tokens=fields.count("max_doc_length", "max_tokens_per_doc"),
        ),
    )


def _group(fields: _Fields, *, rank_fields: Sequence[str] = ("text",), identity: str | None = None) -> Group:
    query = _query(fields.payload.get("query"))
    raw = fields.payload.get("documents")
    texts = _documents(raw, rank_fields=rank_fields)
    return Group(query, texts, fields.count("top_n", "top_k"), tuple(raw or ()), identity)


def _read_marketplace(fields: _Fields, dialect: Dialect) -> RerankRequest:
    data = fields.payload["data"]
    entries = _list(data, "data") if isinstance(data, list) else [data]
    groups = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InvalidRequest(
                f"data[{index}] must be an object with query and documents, not {_kind(entry)}."
            )
        groups.append(_group(_Fields(entry)))
    return RerankRequest(dialect, tuple(groups), return_documents=True)


def _read_cohere(fields: _Fields, dialect: Dialect) -> RerankRequest:
    rank_fields: Sequence[str] = ("text",)
    name, value = fields.get("rank_fields")
    if value is not None:
        rank_fields = [_text(field, f"{name}[{index}]") for index, field in enumerate(_list(value, name))]
    return RerankRequest(
        dialect,
        (_group(fields, rank_fields=rank_fields),),
        return_documents=dialect is Dialect.COHERE_V1 and fields.flag("return_documents", default=False),
        truncation=Truncation(max_document_tokens=fields.count("max_tokens_per_doc")),
    )


def _read_tei(fields: _Fields, dialect: Dialect) -> RerankRequest:
    direction = fields.payload.get("truncation_direction") or "Right"
    if direction not in ("Left", "Right", "left", "right"):
        raise InvalidRequest('truncation_direction must be "Left" or "Right".')
    texts = [
        _text(text, f"texts[{index}]")
        for index, text in enumerate(_list(fields.payload.get("texts"), "texts"))
    ]
    return RerankRequest(
        dialect,
        (Group(_query(fields.payload.get("query")), tuple(texts)),),
        return_documents=fields.flag("return_text", default=False),
        raw_scores=fields.flag("raw_scores", default=False),
        truncation=Truncation(
            allowed=fields.flag("truncate", default=True), left=direction.lower() == "left"
        ),
    )


def _by_query(pairs: Sequence[tuple[str, str]]) -> tuple[Group, ...]:
    """Runs of pairs with the same query, in order."""
    groups: list[tuple[str, list[str]]] = []
    for query, document in pairs:
        if not groups or groups[-1][0] != query:
            groups.append((query, []))
        groups[-1][1].append(document)
    return tuple(Group(query, tuple(documents)) for query, documents in groups)


def _read_langchain(fields: _Fields, dialect: Dialect) -> RerankRequest:
    pairs = []
    for index, pair in enumerate(_list(fields.payload["text_pairs"], "text_pairs")):
        if not isinstance(pair, list) or len(pair) != 2:
            raise InvalidRequest(f"text_pairs[{index}] must be a list of query and document.")
        pairs.append((_query(pair[0], f"text_pairs[{index}][0]"), _text(pair[1], f"text_pairs[{index}][1]")))
    return RerankRequest(dialect, _by_query(pairs))


def _read_hugging_face(fields: _Fields, dialect: Dialect) -> RerankRequest:
    inputs = fields.payload["inputs"]
    pairs = []
    for index, pair in enumerate([inputs] if isinstance(inputs, dict) else _list(inputs, "inputs")):
        if not isinstance(pair, dict) or "text" not in pair or "text_pair" not in pair:
            raise InvalidRequest(
                f"inputs[{index}] must be an object with text (the query) and text_pair (the document)."
            )
        pairs.append(
            (
                _query(pair["text"], f"inputs[{index}].text"),
                _text(pair["text_pair"], f"inputs[{index}].text_pair"),
            )
        )
    return RerankRequest(dialect, _by_query(pairs))


def _read_dify(fields: _Fields, dialect: Dialect) -> RerankRequest:
    queries, documents = _list(fields.payload["inputs"], "inputs"), _list(fields.payload["docs"], "docs")
    if len(queries) != len(documents):
        raise InvalidRequest(
            f"inputs has {len(queries)} entries and docs {len(documents)}: send one query for each document."
        )
    pairs = [
        (_query(query, f"inputs[{index}]"), _text(document, f"docs[{index}]"))
        for index, (query, document) in enumerate(zip(queries, documents, strict=True))
    ]
    return RerankRequest(dialect, _by_query(pairs))


_READERS: dict[Dialect, Callable[[_Fields, Dialect], RerankRequest]] = {
    Dialect.JINA: _read_jina,
    Dialect.MARKETPLACE: _read_marketplace,
    Dialect.COHERE_V1: _read_cohere,
    Dialect.COHERE_V2: _read_cohere,
    Dialect.TEI: _read_tei,
    Dialect.LANGCHAIN: _read_langchain,
    Dialect.HUGGING_FACE: _read_hugging_face,
    Dialect.DIFY: _read_dify,
}


def _parse_csv(text: str, limits: Limits) -> list[RerankRequest]:
    """Batch transform as jina-sagemaker writes it: id, query, JSON list of {"text"}, top_n; commas and quotes
    escaped by \\.
    """
    requests = []
    csv.field_size_limit(limits.max_body_bytes + 1)
    try:
        for number, row in enumerate(csv.reader(io.StringIO(text), escapechar="\\", doublequote=True), 1):
            if row:
                requests.append(_at_line(number, _csv_row, row))
    except csv.Error as error:
        raise _with(
            Dialect.MARKETPLACE,
            InvalidRequest(f"The body is not CSV ({error}): send id,query,documents,top_n."),
        ) from None
    return requests


def _csv_row(row: Sequence[str]) -> RerankRequest:
    try:
        if len(row) not in (3, 4):
            raise InvalidRequest(
                f"expected id,query,documents[,top_n], got {len(row)} columns: escape commas in a text with a backslash."
            )
        identity, query, documents, *rest = row
        payload: dict[str, Any] = {"query": query, "documents": _load(documents)}
        if rest and rest[0].strip():
            if not rest[0].strip().isdecimal():
                raise InvalidRequest("top_n must be a whole number of at least 1.")
            payload["top_n"] = int(rest[0])
        group = _group(_Fields(payload), identity=identity)
    except RerankError as error:
        raise _with(Dialect.MARKETPLACE, error) from None
    return RerankRequest(Dialect.MARKETPLACE, (group,), return_documents=True)


# -- answers -------------------------------------------------------------------------------------------------


def sigmoid(logit: float) -> float:
    """In (0, 1) without overflow for any finite logit."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1.0 + power)


def render(
    call: Call, scores: Sequence[Sequence[Scores]], *, model: str, request_id: str
) -> tuple[bytes, str]:
    """Body and content type. scores[r][g] are those of group g of request r."""
    answers = [
        _answer(request, request_scores, model, request_id)
        for request, request_scores in zip(call.requests, scores, strict=True)
    ]
    if call.media_type == JSON:
        return _dump(answers[0]), JSON
    return b"".join(_dump(answer) + b"\n" for answer in answers), JSON_LINES


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _answer(request: RerankRequest, scores: Sequence[Scores], model: str, request_id: str) -> object:
    values = [
        list(group.values) if request.raw_scores else [sigmoid(value) for value in group.values]
        for group in scores
    ]
    flat = [value for group in values for value in group]
    match request.dialect:
        case Dialect.LANGCHAIN | Dialect.DIFY:
            return {"scores": flat}
        case Dialect.HUGGING_FACE:
            return [{"label": "LABEL_0", "score": value} for value in flat]
        case Dialect.MARKETPLACE:
            entries = zip(request.groups, scores, values, strict=True)
            return {"data": [_marketplace_entry(*entry) for entry in entries], "parameters": {}}
    # By logit: far from zero, sigmoids of different logits are the same number.
    group, ranked = request.groups[0], best_first(scores[0].values, request.groups[0].top_n)
    originals = group.originals or group.documents
    if request.dialect is Dialect.TEI:
        return [
            {"index": index, "score": values[0][index]}
            | ({"text": group.documents[index]} if request.return_documents else {})
            for index in ranked
        ]
    results: list[dict[str, object]] = []
    for index in ranked:
        results.append({"index": index, "relevance_score": round(values[0][index], 8)})
        if request.return_documents:
            document = originals[index]
            as_object = request.dialect is Dialect.COHERE_V1 and isinstance(document, str)
            results[-1]["document"] = {"text": document} if as_object else document
    if request.dialect is Dialect.JINA:
        return {
            "model": model,
            "object": "list",
            "usage": {"total_tokens": scores[0].total_tokens},
            "results": results,
        }
    version = "1" if request.dialect is Dialect.COHERE_V1 else "2"
    meta = {
        "api_version": {"version": version},
        "billed_units": {"search_units": math.ceil(len(group.documents) / 100)},
    }
    return {"id": request_id, "results": results, "meta": meta}


def _marketplace_entry(group: Group, scores: Scores, values: Sequence[float]) -> dict[str, object]:
    identity = group.identity or uuid.uuid4().hex
    results = []
    for index in best_first(scores.values, group.top_n):
        document = uuid.uuid4().hex
        results.append(
            {
                "id": identity,
                "index": index,
                "document": {"id": document, "text": group.documents[index]},
                "relevance_score": values[index],
                "usage": {"id": document, "total_tokens": scores.document_tokens[index]},
            }
        )
    return {
        "id": identity,
        "query_usage": {"id": identity, "total_tokens": scores.query_tokens},
        "results": results,
    }


def render_error(error: RerankError, *, path: str, request_id: str) -> bytes:
    """JSON in the error form of the dialect; where the request could not be read that far, of the path."""
    dialect = error.dialect or (Dialect.COHERE_V2 if path == "/v2/rerank" else Dialect.JINA)
    message = str(error)
    match dialect:
        case Dialect.COHERE_V1 | Dialect.COHERE_V2:
            return _dump({"message": message, "id": request_id})
        case Dialect.TEI:
            return _dump({"error": message, "error_type": _tei_type(error)})
        case Dialect.HUGGING_FACE | Dialect.LANGCHAIN | Dialect.DIFY:
            return _dump({"error": message, "request_id": request_id})
    return _dump({"detail": {"message": message, "request_id": request_id, "code": _code(error)}})


def _tei_type(error: RerankError) -> str:
    if isinstance(error, InvalidRequest):
        return "Validation"
    return {Overloaded: "Overloaded", Unavailable: "Unhealthy"}.get(type(error), "Backend")


def _code(error: RerankError) -> str:
    if isinstance(error, TokenLimitExceeded):
        return "INPUT_TOKEN_LIMIT_EXCEEDED"
    return {
        400: "INVALID_REQUEST",
        413: "PAYLOAD_TOO_LARGE",
        415: "UNSUPPORTED_MEDIA_TYPE",
        429: "OVERLOADED",
    }.get(status(error), {503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}.get(status(error), "INTERNAL_ERROR"))
