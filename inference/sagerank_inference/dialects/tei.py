"""The API of Hugging Face's text-embeddings-inference."""

from __future__ import annotations

from ..contract import (
    Group,
    InvalidRequest,
    Overloaded,
    RerankError,
    RerankRequest,
    Unavailable,
    status,
)
from .dialect import Dialect, Scored
from .fields import EmptyList, Fields, read_query


class Tei(Dialect):
    name = "tei"
    example = {
        "query": "where is the dog",
        "texts": ["the dog is in my house", "hello world"],
        "raw_scores": False,
        "return_text": True,
    }
    keys: tuple[str, ...] = ("texts",)
    shape = '{"query", "texts"} (TEI)'

    def read(self, fields: Fields) -> RerankRequest:
        echo = fields.flag("return_text", "return_documents", default=False)
        group = Group(
            read_query(fields.payload.get("query")), fields.texts("texts"), top_n=fields.count("top_n")
        )
        return fields.request(self.name, [group], echo=echo)

    def answer(self, scored: Scored) -> object:
        return scored.results(score="score", text="text")

    def status(self, error: RerankError) -> int:
        if isinstance(error, EmptyList):
            return 400
        return {400: 422, 500: 424}.get(status(error), status(error))

    def error(self, error: RerankError, _request_id: str, /) -> dict[str, object]:
        return {"error": str(error), "error_type": error_type(error)}


def error_type(error: RerankError) -> str:
    """Return TEI's word for an error."""
    if isinstance(error, InvalidRequest):
        return "Empty" if isinstance(error, EmptyList) else "Validation"
    return {Overloaded: "Overloaded", Unavailable: "Unhealthy"}.get(type(error), "Backend")
