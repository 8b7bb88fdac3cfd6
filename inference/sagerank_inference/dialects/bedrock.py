"""The `Rerank` operation of AWS's bedrock-agent-runtime, and the errors of bedrock-runtime's InvokeModel.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_agent-runtime_Rerank.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract import (
    BadGateway,
    Group,
    InvalidRequest,
    Overloaded,
    RerankError,
    RerankRequest,
    Unauthorized,
)
from .dialect import Dialect, Scored
from .fields import Fields, invalid, read_count, read_document, read_list, read_query, type_name


class Bedrock(Dialect):
    name = "bedrock"
    keys = ("queries", "sources")
    example = {
        "queries": [{"type": "TEXT", "textQuery": {"text": "where is the dog"}}],
        "sources": [
            {
                "type": "INLINE",
                "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": "the dog is in my house"}},
            }
        ],
        "rerankingConfiguration": {
            "type": "BEDROCK_RERANKING_MODEL",
            "bedrockRerankingConfiguration": {
                "numberOfResults": 1,
                "modelConfiguration": {"modelArn": "arn:aws:bedrock:eu-west-1::foundation-model/any"},
            },
        },
    }

    def greets(self, headers: Mapping[str, str], /) -> bool:
        return "/bedrock/aws4_request" in headers.get("authorization", "")

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        sources = payload.get("sources")
        return super().recognises(payload) and isinstance(sources, list)

    def read(self, fields: Fields) -> RerankRequest:
        queries = read_list(fields.payload.get("queries"), "queries")
        if len(queries) != 1:
            raise invalid("queries", f"has {len(queries)} entries: send one.")
        _, sources = fields.documents("sources")
        texts: list[str] = []
        for index, source in enumerate(sources):
            name = f"sources[{index}]"
            document = _inside(source, name, "inlineDocumentSource")
            json = document.get("jsonDocument")
            text = (
                json
                if json is not None
                else _inside(document, f"{name}.inlineDocumentSource", "textDocument")
            )
            texts.append(read_document(text, f"{name}.inlineDocumentSource"))
        configuration = fields.payload.get("rerankingConfiguration") or {}
        inner = _inside(configuration, "rerankingConfiguration", "bedrockRerankingConfiguration", default={})
        model = _inside(inner, "bedrockRerankingConfiguration", "modelConfiguration", default={})
        extra = _inside(model, "modelConfiguration", "additionalModelRequestFields", default={})
        count = inner.get("numberOfResults")
        group = Group(
            read_query(_inside(queries[0], "queries[0]", "textQuery"), "queries[0].textQuery"),
            tuple(texts),
            top_n=None if count is None else read_count(count, "numberOfResults"),
        )
        return Fields(extra, fields.allowance).request(self.name, [group])

    def answer(self, scored: Scored) -> object:
        # nextToken is absent on the last page, and there is but one.
        return {"results": scored.results(score="relevanceScore")}

    def error(self, error: RerankError, _request_id: str, /) -> dict[str, object]:
        return {"message": str(error)}

    def status(self, error: RerankError) -> int:
        if isinstance(error, InvalidRequest):
            return 400
        return 403 if isinstance(error, Unauthorized) else super().status(error)

    def error_headers(self, error: RerankError, /) -> dict[str, str]:
        kinds = {
            InvalidRequest: "ValidationException",
            Unauthorized: "AccessDeniedException",
            Overloaded: "ThrottlingException",
            BadGateway: "BadGatewayException",
        }
        names = (name for kind, name in kinds.items() if isinstance(error, kind))
        return {"x-amzn-ErrorType": next(names, "InternalServerException")}


def _inside(value: Any, name: str, key: str, *, default: Any = None) -> Any:
    """Return an object's field, which has to be an object."""
    if not isinstance(value, dict):
        raise invalid(name, f"must be an object with {key}, not {type_name(value)}.")
    found = value.get(key)
    if found is None and default is not None:
        return default
    if not isinstance(found, dict):
        raise invalid(f"{name}.{key}", f"must be an object, not {type_name(found)}.")
    return found
