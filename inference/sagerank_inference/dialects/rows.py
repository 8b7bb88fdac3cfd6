"""CSV: pairs of query and passage for SQL engines, and the requests of Jina's AWS Marketplace package."""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from ..contract import InvalidRequest, PayloadTooLarge, RerankRequest
from .body import naming, naming_the_dialect
from .fields import Allowance, Fields, invalid, read_query
from .pairs import Pairs

_IDENTITY = 256  # characters of an id, which is written beside each document
_DIGITS = 100  # of a number in CSV: none counts so far
_QUERIES = ("query", "question", "text_1")
_PASSAGES = ("passage", "document", "text", "text_2")
_REQUEST = ("id", "query", "documents", "top_n")

# With the separator behind it, as csv reads it: a quotation mark means something where a field begins.
_FIELD = re.compile(r'(?:"[^"]*+(?:""[^"]*+)*+"?)?[^,\n]*+(?:[,\n]|$)')
_ESCAPED_FIELD = re.compile(
    r'(?:"[^"\\]*+(?:(?:\\.|"")[^"\\]*+)*+"?)?[^,\n\\]*+(?:\\.[^,\n\\]*+)*+(?:[,\n]|$)', re.DOTALL
)

Row = tuple[int, list[str]]  # with its number

_limit = threading.Lock()  # of csv's fields: one for the whole process


class Table(Pairs):
    """Two columns: a query and a passage a row. SQL engines send it: Aurora, Redshift, Athena."""

    name = "csv"
    keys = ()

    def pairs(self, fields: Fields) -> Iterator[tuple[str, str]]:
        columns, rows = fields.payload["columns"], fields.payload["rows"]
        query, passage = columns.index("query"), columns.index("passage")
        for number, row in rows:
            if len(row) != 2:
                raise InvalidRequest(
                    f"Line {number} has {len(row)} columns, and the first has 2: put a text with commas or lines in quotation marks."
                )
            fields.allowance.take(1)
            yield read_query(row[query], f"Line {number}: query"), row[passage]


def read_csv(
    text: str,
    allowance: Allowance,
    decode: Callable[[str], Any],
    *,
    max_bytes: int,
    most: int,
    header: bool | None = None,
) -> Iterator[RerankRequest]:
    """Yield the requests of CSV: one of all rows where these are pairs, else one a row.

    decode: reads JSON. most: fields that there may be. header: whether the first row has names; None: by what it holds. Raises a RerankError.

    Quoted as RFC 4180 says, or, where the documents are no JSON then, as jina-sagemaker writes it: commas and quotation
    marks behind a backslash.
    """
    wide = _too_wide(text, most, backslash=False)
    backslash = "\\" in text and (wide or _is_escaped(text, max_bytes, decode))
    if _too_wide(text, most, backslash=True) if backslash else wide:
        raise PayloadTooLarge(
            f"The body has more than {most} columns: put a text with commas in quotation marks."
        )
    rows = _rows(text, max_bytes, backslash=backslash)
    first = next(rows, None)
    if first is None:
        return
    pairs = len(first[1]) == 2 and not backslash
    named = _names(first[1], pairs=pairs)
    if named and header is not False:
        columns = named
    elif header:
        raise InvalidRequest(
            f"The header has other names than {', '.join(_REQUEST)}, or query and passage: name the columns so."
        )
    else:
        columns = ["query", "passage"] if pairs else list(_REQUEST)
        rows = chain([first], rows)
    if pairs:
        with naming_the_dialect(Table.name):
            request = Table().read(Fields({"columns": columns, "rows": rows}, allowance))
        yield request
        return
    for number, row in rows:
        with naming(f"Line {number}"):
            request = _request(dict(zip(columns, row, strict=False)), len(row), allowance, decode)
        yield request


def _too_wide(text: str, most: int, *, backslash: bool) -> bool:
    """Say whether CSV has more fields than `most`: each takes much memory, and a row is read in one go."""
    if text.count(",") < most:
        return False
    fields = (_ESCAPED_FIELD if backslash else _FIELD).finditer(text)
    return any(number == most for number, _ in enumerate(fields))  # step by step: other threads take turns


def _is_escaped(text: str, max_bytes: int, decode: Callable[[str], Any]) -> bool:
    """Say whether the documents of the first row that has some are no JSON as RFC 4180 quotes it."""
    try:
        rows = (row for _, row in _rows(text, max_bytes, backslash=False))
        row = next(row for row in rows if not _names(row, pairs=False))
        if len(row) != 2:
            decode(row[2])
    except (InvalidRequest, IndexError, StopIteration):
        return True
    return False


def _names(row: Sequence[str], *, pairs: bool) -> list[str]:
    """Return the columns that a row names; nothing where it is no header."""
    names = [name.strip().lower() for name in row]
    if pairs:
        names = ["query" if name in _QUERIES else "passage" if name in _PASSAGES else "" for name in names]
        return names if set(names) == {"query", "passage"} else []
    known = len(set(names)) == len(names) and set(names) <= set(_REQUEST)
    return names if known and {"query", "documents"} <= set(names) else []


def _rows(text: str, max_bytes: int, *, backslash: bool) -> Iterator[Row]:
    """Yield the rows, with the numbers of their first lines. Raises InvalidRequest for a blank one between others."""
    lines = (found.group() for found in re.finditer(r"[^\n]*\n|[^\n]+", text.rstrip("\r\n")))
    reader = csv.reader(lines, strict=not backslash, escapechar="\\" if backslash else None)
    line = 1
    try:
        while (row := _next(reader, max_bytes)) is not None:
            if not row:
                raise InvalidRequest(f"Line {line} is blank, and answers go by lines: leave it out.")
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidRequest(
            f"The body is not CSV (line {line}: {error}): put a text with commas, quotation marks or lines in quotation marks, and double those inside."
        ) from None


def _next(reader: Iterator[list[str]], longest: int) -> list[str] | None:
    """Read a row whose fields have up to `longest` characters. The limit of csv is left as the rest of the process has it."""
    with _limit:
        before = csv.field_size_limit(longest + 1)
        try:
            return next(reader, None)
        finally:
            csv.field_size_limit(before)


def _request(
    row: dict[str, str], columns: int, allowance: Allowance, decode: Callable[[str], Any]
) -> RerankRequest:
    """Make the request of one row: id, query, JSON list of documents, top_n. Raises InvalidRequest."""
    if columns not in (3, 4) and "documents" not in row:
        raise InvalidRequest(
            f"expected id,query,documents[,top_n], or query,passage, got {columns} columns: put a text with commas in quotation marks."
        )
    if columns > 4:
        raise InvalidRequest(
            f"expected id,query,documents[,top_n], got {columns} columns: put a text with commas in quotation marks."
        )
    if not row["documents"].strip():
        raise InvalidRequest("documents is blank: send a JSON list of objects with text.")
    payload: dict[str, Any] = {"query": row["query"], "documents": decode(row["documents"])}
    identity = row.get("id")
    if identity is not None and len(identity) > _IDENTITY:
        raise InvalidRequest(f"id has {len(identity)} characters: send at most {_IDENTITY}.")
    if top_n := row.get("top_n", "").strip():
        if not top_n.isdecimal() or len(top_n) > _DIGITS:
            raise invalid("top_n", "must be a whole number of at least 1, or 0 for all.")
        payload["top_n"] = int(top_n)
    group = Fields(payload, allowance).group(identity=identity)
    return RerankRequest("jina-marketplace", (group,), return_documents=True)
