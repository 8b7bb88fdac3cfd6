"""CSV as the AWS Marketplace package of Jina writes it: a request a row."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..contract import InvalidRequest, RerankRequest
from .fields import Allowance, Fields

_IDENTITY = 256  # characters of an id, which is written beside each document
_DIGITS = 100  # of a number in CSV: none counts so far


def read_row(
    dialect: str, row: Sequence[str], allowance: Allowance, decode: Callable[[str], Any]
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
    return RerankRequest(dialect, (group,), return_documents=True)


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
