"""Voyage's API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..contract import RerankError, RerankRequest
from .dialect import Dialect, Scored
from .fields import Fields

# Cohere's are rerank-v4.0, rerank-english-v3.0.
_MODEL = re.compile(r"voyage|rerank-(lite-)?\d", re.IGNORECASE)


class Voyage(Dialect):
    """Its Python SDK sends no header of its own, but always `top_k` and `truncation`, null or not."""

    name = "voyage"
    keys = ("documents",)
    example = {
        "query": "where is the dog",
        "documents": ["the dog is in my house", "hello world"],
        "model": "rerank-2.5",
        "top_k": 2,
        "truncation": True,
    }

    def greets(self, headers: Mapping[str, str], /) -> bool:
        voyage = "voyage" in headers.get("x-fern-sdk-name", "").lower()
        return voyage or "x-voyage-client-user-agent" in headers

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        model = payload.get("model")
        named = isinstance(model, str) and bool(_MODEL.match(model))
        always = "top_k" in payload and "truncation" in payload
        return super().recognises(payload) and payload.get("top_n") is None and (named or always)

    def read(self, fields: Fields) -> RerankRequest:
        echo = fields.flag("return_documents", default=False)
        return fields.request(self.name, [fields.group()], echo=echo)

    def answer(self, scored: Scored) -> object:
        usage = {"total_tokens": scored.total_tokens}
        data = scored.results(text="document")
        return {"object": "list", "data": data, "model": scored.model, "usage": usage}

    def error(self, error: RerankError, _request_id: str, /) -> dict[str, object]:
        return {"detail": str(error)}
