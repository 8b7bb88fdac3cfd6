"""The API of Hugging Face's text-embeddings-inference."""

from __future__ import annotations

from ..contract import Group, InvalidRequest, Overloaded, RerankError, RerankRequest, Truncation, Unavailable
from .dialect import Dialect, Scored
from .fields import Fields, read_query, read_text

_ERROR_TYPES: dict[type[RerankError], str] = {Overloaded: "Overloaded", Unavailable: "Unhealthy"}


class Tei(Dialect):
    name = "tei"
    keys = ("texts",)
    shape = '{"query", "texts"} (TEI)'

    def read(self, fields: Fields) -> RerankRequest:
        direction = fields.payload.get("truncation_direction") or "Right"
        if direction not in ("Left", "Right", "left", "right"):
            raise InvalidRequest('truncation_direction must be "Left" or "Right".')
        texts = enumerate(fields.documents("texts"))
        documents = tuple([read_text(text, f"texts[{index}]") for index, text in texts])
        return RerankRequest(
            self.name,
            (Group(read_query(fields.payload.get("query")), documents),),
            return_documents=fields.flag("return_text", default=False),
            raw_scores=fields.flag("raw_scores", default=False),
            truncation=Truncation(
                allowed=fields.flag("truncate", default=True), left=direction.lower() == "left"
            ),
        )

    def answer(self, scored: Scored) -> object:
        group, scores, indices = scored.ranked()
        values = scores.values if scored.request.raw_scores else scored.probabilities()
        return [
            {"index": index, "score": values[index]}
            | ({"text": group.documents[index]} if scored.request.return_documents else {})
            for index in indices
        ]

    def error(self, error: RerankError, _request_id: str, /) -> dict[str, object]:
        invalid = isinstance(error, InvalidRequest)
        error_type = "Validation" if invalid else _ERROR_TYPES.get(type(error), "Backend")
        return {"error": str(error), "error_type": error_type}
