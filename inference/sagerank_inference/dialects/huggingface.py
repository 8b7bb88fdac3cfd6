"""Hugging Face's inference toolkits and TEI's /predict: whatever stands under `inputs`. OpenSearch sends the first of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ..contract import Group, RerankError, RerankRequest, status
from .dialect import Dialect, Scored
from .fields import Fields, invalid, read_document, read_list, read_query
from .pairs import Pairs, list_of_two, lists_of_two, runs
from .tei import Tei

_LABEL = "LABEL_0"
_FIELDS = ("text", "text_pair")


class HuggingFace(Pairs):
    """Text classification: objects of a text and its pair, in a list or alone, and the answer likewise."""

    name = "huggingface"
    keys = ("inputs",)
    shape = '{"inputs": [{"text", "text_pair"}]} (Hugging Face)'
    example: Mapping[str, Any] = {
        "inputs": [{"text": "where is the dog", "text_pair": "the dog is in my house"}]
    }

    def read(self, fields: Fields) -> RerankRequest:
        inputs = fields.payload["inputs"]
        if not isinstance(inputs, dict):
            return super().read(fields)
        fields.allowance.take(1)
        return fields.request(self.name, [_one(inputs, fields)], in_order=True, alone=True)

    def pairs(self, fields: Fields) -> Iterator[tuple[str, str]]:
        document = _document(fields) or "text_pair"
        _, pairs = fields.documents("inputs", empty=True)
        for index, pair in enumerate(pairs):
            yield _pair_of(pair, f"inputs[{index}]", document)

    def answer(self, scored: Scored) -> object:
        found = [{"label": _LABEL, "score": score} for score in scored.in_order()]
        return found[0] if scored.request.alone else found


def _one(pair: dict[str, Any], fields: Fields) -> Group:
    """Return the query and the document of a pair that stands alone.

    OpenSearch's by-field recipe has the document in `text`, everyone else the query. Where `parameters.document` does not
    name its field, an object is the document, or the longer text.
    """

    def length(name: str) -> float:
        text = pair.get(name)
        return (len(text) if text.strip() else math.inf) if isinstance(text, str) else math.inf

    longer = max("text_pair", "text", key=length)  # a blank text asks nothing
    query, text = _pair_of(pair, "inputs", _document(fields) or longer)
    return Group(query, (text,))


def _document(fields: Fields) -> str:
    """Return the name of the field that holds the document; "" where the request does not say it."""
    named = fields.within("parameters").payload.get("document")
    if named not in (None, *_FIELDS):
        raise invalid("parameters.document", "must be text or text_pair.")
    return named or ""


def _pair_of(pair: Any, name: str, document: str) -> tuple[str, str]:
    """Return query and document of an object; document: the name of its field."""
    if not isinstance(pair, dict) or not all(field in pair for field in _FIELDS):
        raise invalid(name, "must be an object with text (the query) and text_pair (the document).")
    query = "text" if document == "text_pair" else "text_pair"
    return read_query(pair[query], f"{name}.{query}"), read_document(pair[document], f"{name}.{document}")


class HuggingFaceRanking(Pairs):
    """Text ranking: lists of query and document."""

    name = "huggingface-ranking"
    keys = ("inputs",)
    example: Mapping[str, Any] = {"inputs": [["where is the dog", "the dog is in my house"]]}

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        inputs = payload.get("inputs")
        return isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], list)

    def pairs(self, fields: Fields) -> Iterator[tuple[str, str]]:
        return lists_of_two(fields, "inputs")


class HuggingFaceTexts(Tei):
    """Text ranking: TEI's request under `inputs`."""

    name = "huggingface-texts"
    keys = ("inputs",)
    example = {
        "inputs": {
            "query": "where is the dog",
            "texts": ["the dog is in my house", "hello world"],
            "return_documents": True,
        }
    }

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        inputs = payload.get("inputs")
        return isinstance(inputs, dict) and inputs.get("texts") is not None

    def read(self, fields: Fields) -> RerankRequest:
        return super().read(fields.within("inputs", "parameters"))

    def status(self, error: RerankError) -> int:
        return status(error)

    def error(self, error: RerankError, request_id: str, /) -> dict[str, object]:
        return {"error": str(error), "request_id": request_id}


class SentenceSimilarity(Dialect):
    """A sentence and those that it is compared with; the answer has their scores alone."""

    name = "huggingface-sentences"
    keys = ("inputs",)
    example = {
        "inputs": {
            "source_sentence": "where is the dog",
            "sentences": ["the dog is in my house", "hello world"],
        }
    }

    def recognises(self, payload: Mapping[str, Any]) -> bool:
        inputs = payload.get("inputs")
        return isinstance(inputs, dict) and inputs.get("source_sentence") is not None

    def read(self, fields: Fields) -> RerankRequest:
        inner = Fields(fields.payload["inputs"], fields.allowance)
        query = read_query(inner.payload["source_sentence"], "inputs.source_sentence")
        return fields.request(self.name, [Group(query, inner.texts("sentences"))], in_order=True)

    def answer(self, scored: Scored) -> object:
        return scored.in_order()

    def error(self, error: RerankError, _request_id: str, /) -> dict[str, object]:
        return {"error": str(error)}


class TeiPredict(Tei):
    """TEI's classification of a pair, or of several."""

    name = "tei-predict"
    keys = ()
    paths = ("/predict",)
    example = {"inputs": [["where is the dog", "the dog is in my house"]], "raw_scores": False}

    def read(self, fields: Fields) -> RerankRequest:
        inputs = read_list(fields.payload.get("inputs"), "inputs")
        alone = all(isinstance(text, str) for text in inputs)
        if alone:
            fields.allowance.take(1)
        pairs = [list_of_two(inputs, "inputs")] if alone else lists_of_two(fields, "inputs")
        return fields.request(self.name, runs(pairs), in_order=True, alone=alone)

    def answer(self, scored: Scored) -> object:
        found = [[{"score": score, "label": _LABEL}] for score in scored.in_order()]
        return found[0] if scored.request.alone else found
