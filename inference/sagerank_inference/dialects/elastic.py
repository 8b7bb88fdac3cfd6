"""What Elasticsearch's `amazon_sagemaker` inference service sends to an endpoint with api `elastic`, task `rerank`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract import Group, RerankError, RerankRequest
from .dialect import Dialect, Scored
from .fields import Fields, read_query


class Elastic(Dialect):
    name = "elastic"
    keys = ("query", "input")
    example = {
        "query": "where is the dog",
        "input": ["the dog is in my house", "hello world"],
        "return_documents": True,
        "top_n": 2,
        "task_settings": {},
    }

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        return super().recognises(payload) and not isinstance(payload["input"], dict)

    def read(self, fields: Fields) -> RerankRequest:
        # One text is sent outside of a list; task_settings are the user's own options.
        alone = isinstance(fields.payload["input"], str)
        listed = {"input": [fields.payload["input"]]} if alone else {}
        fields = Fields({**fields.payload, **listed}, fields.allowance).within("task_settings")
        group = Group(
            read_query(fields.payload.get("query")), fields.texts("input"), top_n=fields.count("top_n")
        )
        echo = fields.flag("return_documents", default=False)
        return fields.request(self.name, [group], echo=echo)

    def answer(self, scored: Scored) -> object:
        echo = scored.request.return_documents
        # Its parser takes no other fields.
        return {
            "rerank": [
                {"index": one.index, "relevance_score": one.score} | ({"text": one.text} if echo else {})
                for one in scored.ranked()
            ]
        }

    def error(self, error: RerankError, _request_id: str, /) -> dict[str, object]:
        return {"error": str(error)}
