"""The API of Alibaba's DashScope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract import InvalidRequest, RerankError, RerankRequest
from .dialect import Dialect, Scored
from .fields import Fields, invalid, type_name


class DashScope(Dialect):
    name = "dashscope"
    keys = ("input",)
    paths = ("/api/v1/services/rerank/text-rerank/text-rerank",)
    example = {
        "model": "any",
        "input": {"query": "where is the dog", "documents": ["the dog is in my house", "hello world"]},
        "parameters": {"top_n": 2, "return_documents": True},
    }

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        return isinstance(payload.get("input"), dict)

    def read(self, fields: Fields) -> RerankRequest:
        inner = fields.payload.get("input")
        if not isinstance(inner, dict):
            raise invalid("input", f"must be an object with query and documents, not {type_name(inner)}.")
        fields = fields.within("parameters", "input")
        echo = fields.flag("return_documents", default=False)
        return fields.request(self.name, [fields.group(echo=echo)], echo=echo)

    def answer(self, scored: Scored) -> object:
        usage = {"total_tokens": scored.total_tokens}
        return {"output": {"results": scored.results()}, "usage": usage, "request_id": scored.request_id}

    def error(self, error: RerankError, request_id: str, /) -> dict[str, object]:
        code = "InvalidParameter" if isinstance(error, InvalidRequest) else "InternalError"
        code = {401: "InvalidApiKey", 429: "Throttling"}.get(self.status(error), code)
        return {"code": code, "message": str(error), "request_id": request_id}
