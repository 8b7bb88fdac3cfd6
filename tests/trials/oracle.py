"""What has to become of a body, by docs/api.md alone: nothing here is the server's code but the scores of pairs.

`read` says what a body asks for, or that it must be refused, or that the page leaves it open (numbers without bound,
keys twice, half surrogates in what is only echoed, bodies of two dialects). `check` holds an answer against that: every
index, score, place, text and object.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from .bodies import CANARY, CSV, JSON, LINES, MOST_BYTES, MOST_DOCUMENTS, Case

_MEDIA = {
    JSON: JSON,
    LINES: LINES,
    "application/x-jsonlines": LINES,
    "application/x-ndjson": LINES,
    CSV: CSV,
}
# Within these every server is as wide.
_MOST_DIGITS, _MOST_DEPTH = 300, 32
_MOST_VALUES = 300_000  # and names


class Refused(Exception):
    """The server has to answer with a status of 400 to 499."""


class Open(Exception):
    """The page does not say what becomes of it: an answer or a refusal, but a sound one."""


class Wrong(AssertionError):
    """An answer that is not the one to this request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A query and what is ranked for it: texts as the model sees them, originals as they are echoed."""

    query: str
    texts: Sequence[str]
    originals: Sequence[Any]
    top_n: int | None = None
    identity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One request of a body. `keep` and `left` are how many tokens of a document count, and from which end."""

    dialect: str
    groups: Sequence[Group]
    echo: bool = False
    raw: bool = False
    keep: int | None = None
    left: bool = False


# Logits of a query's texts, those cut as `keep` and `left` say; None where they are too many to be known.
Table = Callable[[str, Sequence[str], int | None, bool], Sequence[float] | None]


def read(case: Case) -> list[Expected]:
    """What a body asks for. Raises Refused or Open."""
    if len(case.body) > MOST_BYTES:
        raise Refused
    media = _media(case.content_type)
    try:
        text = case.body.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise Refused from None
    if media == CSV:
        if case.rows is None:
            raise Open
        requests = [_row(row) for row in case.rows]
    else:
        texts = [text] if media == JSON else [line for line in text.split("\n") if line.strip()]
        requests = [_request(_decoded(line), case.path) for line in texts]
    if not requests or sum(len(group.texts) for one in requests for group in one.groups) > MOST_DOCUMENTS:
        raise Refused
    return requests


def _media(content_type: str | None) -> str:
    if content_type is None:
        return JSON
    name, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if name not in _MEDIA:
        raise Refused if "/" in name else Open
    for parameter in parameters:
        if parameter and parameter not in ("charset=utf-8", 'charset="utf-8"'):
            raise Open
    return _MEDIA[name]


def _decoded(text: str) -> Any:
    doubtful = False

    def pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal doubtful
        doubtful |= len({name for name, _ in pairs}) < len(pairs)
        return dict(pairs)

    def number(text: str) -> float:
        nonlocal doubtful
        value = float(text)
        doubtful |= math.isinf(value)
        return value

    def integer(text: str) -> int:
        nonlocal doubtful
        doubtful |= len(text) > _MOST_DIGITS
        return 1 if len(text) > _MOST_DIGITS else int(text)

    try:
        value = json.loads(
            text, object_pairs_hook=pairs, parse_float=number, parse_int=integer, parse_constant=_refuse
        )
    except RecursionError:
        raise Open from None
    except ValueError:
        # Other blanks than JSON's around it may be taken for such.
        raise Refused if text.strip() == text.strip(" \t\r\n") else Open from None
    if not isinstance(value, dict):
        raise Refused
    if re.search(r"\\u[dD][89a-fA-F]", text) and not _sound(value):
        raise Open
    if doubtful or (text.count("[") + text.count("{") > _MOST_DEPTH and _depth(value) > _MOST_DEPTH):
        raise Open
    if len(text) > _MOST_VALUES and (count := _values(value)) > 0.9 * _MOST_VALUES:
        # Of a body, that is: lines add up.
        raise Refused if count > _MOST_VALUES else Open
    return value


def _values(value: Any) -> int:
    """How many values and names a decoded JSON text has."""
    count, rest = 0, [value]
    while rest:
        one = rest.pop()
        count += 1
        if isinstance(one, dict):
            count += len(one)
            rest += one.values()
        elif isinstance(one, list):
            rest += one
    return count


def _refuse(_name: str) -> NoReturn:
    raise Refused


def _sound(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            entry
            for one in level
            if isinstance(one, dict | list)
            for entry in (one.values() if isinstance(one, dict) else one)
            if isinstance(entry, dict | list)
        ]
    return depth


def _dialect(payload: dict[str, Any], path: str) -> str:
    if path == "/v2/rerank":
        return "cohere-v2"
    families = [name for name in ("documents", "data", "texts", "text_pairs", "inputs") if name in payload]
    if len(families) != 1:
        if families:
            raise Open
        raise Refused
    if families == ["documents"]:
        second = payload.get("api_version") == 2 or "priority" in payload
        first = payload.get("api_version") == 1 or "rank_fields" in payload or "max_chunks_per_doc" in payload
        if (first and second) or isinstance(payload.get("api_version"), bool | float):
            raise Open
        return "cohere-v2" if second else "cohere-v1" if first else "jina"
    if families == ["inputs"]:
        return "dify" if "docs" in payload else "huggingface"
    return {"data": "jina-marketplace", "texts": "tei", "text_pairs": "langchain"}[families[0]]


def _request(payload: dict[str, Any], path: str) -> Expected:
    dialect = _dialect(payload, path)
    if dialect in ("langchain", "huggingface", "dify"):
        return _pairs(dialect, payload)
    if dialect == "tei":
        return _tei(payload)
    if dialect == "jina-marketplace":
        data = payload["data"]
        entries = _list(data) if isinstance(data, list) else [data]
        return Expected(dialect=dialect, groups=[_group(entry) for entry in entries], echo=True)
    if dialect == "jina":
        for name in ("return_embeddings", "image", "images"):
            if payload.get(name):
                raise Refused
        echo = _flag(payload, "return_documents", default=True)
        if not _flag(payload, "truncate", "truncation", default=True):
            raise Open
        group = _group(payload)
        keep = _count(payload, "max_doc_length", "max_tokens_per_doc")
        return Expected(dialect=dialect, groups=[group], echo=echo, keep=keep)
    echo = dialect == "cohere-v1" and _flag(payload, "return_documents", default=False)
    group = _group(payload, rank_fields=_names(payload))
    return Expected(dialect=dialect, groups=[group], echo=echo, keep=_count(payload, "max_tokens_per_doc"))


def _tei(payload: dict[str, Any]) -> Expected:
    texts = [_text(text) for text in _list(payload["texts"])]
    direction = payload.get("truncation_direction")
    if direction not in (None, "Left", "Right", "left", "right"):
        raise Open if direction in ("", False, 0) or isinstance(direction, list | dict) else Refused
    echo, raw = (_flag(payload, name, default=False) for name in ("return_text", "raw_scores"))
    if not _flag(payload, "truncate", default=True):
        raise Open
    group = Group(query=_query(payload.get("query")), texts=texts, originals=texts)
    left = direction in ("Left", "left")
    return Expected(dialect="tei", groups=[group], echo=echo, raw=raw, left=left)


def _pairs(dialect: str, payload: dict[str, Any]) -> Expected:
    pairs: list[tuple[Any, Any]]
    if dialect == "dify":
        queries, documents = _list(payload["inputs"]), _list(payload["docs"])
        if len(queries) != len(documents):
            raise Refused
        pairs = list(zip(queries, documents, strict=True))
    elif dialect == "langchain":
        entries = _list(payload["text_pairs"])
        if not all(isinstance(entry, list) and len(entry) == 2 for entry in entries):
            raise Refused
        pairs = [(entry[0], entry[1]) for entry in entries]
    else:
        inputs = payload["inputs"]
        entries = [inputs] if isinstance(inputs, dict) else _list(inputs)
        if not all(isinstance(entry, dict) and "text" in entry and "text_pair" in entry for entry in entries):
            raise Refused
        pairs = [(entry["text"], entry["text_pair"]) for entry in entries]
    groups = [
        Group(query=_query(query), texts=[_text(document)], originals=[document]) for query, document in pairs
    ]
    return Expected(dialect=dialect, groups=groups)


def _row(row: dict[str, Any]) -> Expected:
    return Expected(dialect="jina-marketplace", groups=[_group(row, identity=row["id"])], echo=True)


def _group(entry: Any, *, rank_fields: Sequence[str] = ("text",), identity: str | None = None) -> Group:
    if not isinstance(entry, dict):
        raise Refused
    query, originals = _query(entry.get("query")), _list(entry.get("documents"))
    texts = [_document(original, rank_fields) for original in originals]
    return Group(
        query=query,
        texts=texts,
        originals=originals,
        top_n=_count(entry, "top_n", "top_k"),
        identity=identity,
    )


def _document(value: Any, rank_fields: Sequence[str]) -> str:
    if not isinstance(value, dict):
        return _text(value)
    present = [value[name] for name in rank_fields if name in value]
    if not present:
        raise Refused
    if not all(isinstance(text, str) for text in present):
        raise Open
    return "\n".join(present)


def _names(payload: dict[str, Any]) -> Sequence[str]:
    value = payload.get("rank_fields")
    if value is None:
        return ("text",)
    names = [_text(name) for name in _list(value)]
    if len(set(names)) < len(names) or len(names) > 20:
        raise Open  # deduplicated, or refused
    return names


def _query(value: Any) -> str:
    if isinstance(value, dict):
        raise Open
    text = _text(value)
    if not text.strip():
        raise Refused
    return text


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise Refused
    return value


def _option(payload: dict[str, Any], *names: str) -> Any:
    given = [payload[name] for name in names if payload.get(name) is not None]
    if len(given) > 1:
        raise Open
    return given[0] if given else None


def _flag(payload: dict[str, Any], *names: str, default: bool) -> bool:
    value = _option(payload, *names)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Refused
    return value


def _count(payload: dict[str, Any], *names: str) -> int | None:
    value = _option(payload, *names)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        raise Open
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Refused
    return value


# Answers.


def strict(text: bytes) -> Any:
    """The value of a JSON text that any parser reads alike. Raises Wrong."""

    def constant(name: str) -> NoReturn:
        raise Wrong(f"{name} in an answer")

    try:
        return json.loads(text.decode(), parse_constant=constant)
    except UnicodeDecodeError:
        raise Wrong("the answer is not UTF-8") from None
    except ValueError:
        raise Wrong("the answer is not JSON") from None


def check(
    case: Case, expected: Sequence[Expected], answer: bytes, table: Table, *, tolerance: float = 1e-4
) -> bool:
    """Raise Wrong unless `answer` is the one that was asked for. False where its scores are too many to be known.

    tolerance 0: ties too are in the order of the request.
    """
    media = _media(case.content_type)
    texts = [answer] if media == JSON else answer.split(b"\n")[:-1]
    if len(texts) != len(expected):
        raise Wrong(f"{len(texts)} answers to {len(expected)} requests")
    known = True
    for one, text in zip(expected, texts, strict=True):
        value = strict(text)
        try:
            known &= _check(one, value, table, tolerance)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise Wrong(f"an answer of another form ({type(error).__name__})") from None
    return known


def _check(one: Expected, value: Any, table: Table, tolerance: float) -> bool:
    if one.dialect in ("langchain", "huggingface", "dify"):
        scores = [entry["score"] for entry in value] if one.dialect == "huggingface" else value["scores"]
        return _check_pairs(one, scores, table, tolerance)
    if one.dialect == "jina-marketplace":
        if len(value["data"]) != len(one.groups):
            raise Wrong(f"{len(value['data'])} entries for {len(one.groups)} queries")
        entries = zip(one.groups, value["data"], strict=True)
        known = [_check_entry(one, group, entry, table, tolerance) for group, entry in entries]
        return all(known)
    (group,) = one.groups
    if one.dialect == "tei":
        for result in value:
            _echoed(result, "text", group.texts[result["index"]], shown=one.echo)
        return _ranked(group, one, _scored(value, "score"), table, tolerance)
    if one.dialect == "jina" and not value["usage"]["total_tokens"] > 0:
        raise Wrong("no tokens")
    for result in value["results"]:
        original = group.originals[result["index"]]
        if one.dialect != "jina" and isinstance(original, str):
            original = {"text": original}
        _echoed(result, "document", original, shown=one.echo)
    return _ranked(group, one, _scored(value["results"], "relevance_score"), table, tolerance)


def _check_pairs(one: Expected, scores: Sequence[Any], table: Table, tolerance: float) -> bool:
    if len(scores) != len(one.groups):
        raise Wrong(f"{len(scores)} scores for {len(one.groups)} pairs")
    logits = [table(group.query, group.texts, one.keep, one.left) for group in one.groups]
    for score, logit in zip(scores, logits, strict=True):
        _same(score, None if logit is None else sigmoid(logit[0]), tolerance)
    return None not in logits


def _check_entry(one: Expected, group: Group, entry: Any, table: Table, tolerance: float) -> bool:
    if group.identity is not None and entry["id"] != group.identity:
        raise Wrong("another row's id")
    for result in entry["results"]:
        if result["id"] != entry["id"]:
            raise Wrong("a result with another query's id")
        if result["document"]["text"] != group.texts[result["index"]]:
            raise Wrong("another document's text")
    return _ranked(group, one, _scored(entry["results"], "relevance_score"), table, tolerance)


def _scored(results: Any, name: str) -> list[tuple[int, float]]:
    return [(result["index"], result[name]) for result in results]


def _echoed(result: dict[str, Any], name: str, original: Any, *, shown: bool) -> None:
    if (name in result) != shown:
        raise Wrong(f"{name} {'missing' if shown else 'shown'}")
    # As JSON: True is not 1 there, and the order of the keys is part of the object.
    if shown and json.dumps(result[name]) != json.dumps(original):
        raise Wrong("a document that is not the one sent")


def _ranked(
    group: Group, one: Expected, results: list[tuple[int, float]], table: Table, tolerance: float
) -> bool:
    count = len(group.texts)
    indices = [index for index, _ in results]
    if len(results) != min(count, group.top_n or count):
        raise Wrong(f"{len(results)} results, top_n {group.top_n} of {count}")
    if len(set(indices)) < len(indices) or not all(
        type(index) is int and 0 <= index < count for index in indices
    ):
        raise Wrong("an index twice, or of no document")
    logits = table(group.query, group.texts, one.keep, one.left)
    values = None if logits is None else [logit if one.raw else sigmoid(logit) for logit in logits]
    for index, score in results:
        _same(score, None if values is None else values[index], max(tolerance, 1e-8), bounded=not one.raw)
    scores = [score for _, score in results]
    if scores != sorted(scores, reverse=True):
        raise Wrong("not best first")
    if logits is None or values is None:
        return False
    if tolerance == 0:
        order = sorted(range(count), key=lambda index: -logits[index])
        if indices != order[: len(indices)]:
            raise Wrong("not in order")
    left_out = [values[index] for index in set(range(count)) - set(indices)]
    if left_out and max(left_out) > scores[-1] + 2 * tolerance + 1e-8:
        raise Wrong("a better document was left out")
    return True


def _same(score: Any, value: float | None, tolerance: float, *, bounded: bool = True) -> None:
    if type(score) not in (int, float) or not math.isfinite(score) or (bounded and not 0 <= score <= 1):
        raise Wrong("no score")
    if value is not None and abs(score - value) > max(tolerance, 1e-12) * max(1.0, abs(value)):
        raise Wrong(f"a score of {score}, not {value}")


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


_ERROR_KEYS = ({"detail"}, {"message", "id"}, {"error", "error_type"}, {"error", "request_id"})


def check_error(case: Case, answer: bytes) -> None:
    """Raise Wrong unless a refusal is small, in one of the dialects' forms, and shows no text of the request."""
    value = strict(answer)
    if not isinstance(value, dict) or set(value) not in _ERROR_KEYS:
        raise Wrong("an error of another form")
    message = value.get("message") or value.get("error") or value["detail"]["message"]
    if not isinstance(message, str) or not message.strip():
        raise Wrong("an error without a sentence")
    if len(answer) > 4096:
        raise Wrong(f"an error of {len(answer)} bytes")
    # Names of fields are quoted: a change may have made a text one.
    if CANARY.encode() in answer and b"rank_fields" not in case.body:
        raise Wrong("an error that shows a text of the request")
