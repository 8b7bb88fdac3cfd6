"""vLLM's score API, and DeepInfra's inference: pairs that two lists make, or one text and a list."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from ..contract import Group, InvalidRequest, RerankError, RerankRequest
from .dialect import Dialect, Scored
from .fields import Fields, invalid, read_document, read_query
from .pairs import runs

_SHAPES = (("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2"))


class Score(Dialect):
    """Each side is a text or a list; a side of one goes with every entry of the other."""

    name = "score"
    keys = ()
    paths = ("/score", "/v1/score")
    example: Mapping[str, Any] = {
        "model": "any",
        "text_1": "where is the dog",
        "text_2": ["the dog is in my house", "hello world"],
    }

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        sides = any(all(payload.get(key) is not None for key in keys) for keys in _SHAPES)
        return sides and payload.get("query") is None

    def read(self, fields: Fields) -> RerankRequest:
        return fields.request(self.name, _groups(fields), in_order=True)

    def answer(self, scored: Scored) -> object:
        scores = enumerate(scored.in_order())
        return {
            "id": scored.request_id,
            "object": "list",
            "created": int(time.time()),
            "model": scored.model,
            "data": [{"index": index, "object": "score", "score": score} for index, score in scores],
            "usage": scored.usage | {"completion_tokens": 0},
        }

    def error(self, error: RerankError, _request_id: str, /) -> dict[str, object]:
        status = self.status(error)
        kinds = {400: "BadRequestError", 500: "InternalServerError"}
        return {
            "error": {
                "message": str(error),
                "type": kinds.get(status, HTTPStatus(status).phrase),
                "param": getattr(error, "field", "") or None,
                "code": status,
            }
        }


class DeepInfra(Score):
    name = "deepinfra"
    paths = ("/v1/inference/{model}", "/v1/inference/{organisation}/{model}")
    example = {"queries": ["where is the dog"], "documents": ["the dog is in my house", "hello world"]}

    def recognises(self, _payload: Mapping[str, Any]) -> bool:
        return False

    def answer(self, scored: Scored) -> object:
        return {
            "scores": scored.in_order(),
            "input_tokens": scored.total_tokens,
            "request_id": scored.request_id,
        }

    def error(self, error: RerankError, request_id: str, /) -> dict[str, object]:
        return {"detail": {"error": str(error)}, "request_id": request_id}


def _groups(fields: Fields) -> list[Group]:
    """Return the pairs, those of neighbours with one query together."""
    payload = fields.payload
    left, right = next(
        (keys for keys in _SHAPES if all(payload.get(key) is not None for key in keys)), ("", "")
    )
    if not left:
        raise InvalidRequest(
            "One of the two sides is missing: send text_1 and text_2, or queries and documents."
        )
    queries, documents = _side(payload[left], left), _side(payload[right], right)
    if len(queries) != len(documents) and 1 not in (len(queries), len(documents)):
        raise invalid(
            left,
            f"has {len(queries)} entries and {right} {len(documents)}: send as many, or one of either.",
        )
    count = max(len(queries), len(documents))
    fields.allowance.take(count)
    asked = [read_query(query, name) for name, query in queries]
    texts = [read_document(text, name) for name, text in documents]
    if len(texts) == 1:
        fields.allowance.repeat(texts[0], count)
    return list(
        runs(
            (asked[index if len(asked) > 1 else 0], texts[index if len(texts) > 1 else 0])
            for index in range(count)
        )
    )


def _side(value: Any, name: str) -> list[tuple[str, Any]]:
    """Return the texts of a side, each with the name that an error calls it by."""
    if not isinstance(value, list):
        return [(name, value)]
    if not value:
        raise invalid(name, "is empty: send at least one text.")
    return [(f"{name}[{index}]", text) for index, text in enumerate(value)]
