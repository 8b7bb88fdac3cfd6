"""Cohere's API, versions 1 and 2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..contract import RerankError, RerankRequest, Truncation
from .dialect import Dialect, Scored
from .fields import Fields, read_rank_fields


class CohereV2(Dialect):
    name = "cohere-v2"
    keys = ("documents",)
    path: str | None = "/v2/rerank"
    version = "2"

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        return super().recognises(payload) and (payload.get("api_version") == 2 or "priority" in payload)

    def read(self, fields: Fields) -> RerankRequest:
        name, value = fields.get("rank_fields")
        rank_fields = ("text",) if value is None else read_rank_fields(value, name)
        echo = self.return_documents(fields)
        return RerankRequest(
            self.name,
            (fields.group(rank_fields=rank_fields, echo=echo),),
            return_documents=echo,
            truncation=Truncation(max_document_tokens=fields.count("max_tokens_per_doc")),
        )

    def return_documents(self, _fields: Fields) -> bool:
        return False

    def answer(self, scored: Scored) -> object:
        meta = {
            "api_version": {"version": self.version},
            "billed_units": {"search_units": math.ceil(len(scored.request.groups[0].documents) / 100)},
        }
        return {"id": scored.request_id, "results": scored.results(texts_as_objects=True), "meta": meta}

    def error(self, error: RerankError, request_id: str, /) -> dict[str, object]:
        return {"message": str(error), "id": request_id}


class CohereV1(CohereV2):
    name = "cohere-v1"
    path = None
    version = "1"

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        own = payload.get("api_version") == 1 or "rank_fields" in payload or "max_chunks_per_doc" in payload
        return "documents" in payload and own

    def return_documents(self, fields: Fields) -> bool:
        return fields.flag("return_documents", default=False)
