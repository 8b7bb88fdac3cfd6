"""Jina's API, and its AWS Marketplace package's, which nests the same under `data` and has a CSV form."""

from __future__ import annotations

import csv
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..contract import (
    Group,
    InvalidRequest,
    RerankError,
    RerankRequest,
    Scores,
    TokenLimitExceeded,
    Truncation,
    best_first,
    status,
)
from .dialect import Dialect, Scored, sigmoid
from .fields import Allowance, Fields, read_list, type_name

_IDENTITY = 256  # characters of an id, which is written beside each document
_DIGITS = 100  # of a number in CSV: none counts so far
_CODES = {
    400: "INVALID_REQUEST",
    408: "REQUEST_TIMEOUT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "OVERLOADED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Jina(Dialect):
    name = "jina"
    keys = ("documents",)
    shape = '{"query", "documents"} (Jina, Cohere)'

    def read(self, fields: Fields) -> RerankRequest:
        fields.refuse("return_embeddings", "image", "images")
        echo = fields.flag("return_documents", default=True)
        return RerankRequest(
            self.name,
            (fields.group(echo=echo),),
            return_documents=echo,
            truncation=Truncation(
                allowed=fields.flag("truncate", "truncation", default=True),
                max_document_tokens=fields.count("max_doc_length", "max_tokens_per_doc"),
            ),
        )

    def answer(self, scored: Scored) -> object:
        return {
            "model": scored.model,
            "object": "list",
            "usage": {"total_tokens": scored.scores[0].total_tokens},
            "results": scored.results(),
        }

    def error(self, error: RerankError, request_id: str, /) -> dict[str, object]:
        limit = isinstance(error, TokenLimitExceeded)
        code = "INPUT_TOKEN_LIMIT_EXCEEDED" if limit else _CODES.get(status(error), "INTERNAL_ERROR")
        return {"detail": {"message": str(error), "request_id": request_id, "code": code}}


class Marketplace(Jina):
    name = "jina-marketplace"
    keys = ("data",)
    shape = '{"data": {"query", "documents"}} (Jina on AWS Marketplace)'

    def read(self, fields: Fields) -> RerankRequest:
        data = fields.payload["data"]
        groups = []
        for index, entry in enumerate(read_list(data, "data") if isinstance(data, list) else [data]):
            if not isinstance(entry, dict):
                raise InvalidRequest(
                    f"data[{index}] must be an object with query and documents, not {type_name(entry)}."
                )
            groups.append(Fields(entry, fields.allowance).group())
        return RerankRequest(self.name, tuple(groups), return_documents=True)

    def read_row(
        self, row: Sequence[str], allowance: Allowance, decode: Callable[[str], Any]
    ) -> RerankRequest:
        """Make the request of one row of CSV: id, query, JSON list of {"text"}, top_n. Raises InvalidRequest."""
        if len(row) not in (3, 4):
            raise InvalidRequest(
                f"expected id,query,documents[,top_n], got {len(row)} columns: escape commas in a text with a backslash."
            )
        identity, query, documents, *rest = row
        if not documents.strip():
            raise InvalidRequest("documents is blank: send a JSON list of objects with text.")
        payload: dict[str, Any] = {"query": query, "documents": decode(documents)}
        if len(identity) > _IDENTITY:
            raise InvalidRequest(f"id has {len(identity)} characters: send at most {_IDENTITY}.")
        if rest and rest[0].strip():
            top_n = rest[0].strip()
            if not top_n.isdecimal() or len(top_n) > _DIGITS:
                raise InvalidRequest("top_n must be a whole number of at least 1.")
            payload["top_n"] = int(top_n)
        group = Fields(payload, allowance).group(identity=identity)
        return RerankRequest(self.name, (group,), return_documents=True)

    def answer(self, scored: Scored) -> object:
        entries = zip(scored.request.groups, scored.scores, strict=True)
        return {"data": [_entry(group, scores) for group, scores in entries], "parameters": {}}


def _entry(group: Group, scores: Scores) -> dict[str, object]:
    identity = group.identity or uuid.uuid4().hex
    results = []
    for index in best_first(scores.values, group.top_n):
        document = uuid.uuid4().hex
        results.append(
            {
                "id": identity,
                "index": index,
                "document": {"id": document, "text": group.documents[index]},
                "relevance_score": sigmoid(scores.values[index]),
                "usage": {"id": document, "total_tokens": scores.document_tokens[index]},
            }
        )
    return {
        "id": identity,
        "query_usage": {"id": identity, "total_tokens": scores.query_tokens},
        "results": results,
    }


def csv_rows(text: str, *, max_bytes: int) -> Iterator[tuple[int, list[str]]]:
    """Yield numbered rows of CSV as jina-sagemaker writes it: commas and quotes are escaped by a backslash."""
    csv.field_size_limit(max_bytes + 1)
    lines = (found.group() for found in re.finditer(r"[^\n]*\n|[^\n]+", text))
    try:
        for number, row in enumerate(csv.reader(lines, escapechar="\\", doublequote=True), 1):
            if row:
                yield number, row
    except csv.Error as error:
        raise InvalidRequest(f"The body is not CSV ({error}): send id,query,documents,top_n.") from None
