"""Formats that name the query beside each document: LangChain's, Hugging Face's and OpenSearch's, Dify's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from ..contract import Group, InvalidRequest, RerankError, RerankRequest
from .dialect import Dialect, Scored
from .fields import Fields, read_list, read_query, read_text


class _Pairs(Dialect):
    def read(self, fields: Fields) -> RerankRequest:
        queries: dict[str, str] = {}  # equal ones are one object
        pairs = [(queries.setdefault(query, query), document) for query, document in self.pairs(fields)]
        groups = (
            Group(query, tuple(document for _, document in run))
            for query, run in groupby(pairs, key=lambda pair: pair[0])
        )
        return RerankRequest(self.name, tuple(groups))

    @abstractmethod
    def pairs(self, fields: Fields) -> Iterator[tuple[str, str]]:
        """Yield query and document of every entry, in order. Raises InvalidRequest."""

    def answer(self, scored: Scored) -> object:
        return {"scores": scored.probabilities()}

    def error(self, error: RerankError, request_id: str, /) -> dict[str, object]:
        return {"error": str(error), "request_id": request_id}


class LangChain(_Pairs):
    name = "langchain"
    keys = ("text_pairs",)
    shape = '{"text_pairs"} (LangChain)'

    def pairs(self, fields: Fields) -> Iterator[tuple[str, str]]:
        for index, pair in enumerate(fields.documents("text_pairs")):
            name = f"text_pairs[{index}]"
            if not isinstance(pair, list) or len(pair) != 2:
                raise InvalidRequest(f"{name} must be a list of query and document.")
            yield read_query(pair[0], f"{name}[0]"), read_text(pair[1], f"{name}[1]")


class HuggingFace(_Pairs):
    name = "huggingface"
    keys = ("inputs",)
    shape = '{"inputs": [{"text", "text_pair"}]} (Hugging Face)'

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        return super().recognises(payload) and "docs" not in payload

    def pairs(self, fields: Fields) -> Iterator[tuple[str, str]]:
        inputs = fields.payload["inputs"]
        if isinstance(inputs, dict):
            fields = replace(fields, payload={"inputs": [inputs]})
        for index, pair in enumerate(fields.documents("inputs")):
            name = f"inputs[{index}]"
            if not isinstance(pair, dict) or "text" not in pair or "text_pair" not in pair:
                raise InvalidRequest(
                    f"{name} must be an object with text (the query) and text_pair (the document)."
                )
            yield read_query(pair["text"], f"{name}.text"), read_text(pair["text_pair"], f"{name}.text_pair")

    def answer(self, scored: Scored) -> object:
        return [{"label": "LABEL_0", "score": score} for score in scored.probabilities()]


class Dify(_Pairs):
    name = "dify"
    keys = ("inputs", "docs")
    shape = '{"inputs", "docs"} (Dify)'

    def pairs(self, fields: Fields) -> Iterator[tuple[str, str]]:
        queries, documents = read_list(fields.payload["inputs"], "inputs"), fields.documents("docs")
        if len(queries) != len(documents):
            raise InvalidRequest(
                f"inputs has {len(queries)} entries and docs {len(documents)}: send one query for each document."
            )
        for index, (query, document) in enumerate(zip(queries, documents, strict=True)):
            yield read_query(query, f"inputs[{index}]"), read_text(document, f"docs[{index}]")
