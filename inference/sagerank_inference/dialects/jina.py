"""Jina's API, and its AWS Marketplace package's, which nests the same under `data`."""

from __future__ import annotations

import uuid

from ..contract import RerankError, RerankRequest, TokenLimitExceeded, status
from .cohere import meta
from .dialect import Dialect, Scored
from .fields import Fields, invalid, read_list, type_name

_CODES = {
    400: "INVALID_REQUEST",
    401: "UNAUTHORIZED",
    408: "REQUEST_TIMEOUT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "OVERLOADED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Jina(Dialect):
    """Also that of vLLM, infinity, Xinference, LocalAI, GPUStack and Together: one answer has the fields of all."""

    name = "jina"
    example = {
        "query": "where is the dog",
        "documents": ["the dog is in my house", "hello world"],
        "top_n": 2,
        "return_documents": True,
    }
    keys = ("documents",)
    shape = '{"query", "documents"} (Jina, Cohere)'

    def read(self, fields: Fields) -> RerankRequest:
        fields.refuse("return_embeddings", "image", "images")
        echo = fields.flag("return_documents", default=True)
        return fields.request(self.name, [fields.group(echo=echo)], echo=echo)

    def answer(self, scored: Scored) -> object:
        raw = {"raw_scores": True} if scored.request.raw_scores else {}
        return raw | {
            "id": scored.request_id,
            "model": scored.model,
            "object": "rerank",  # infinity's client reads no other
            "usage": scored.usage | {"completion_tokens": 0},  # Together's
            "results": scored.results(),
            "meta": meta(scored, "1"),
        }

    def status(self, error: RerankError) -> int:
        return 422 if _is_validation(error) else status(error)

    def error(self, error: RerankError, request_id: str, /) -> dict[str, object]:
        if _is_validation(error):
            # Without `input`, which repeats what the caller sent.
            entry = {"field": getattr(error, "field", ""), "message": str(error), "type": "value_error"}
            return {"detail": str(error), "request_id": request_id, "errors": [entry]}
        return detail(error, request_id)


def detail(error: RerankError, request_id: str) -> dict[str, object]:
    """Return the body of an error that is of no field."""
    limit = isinstance(error, TokenLimitExceeded)
    code = "INPUT_TOKEN_LIMIT_EXCEEDED" if limit else _CODES.get(status(error), "INTERNAL_ERROR")
    return {"detail": {"message": str(error), "request_id": request_id, "code": code}}


def _is_validation(error: RerankError) -> bool:
    """Say whether a field of the body is to blame."""
    return status(error) == 400 and not isinstance(error, TokenLimitExceeded)


class Marketplace(Jina):
    name = "jina-marketplace"
    example = {
        "data": {
            "query": "where is the dog",
            "documents": [{"text": "the dog is in my house"}, {"text": "hello world"}],
            "top_n": 2,
        }
    }
    keys = ("data",)
    shape = '{"data": {"query", "documents"}} (Jina on AWS Marketplace)'

    def read(self, fields: Fields) -> RerankRequest:
        data = fields.payload["data"]
        groups = []
        for index, entry in enumerate(read_list(data, "data") if isinstance(data, list) else [data]):
            if not isinstance(entry, dict):
                raise invalid(
                    f"data[{index}]",
                    f"must be an object with query and documents, not {type_name(entry)}.",
                )
            groups.append(Fields(entry, fields.allowance).group())
        return fields.within("data").request(self.name, groups, echo=True)

    def answer(self, scored: Scored) -> object:
        entries = [_entry(scored, number) for number in range(len(scored.scores))]
        return {"data": entries, "parameters": {}}


def _entry(scored: Scored, number: int) -> dict[str, object]:
    scores = scored.scores[number]
    identity = scored.request.groups[number].identity or uuid.uuid4().hex
    results = []
    for one in scored.ranked(number):
        document = uuid.uuid4().hex
        results.append(
            {
                "id": identity,
                "index": one.index,
                "document": {"id": document, "text": one.text},
                "relevance_score": one.score,
                "usage": {"id": document, "total_tokens": scores.document_tokens[one.index]},
            }
            | one.relevant_spans
        )
    return {
        "id": identity,
        "query_usage": {"id": identity, "total_tokens": scores.query_tokens},
        "results": results,
    }
