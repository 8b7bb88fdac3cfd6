"""Formats that name the query beside each document: what they have in common, and LangChain's and Dify's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from ..contract import Group, RerankError, RerankRequest
from .dialect import Dialect, Scored
from .fields import Fields, invalid, read_document, read_list, read_query


def runs(pairs: Iterable[tuple[str, str]]) -> Iterator[Group]:
    """Yield a group for each run of pairs of query and document that have the same query."""
    queries: dict[str, str] = {}  # equal ones are one object
    shared = ((queries.setdefault(query, query), document) for query, document in pairs)
    for query, run in groupby(shared, key=lambda pair: pair[0]):
        yield Group(query, tuple(document for _, document in run))


def lists_of_two(fields: Fields, name: str) -> Iterator[tuple[str, str]]:
    """Yield query and document of every entry of a list of lists. Raises InvalidRequest."""
    _, pairs = fields.documents(name, empty=True)
    for index, pair in enumerate(pairs):
        yield list_of_two(pair, f"{name}[{index}]")


def list_of_two(pair: Any, name: str) -> tuple[str, str]:
    """Return query and document of a list. Raises InvalidRequest."""
    if not isinstance(pair, list) or len(pair) != 2:
        raise invalid(name, "must be a list of query and document.")
    return read_query(pair[0], f"{name}[0]"), read_document(pair[1], f"{name}[1]")


class Pairs(Dialect):
    """A score for every pair, in the order of the request."""

    def read(self, fields: Fields) -> RerankRequest:
        return fields.request(self.name, runs(self.pairs(fields)), in_order=True)

    @abstractmethod
    def pairs(self, fields: Fields) -> Iterator[tuple[str, str]]:
        """Yield query and document of every entry, in order. Raises InvalidRequest."""

    def answer(self, scored: Scored) -> object:
        return {"scores": scored.in_order()}

    def error(self, error: RerankError, request_id: str, /) -> dict[str, object]:
        return {"error": str(error), "request_id": request_id}


class LangChain(Pairs):
    name = "langchain"
    example = {
        "text_pairs": [["where is the dog", "the dog is in my house"], ["where is the dog", "hello world"]]
    }
    keys = ("text_pairs",)
    shape = '{"text_pairs"} (LangChain)'

    def pairs(self, fields: Fields) -> Iterator[tuple[str, str]]:
        return lists_of_two(fields, "text_pairs")


class Dify(Pairs):
    name = "dify"
    example = {
        "inputs": ["where is the dog", "where is the dog"],
        "docs": ["the dog is in my house", "hello world"],
    }
    keys = ("inputs", "docs")
    shape = '{"inputs", "docs"} (Dify)'

    def pairs(self, fields: Fields) -> Iterator[tuple[str, str]]:
        queries = read_list(fields.payload["inputs"], "inputs", empty=True)
        _, documents = fields.documents("docs", empty=True)
        if len(queries) != len(documents):
            raise invalid(
                "inputs",
                f"has {len(queries)} entries and docs {len(documents)}: send one query for each document.",
            )
        for index, (query, document) in enumerate(zip(queries, documents, strict=True)):
            yield read_query(query, f"inputs[{index}]"), read_document(document, f"docs[{index}]")
