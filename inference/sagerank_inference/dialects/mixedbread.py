"""Mixedbread's API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract import RerankError, RerankRequest
from .dialect import Dialect, Scored
from .fields import Fields


class Mixedbread(Dialect):
    name = "mixedbread"
    keys = ("query", "input")
    paths = ("/v1/reranking",)
    example = {
        "model": "any",
        "query": "where is the dog",
        "input": ["the dog is in my house", "hello world"],
        "top_k": 2,
        "return_input": True,
    }

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        own = any(payload.get(name) is not None for name in ("return_input", "rewrite_query", "top_k"))
        return super().recognises(payload) and own and isinstance(payload["input"], list)

    def read(self, fields: Fields) -> RerankRequest:
        echo = fields.flag("return_input", default=False)
        group = fields.group("input", rank_fields=fields.rank_fields(), echo=echo)
        return fields.request(self.name, [group], echo=echo)

    def answer(self, scored: Scored) -> object:
        (group,), echo = scored.request.groups, scored.request.return_documents
        data: list[dict[str, object]] = []
        for one in scored.ranked():
            sent = group.originals and group.originals[one.index]
            shown = (one.document if sent else one.text) if echo else None
            data.append({"index": one.index, "score": one.score, "input": shown} | one.relevant_spans)
        # Its SDKs refuse an answer without any one of these.
        return {
            "usage": scored.usage,
            "model": scored.model,
            "data": data,
            "object": "list",
            "top_k": group.top_n or len(group.documents),
            "return_input": echo,
        }

    def status(self, error: RerankError) -> int:
        return 422 if super().status(error) == 400 else super().status(error)

    def error(self, error: RerankError, _request_id: str, /) -> dict[str, object]:
        return {"detail": str(error), "message": str(error)}
