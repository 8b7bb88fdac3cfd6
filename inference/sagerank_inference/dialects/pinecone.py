"""Pinecone's inference API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract import RerankError, RerankRequest
from .dialect import Dialect, Scored
from .fields import Fields

_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Pinecone(Dialect):
    """Known by a header of every client of its: the body is also Cohere's."""

    name = "pinecone"
    keys = ("documents",)
    example = {
        "model": "any",
        "query": "where is the dog",
        "documents": [{"id": "1", "text": "the dog is in my house"}],
        "rank_fields": ["text"],
        "top_n": 1,
        "return_documents": True,
        "parameters": {"truncate": "END"},
    }

    def greets(self, headers: Mapping[str, str], /) -> bool:
        return "x-pinecone-api-version" in headers

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        parameters = payload.get("parameters")
        own = isinstance(parameters, dict) and parameters.get("truncate") is not None
        return super().recognises(payload) and own

    def read(self, fields: Fields) -> RerankRequest:
        fields = fields.within("parameters")
        echo = fields.flag("return_documents", default=True)
        return fields.request(
            self.name, [fields.group(rank_fields=fields.rank_fields(), echo=echo)], echo=echo
        )

    def answer(self, scored: Scored) -> object:
        data = scored.results(score="score")
        return {"model": scored.model, "data": data, "usage": {"rerank_units": 1}}

    def error(self, error: RerankError, _request_id: str, /) -> dict[str, object]:
        status = self.status(error)
        return {"status": status, "error": {"code": _CODES.get(status, "UNKNOWN"), "message": str(error)}}
