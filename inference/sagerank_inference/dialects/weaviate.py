"""What Weaviate's module `reranker-transformers` asks of its container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract import RerankError, RerankRequest
from .dialect import Dialect, Scored
from .fields import Fields


class Weaviate(Dialect):
    """Scores in the order of the request, each beside its document."""

    name = "weaviate"
    keys = ("documents",)
    example = {
        "query": "where is the dog",
        "documents": ["the dog is in my house", "hello world"],
        "property": "",
    }

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        return super().recognises(payload) and isinstance(payload.get("property"), str)

    def read(self, fields: Fields) -> RerankRequest:
        return fields.request(self.name, [fields.group()], in_order=True)

    def answer(self, scored: Scored) -> object:
        (group,) = scored.request.groups
        pairs = zip(group.documents, scored.in_order(), strict=True)
        return {
            "query": group.query,
            "scores": [{"document": document, "score": score} for document, score in pairs],
        }

    def error(self, error: RerankError, _request_id: str, /) -> dict[str, object]:
        return {"error": str(error)}
