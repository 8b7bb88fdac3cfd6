"""The request shapes in use for reranking, each answered in kind: one file for each family of wire formats.

A new one is a file with a Dialect, a line in the table below, and a test. On /invocations the shape of the body decides;
a route of one dialect alone, and the headers of an SDK, decide before it. docs/api.md shows every dialect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ..contract import (
    InvalidRequest,
    Limits,
    PayloadTooLarge,
    RerankError,
    RerankRequest,
    Scores,
    sigmoid,
    status,
)
from ..scale import AS_IT_IS, Scale
from .bedrock import Bedrock
from .body import (
    CSV,
    JSON,
    JSON_LINES,
    accepts,
    bound_values,
    decode,
    lines,
    media_type,
    most_fields,
    most_values,
    naming,
    naming_the_dialect,
    values,
)
from .cohere import CohereV1, CohereV2
from .dashscope import DashScope
from .dialect import Dialect, Scored
from .elastic import Elastic
from .encode import encode
from .fields import Allowance, Fields, type_name
from .huggingface import (
    HuggingFace,
    HuggingFaceRanking,
    HuggingFaceTexts,
    SentenceSimilarity,
    TeiPredict,
)
from .jina import Jina, Marketplace, detail
from .mixedbread import Mixedbread
from .nvidia import Nvidia
from .pairs import Dify, LangChain
from .pinecone import Pinecone
from .rows import Table, read_csv
from .score import DeepInfra, Score
from .tei import Tei, error_type
from .voyage import Voyage
from .weaviate import Weaviate

__all__ = [
    "CSV",
    "DIALECTS",
    "JSON",
    "JSON_LINES",
    "ROUTES",
    "SHARED",
    "Call",
    "Refusal",
    "accepts",
    "parse",
    "render",
    "render_error",
    "sigmoid",
]

_BEDROCK, _JINA, _MARKETPLACE = Bedrock(), Jina(), Marketplace()
# By name. A body is read by the dialect of its route, else by the first that recognises it, or whose SDK's headers it came with.
DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        _BEDROCK,
        Score(),
        Pinecone(),
        Weaviate(),
        Voyage(),
        CohereV2(),
        CohereV1(),
        _JINA,
        _MARKETPLACE,
        Tei(),
        Nvidia(),
        DashScope(),
        Mixedbread(),
        Elastic(),
        LangChain(),
        Dify(),
        SentenceSimilarity(),
        HuggingFaceTexts(),
        HuggingFaceRanking(),
        HuggingFace(),
        TeiPredict(),
        DeepInfra(),
        Table(),
    )
}
_MODEL = "/model/"  # what paths of Bedrock's InvokeModel begin with
# Where requests are taken: on these in any dialect, on the others in their own.
SHARED = (
    "/",
    "/invocations",
    "/rerank",
    "/v1/rerank",
    "/v1/reranks",
    "/inference/v1/rerank",
    "/compatible-api/v1/reranks",
    "/v1/models/rerank",
    f"{_MODEL}{{model}}/invoke",
)
ROUTES = (*SHARED, *(path for dialect in DIALECTS.values() for path in dialect.paths))

_SHAPES = ", ".join(dict.fromkeys(dialect.shape for dialect in DIALECTS.values() if dialect.shape))
_SHAPES += " or what else GET /openapi.json shows"
_EMPTY = f"The body is empty: send a request such as {_JINA.shape}."
_LIMITS = Limits()
_NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Call:
    """The body of one HTTP request: one rerank request, or one a line."""

    requests: tuple[RerankRequest, ...]
    media_type: str
    scale: Scale = AS_IT_IS  # by which the answer shows the scores

    @property
    def dialect(self) -> str:
        """By name: the form in which errors are answered, whatever else the lines hold."""
        return self.requests[0].dialect


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as it is answered: the status, the body and its own headers."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def parse(
    body: bytes,
    content_type: str | None,
    *,
    path: str = "/invocations",
    headers: Mapping[str, str] = _NO_HEADERS,
    limits: Limits = _LIMITS,
    scale: Scale = AS_IT_IS,
) -> Call:
    """Read a body of any dialect. No content type means JSON.

    headers: by lower-case names. scale: how the artefact's logits become scores; `render` reads it from the call.
    Raises a RerankError, with its dialect where that is known, for anything that cannot be scored as it stands.
    """
    if len(body) > limits.max_body_bytes:
        raise PayloadTooLarge(
            f"The body has {len(body)} bytes, more than {limits.max_body_bytes}: split the documents over several requests."
        )
    kind, parameters = media_type(content_type, body)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8 (byte {error.start}): encode it as UTF-8.") from None
    # InvokeModel is signed as Rerank is, and its bodies are any model's.
    known, greeted = _of_path(path), None if path.startswith(_MODEL) else _of_headers(headers)
    allowance = Allowance(limits.max_documents, scale, limits.max_body_bytes)
    most = most_values(limits)
    if kind == CSV:
        return Call(tuple(_read_csv(text, allowance, limits, parameters)), kind, scale)
    bound_values(body, most)
    requests = []
    if kind == JSON:
        payloads, several = values(text, limits.max_documents)
        kind = JSON_LINES if several else JSON
        for number, payload in enumerate(payloads, 1):
            with naming(f"Request {number}" if several else ""):
                requests.append(_read(payload, known, greeted, allowance))
    else:
        for name, line in lines(text, limits.max_documents):
            with naming(name):
                requests.append(_read(decode(line, "The body"), known, greeted, allowance))
    if not requests:
        raise InvalidRequest(_EMPTY)
    return Call(tuple(requests), kind, scale)


def _read_csv(
    text: str, allowance: Allowance, limits: Limits, parameters: Mapping[str, str]
) -> list[RerankRequest]:
    most = most_values(limits)

    def documents(text: str) -> Any:
        bound_values(text.encode(), most)
        return decode(text, "documents")

    header = {"present": True, "absent": False}.get(parameters.get("header", ""))
    with naming_the_dialect(_MARKETPLACE.name):
        if text.count("\n") > most:
            raise PayloadTooLarge(f"The body has more than {most} lines: leave out the blank ones.")
        found = read_csv(
            text,
            allowance,
            documents,
            max_bytes=limits.max_body_bytes,
            most=most_fields(limits),
            header=header,
        )
        requests = list(found)
        if not requests:
            raise InvalidRequest(_EMPTY)
    return requests


def dialect_of(path: str, headers: Mapping[str, str]) -> Dialect | None:
    """Return the dialect that errors are answered in before a body is read; None where nothing tells it.

    headers: by lower-case names.
    """
    return _of_path(path) or _of_headers(headers)


@lru_cache(maxsize=64)
def _of_path(path: str) -> Dialect | None:
    return next((dialect for dialect in DIALECTS.values() if dialect.on(path)), None)


def _of_headers(headers: Mapping[str, str]) -> Dialect | None:
    return next((dialect for dialect in DIALECTS.values() if dialect.greets(headers)), None)


def _shaped(payload: dict[str, Any], greeted: Dialect | None) -> Dialect | None:
    """Return the dialect of a body: the first that recognises it, the SDK's own wherever its keys are there."""
    for dialect in DIALECTS.values():
        if dialect.recognises(payload) or (
            dialect is greeted and all(key in payload for key in dialect.keys)
        ):
            return dialect
    # A query alone is for Jina's reader, which says that the documents are missing.
    return greeted or (_JINA if "query" in payload else None)


def _read(
    payload: Any, known: Dialect | None, greeted: Dialect | None, allowance: Allowance
) -> RerankRequest:
    if not isinstance(payload, dict):
        raise InvalidRequest(
            f"The body must be a JSON object, not {type_name(payload)}: send one of {_SHAPES}."
        )
    dialect = known or _shaped(payload, greeted)
    if not dialect:
        raise InvalidRequest(f"The body has none of the shapes known here: send {_SHAPES}.")
    with naming_the_dialect(dialect.name):
        return dialect.read(Fields(payload, allowance))


def render(
    call: Call, scores: Sequence[Sequence[Scores]], *, model: str, request_id: str, accept: str = ""
) -> tuple[bytes, str]:
    """Return body and content type of the answer. scores[r][g] are those of group g of request r.

    accept: the caller's header. CSV has the scores in the order of the request: one a line, or of one request a line
    where there are several.
    """
    scored = [
        Scored(request, of_groups, model, request_id, call.scale)
        for request, of_groups in zip(call.requests, scores, strict=True)
    ]
    wanted = accepts(accept) or (CSV if scored[0].request.dialect == Table.name else "")
    if wanted == CSV:
        rows = (
            [[value] for value in scored[0].in_order()]
            if len(scored) == 1
            else [s.in_order() for s in scored]
        )
        return "".join(",".join(map(repr, row)) + "\n" for row in rows).encode(), CSV
    answers = [DIALECTS[one.request.dialect].answer(one) for one in scored]
    if len(answers) == 1 and call.media_type != JSON_LINES and (call.media_type == JSON or wanted == JSON):
        return encode(answers[0]), JSON
    return b"".join(encode(answer) + b"\n" for answer in answers), JSON_LINES


def render_error(
    error: RerankError,
    *,
    path: str,
    request_id: str,
    headers: Mapping[str, str] = _NO_HEADERS,
    dialect: str = "",
) -> Refusal:
    """Return an error in the form of its dialect; where the request could not be read that far, of path and headers.

    dialect: by name; by default the error's. Where none is known, the body has the fields that all clients look for.
    AWS's SDKs read AWS's form alone, whichever model's body they carried to InvokeModel.
    """
    name = _BEDROCK.name if path.startswith(_MODEL) else dialect or error.dialect
    form = DIALECTS[name] if name else dialect_of(path, headers)
    if form:
        return Refusal(form.status(error), encode(form.error(error, request_id)), form.error_headers(error))
    unread = {"message": str(error), "error": str(error), "error_type": error_type(error)}
    return Refusal(status(error), encode(detail(error, request_id) | unread))
