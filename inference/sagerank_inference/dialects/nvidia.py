"""The ranking API of NVIDIA's NIM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract import RerankError, RerankRequest
from .dialect import Dialect, Scored
from .fields import Fields


class Nvidia(Dialect):
    """Its score is the logit itself, unless the request says otherwise."""

    name = "nvidia"
    keys = ("passages",)
    paths = (
        "/ranking",
        "/v1/ranking",
        "/v1/retrieval/{model}/reranking",
        "/v1/retrieval/{organisation}/{model}/reranking",
    )
    example = {
        "model": "any",
        "query": {"text": "where is the dog"},
        "passages": [{"text": "the dog is in my house"}, {"text": "hello world"}],
        "truncate": "END",
    }

    def read(self, fields: Fields) -> RerankRequest:
        # Where nothing is said, what is too long is cut here; NIM refuses it.
        payload: Mapping[str, Any] = {"raw_scores": True, **fields.payload}
        fields = Fields(payload, fields.allowance)
        return fields.request(self.name, [fields.group("passages")])

    def answer(self, scored: Scored) -> object:
        return {"rankings": scored.results(score="logit"), "usage": scored.usage}

    def status(self, error: RerankError) -> int:
        return 422 if super().status(error) == 400 else super().status(error)

    def error(self, error: RerankError, request_id: str, /) -> dict[str, object]:
        return {"error": str(error), "detail": str(error), "requestId": request_id}
