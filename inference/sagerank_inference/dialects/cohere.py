"""Cohere's API, versions 1 and 2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..contract import RerankError, RerankRequest
from .dialect import Dialect, Scored
from .fields import Fields


def meta(scored: Scored, version: str) -> dict[str, object]:
    """Return what Cohere says beside the results: a search unit is a query with up to 100 documents."""
    units = sum(math.ceil(len(group.documents) / 100) for group in scored.request.groups)
    return {
        "api_version": {"version": version},
        "billed_units": {"search_units": units},
        "tokens": {"input_tokens": scored.total_tokens},
    }


class CohereV2(Dialect):
    name = "cohere-v2"
    example = {
        "query": "where is the dog",
        "documents": ["the dog is in my house", "hello world"],
        "top_n": 2,
        "max_tokens_per_doc": 4096,
    }
    keys: tuple[str, ...] = ("documents",)
    paths: tuple[str, ...] = ("/v2/rerank",)
    version = "2"

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        own = str(payload.get("api_version")) == "2" or payload.get("priority") is not None
        return super().recognises(payload) and own

    def read(self, fields: Fields) -> RerankRequest:
        echo = fields.flag("return_documents", default=False)
        return fields.request(
            self.name, [fields.group(rank_fields=fields.rank_fields(), echo=echo)], echo=echo
        )

    def answer(self, scored: Scored) -> object:
        return {"id": scored.request_id, "results": scored.results(), "meta": meta(scored, self.version)}

    def error(self, error: RerankError, request_id: str, /) -> dict[str, object]:
        return {"message": str(error), "id": request_id}


class CohereV1(CohereV2):
    name = "cohere-v1"
    example = {
        "query": "where is the dog",
        "documents": [{"title": "Pets", "text": "the dog is in my house"}],
        "rank_fields": ["title", "text"],
        "return_documents": True,
    }
    paths = ()
    version = "1"

    def greets(self, headers: Mapping[str, str], /) -> bool:
        return "cohere" in headers.get("x-fern-sdk-name", "").lower()

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        own = any(payload.get(name) is not None for name in ("rank_fields", "max_chunks_per_doc"))
        return payload.get("documents") is not None and (own or str(payload.get("api_version")) == "1")
