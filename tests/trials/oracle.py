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
    "text/json": JSON,
}
_UNLABELLED = ("", "*/*", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain")
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
    """One request of a body. `keep` and `left` are how many tokens of a document count, and from which end.

    `alone`: one pair outside of a list. `lowest`: results below that score are left out.
    """

    dialect: str
    groups: Sequence[Group]
    echo: bool = False
    raw: bool = False
    keep: int | None = None
    left: bool = False
    alone: bool = False
    lowest: float | None = None


# Logits of a query's texts, those cut as `keep` and `left` say; None where they are too many to be known.
Table = Callable[[str, Sequence[str], int | None, bool], Sequence[float] | None]


def read(case: Case) -> list[Expected]:
    """What a body asks for. Raises Refused or Open."""
    if len(case.body) > MOST_BYTES:
        raise Refused
    try:
        text = case.body.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise Refused from None
    media = _media(case.content_type, text)
    if media == CSV:
        if case.rows is None:
            raise Open
        requests = _table(case.rows) if "passage" in case.rows[0] else [_row(row) for row in case.rows]
    elif media == LINES:
        whole = text.rstrip(" \t\r\n")
        texts = [line.strip(" \t\r\n") for line in whole.split("\n")] if whole else []
        if not all(texts):
            raise Refused
        requests = [_request(_decoded(line), case.path) for line in texts]
    else:
        requests = [_request(value, case.path) for value in _values_of(text)]
    if not requests or sum(len(group.texts) for one in requests for group in one.groups) > MOST_DOCUMENTS:
        raise Refused
    return requests


def _values_of(text: str) -> list[Any]:
    """The requests of a body of JSON: one, several one after the other, or those of a list."""
    pieces, rest = [], text.strip(" \t\r\n")
    while rest:
        try:
            _, end = json.JSONDecoder().raw_decode(rest)
        except (ValueError, RecursionError):
            end = len(rest)  # whose error it is will be seen
        pieces.append(rest[:end])
        rest = rest[end:].lstrip(" \t\r\n")
    if len(pieces) > 1 and len(pieces) > MOST_DOCUMENTS // 2:
        raise Open
    found = [_decoded(piece, objects=len(pieces) > 1) for piece in pieces]
    if len(found) == 1 and isinstance(found[0], list):
        if not found[0] or not all(isinstance(one, dict) for one in found[0]):
            raise Refused
        return list(found[0])
    return found


def _media(content_type: str | None, text: str) -> str:
    if content_type is None:
        return JSON
    name, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if name in _UNLABELLED and text.lstrip(" \t\r\n")[:1] in ("{", "["):
        name = JSON
    if name not in _MEDIA:
        raise Refused if "/" in name else Open
    for parameter in parameters:
        if parameter and parameter not in ("charset=utf-8", 'charset="utf-8"'):
            raise Open
    return _MEDIA[name]


def _decoded(text: str, *, objects: bool = True) -> Any:
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
    if objects and not isinstance(value, dict):
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


# The keys that tell a body's family, in pairs where only both do.
_FAMILIES: dict[str, tuple[str, ...]] = {
    "bedrock": ("queries", "sources"),
    "data": ("data",),
    "tei": ("texts",),
    "nvidia": ("passages",),
    "input": ("input",),
    "text_pairs": ("text_pairs",),
    "inputs": ("inputs",),
    "text_1": ("text_1", "text_2"),
    "data_1": ("data_1", "data_2"),
    "items": ("queries", "items"),
    "queries": ("queries", "documents"),
    "documents": ("documents",),
}


def _dialect(payload: dict[str, Any], path: str) -> str:
    if path in BY_PATH:
        return BY_PATH[path]
    families = [name for name, keys in _FAMILIES.items() if all(payload.get(key) is not None for key in keys)]
    if "queries" in families:
        families.remove("documents")
    if len(families) != 1:
        raise Open if families else Refused
    (family,) = families
    if family in _SCORES and payload.get("query") is not None:
        raise Open
    find = _OF_FAMILY.get(family)
    return find(payload) if find else _NAMES.get(family, family)


def _of_input(payload: dict[str, Any]) -> str:
    if isinstance(payload["input"], dict):
        return "dashscope"
    own = any(payload.get(name) is not None for name in ("top_k", "return_input", "rewrite_query"))
    if own and not isinstance(payload["input"], list):
        raise Open
    return "mixedbread" if own else "elastic"


def _of_documents(payload: dict[str, Any]) -> str:
    version = payload.get("api_version")
    if isinstance(version, bool | float | list | dict):
        raise Open
    marks = {
        "voyage": payload.get("top_n") is None
        and ({"top_k", "truncation"} <= payload.keys() or str(payload.get("model")).startswith("rerank-2")),
        "weaviate": isinstance(payload.get("property"), str),
        "pinecone": isinstance(payload.get("parameters"), dict)
        and payload["parameters"].get("truncate") is not None,
        "cohere-v2": str(version) == "2" or payload.get("priority") is not None,
        "cohere-v1": str(version) == "1"
        or any(payload.get(name) is not None for name in ("rank_fields", "max_chunks_per_doc")),
    }
    found = [name for name, marked in marks.items() if marked]
    if len(found) > 1 and found != ["pinecone", "cohere-v1"]:
        raise Open
    return found[0] if found else "jina"


def _of_inputs(payload: dict[str, Any]) -> str:
    inputs = payload["inputs"]
    if payload.get("docs") is not None:
        if isinstance(inputs, dict):
            raise Open
        return "dify"
    if isinstance(inputs, dict):
        found = [name for name in ("source_sentence", "texts", "text") if inputs.get(name) is not None]
        if len(found) > 1:
            raise Open
        return {"source_sentence": "huggingface-sentences", "texts": "huggingface-texts"}.get(
            "".join(found), "huggingface"
        )
    return (
        "huggingface-ranking"
        if isinstance(inputs, list) and inputs and isinstance(inputs[0], list)
        else "huggingface"
    )


BY_PATH = {"/v2/rerank": "cohere-v2", "/predict": "tei-predict", "/v1/inference/a-model": "deepinfra"}
_SCORES = ("text_1", "data_1", "items", "queries")
_NAMES = {"data": "jina-marketplace", "text_pairs": "langchain", **dict.fromkeys(_SCORES, "score")}
_OF_FAMILY = {"documents": _of_documents, "inputs": _of_inputs, "input": _of_input}
_PAIRS = ("langchain", "huggingface", "huggingface-ranking", "dify", "tei-predict")
_IN_ORDER = (*_PAIRS, "score", "deepinfra", "weaviate", "huggingface-sentences")
# The object with the request's own fields, where that is not the body.
_INSIDE = {
    "huggingface-texts": "inputs",
    "huggingface-sentences": "inputs",
    "dashscope": "input",
    "jina-marketplace": "data",
}
_COUNTS = {**dict.fromkeys(("tei", "huggingface-texts", "elastic"), ("top_n",)), "huggingface-sentences": ()}
# By dialect: the field that asks for an echo, whether it is asked for anyway, and the documents.
_ECHO: dict[str, tuple[tuple[str, ...], bool, str]] = {
    "tei": (("return_text", "return_documents"), False, "texts"),
    "huggingface-texts": (("return_text", "return_documents"), False, "texts"),
    "mixedbread": (("return_input",), False, "input"),
    "elastic": (("return_documents",), False, "input"),
    "nvidia": (("nothing",), False, "passages"),
    "huggingface-sentences": (("nothing",), False, "sentences"),
    "jina": (("return_documents",), True, "documents"),
    "pinecone": (("return_documents",), True, "documents"),
}


def _request(payload: dict[str, Any], path: str) -> Expected:
    dialect = _dialect(payload, path)
    if dialect in _PAIRS:
        return _pairs(dialect, payload)
    if dialect in ("score", "deepinfra"):
        return _score(dialect, payload)
    if dialect == "bedrock":
        return _bedrock(payload)
    options = _options(dialect, payload)
    common = _common(options, raw=dialect == "nvidia", in_order=dialect in _IN_ORDER)
    if dialect == "jina-marketplace":
        data = payload["data"]
        entries = _list(data) if isinstance(data, list) else [data]
        return Expected(dialect=dialect, groups=[_group(entry) for entry in entries], echo=True, **common)
    if dialect == "jina" and any(payload.get(name) for name in ("return_embeddings", "image", "images")):
        raise Refused
    asks, anyway, documents = _ECHO.get(dialect, (("return_documents",), False, "documents"))
    named = dialect in ("cohere-v1", "cohere-v2", "pinecone", "mixedbread")
    echo = _flag(options, *asks, default=anyway)
    counts = _COUNTS.get(dialect, ("top_n", "top_k"))
    group = _group(options, documents, rank_fields=_names(options) if named else (), counts=counts)
    return Expected(dialect=dialect, groups=[group], echo=echo, **common)


def _options(dialect: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request, wherever they stand."""
    inside, parameters = payload.get(_INSIDE.get(dialect, "")), payload.get("parameters")
    if parameters is not None and (
        dialect not in ("dashscope", "pinecone") or not isinstance(parameters, dict)
    ):
        raise Open
    if dialect == "elastic":
        if payload.get("task_settings"):
            raise Open
        if isinstance(payload["input"], str):
            return {**payload, "input": [payload["input"]]}
    if dialect == "huggingface-sentences" and isinstance(inside, dict):
        inside = {**inside, "query": inside["source_sentence"]}
    return {**payload, **(parameters or {}), **(inside if isinstance(inside, dict) else {})}


def _common(payload: dict[str, Any], *, raw: bool = False, in_order: bool = False) -> dict[str, Any]:
    """The options of every dialect, as fields of Expected."""
    for name in (
        "use_activation",
        "activation",
        "function_to_apply",
        "relevant_spans",
        "truncate_prompt_tokens",
    ):
        if payload.get(name) is not None:
            raise Open
    cut = {**payload, "truncate": None} if payload.get("truncate") == "END" else payload
    if not _flag(cut, "truncate", "truncation", default=True) or _flag(
        payload, "return_spans", default=False
    ):
        raise Open
    lowest = payload.get("min_score")
    if lowest is not None:
        if in_order:
            raise Refused
        if isinstance(lowest, bool | list | dict):
            raise Refused
        if not isinstance(lowest, int | float):
            raise Open
        lowest = float(lowest)
    direction = _option(payload, "truncation_direction", "truncation_side")
    if direction is not None and (
        not isinstance(direction, str) or direction.lower() not in ("left", "right")
    ):
        raise Refused
    return {
        "raw": _flag(payload, "raw_scores", default=raw),
        "keep": _count(payload, "max_doc_length", "max_tokens_per_doc"),
        "left": str(direction).lower() == "left",
        "lowest": lowest,
    }


def _pairs(dialect: str, payload: dict[str, Any]) -> Expected:
    if isinstance(payload.get("parameters"), dict) and payload["parameters"]:
        raise Open
    common = _common(payload, in_order=True)
    pairs: list[tuple[Any, Any]]
    alone = False
    if dialect == "dify":
        queries, documents = _list(payload["inputs"], empty=True), _list(payload["docs"], empty=True)
        if len(queries) != len(documents):
            raise Refused
        pairs = list(zip(queries, documents, strict=True))
    elif dialect in ("langchain", "huggingface-ranking"):
        entries = _list(payload["text_pairs" if dialect == "langchain" else "inputs"], empty=True)
        pairs = _lists_of_two(entries)
    elif dialect == "tei-predict":
        entries = _list(payload.get("inputs"))
        alone = all(isinstance(entry, str) for entry in entries)
        pairs = _lists_of_two([entries] if alone else entries)
    else:
        inputs = payload["inputs"]
        alone = isinstance(inputs, dict)
        entries = [inputs] if alone else _list(inputs, empty=True)
        if not all(isinstance(entry, dict) and "text" in entry and "text_pair" in entry for entry in entries):
            raise Refused
        pairs = [(entry["text"], entry["text_pair"]) for entry in entries]
        if alone:
            pairs = [_longer_last(*pairs[0])]
    groups = [
        Group(query=_query(query), texts=[_document(document, ())], originals=[document])
        for query, document in pairs
    ]
    return Expected(dialect=dialect, groups=groups, alone=alone, **common)


def _lists_of_two(entries: Sequence[Any]) -> list[tuple[Any, Any]]:
    if not all(isinstance(entry, list) and len(entry) == 2 for entry in entries):
        raise Refused
    return [(entry[0], entry[1]) for entry in entries]


def _longer_last(first: Any, second: Any) -> tuple[Any, Any]:
    if isinstance(first, dict) or isinstance(second, dict):
        raise Open
    swapped = len(_text(first)) > len(_text(second)) and second.strip()
    return (second, first) if swapped else (first, second)


def _score(dialect: str, payload: dict[str, Any]) -> Expected:
    shapes = (("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2"))
    left, right = next(
        (keys for keys in shapes if all(payload.get(key) is not None for key in keys)), shapes[-1]
    )
    sides = [
        value if isinstance(value, list) else [value] for value in (payload.get(left), payload.get(right))
    ]
    queries, documents = sides
    if not queries or not documents or (len(queries) != len(documents) and 1 not in map(len, sides)):
        raise Refused
    count = max(map(len, sides))
    queries, documents = (side * count if len(side) == 1 else side for side in sides)
    groups = [
        Group(query=_query(query), texts=[_document(document, ())], originals=[document])
        for query, document in zip(queries, documents, strict=True)
    ]
    return Expected(dialect=dialect, groups=groups, **_common(payload, in_order=True))


def _bedrock(payload: dict[str, Any]) -> Expected:
    """Only what Bedrock.Rerank's own clients send; whatever else is left open."""
    try:
        (query,), sources = payload["queries"], payload["sources"]
        inner = payload["rerankingConfiguration"]["bedrockRerankingConfiguration"]
        texts = [source["inlineDocumentSource"]["textDocument"]["text"] for source in sources]
        count = inner.get("numberOfResults")
        sound = isinstance(sources, list) and not inner["modelConfiguration"].get(
            "additionalModelRequestFields"
        )
        sound &= not any("jsonDocument" in source["inlineDocumentSource"] for source in sources)
        text = query["textQuery"]["text"]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Open from None
    if not sound or not (count is None or (type(count) is int and count > 0)):
        raise Open
    group = Group(
        query=_query(_text(text)), texts=[_text(one) for one in _list(texts)], originals=texts, top_n=count
    )
    return Expected(dialect="bedrock", groups=[group])


def _row(row: dict[str, Any]) -> Expected:
    return Expected(dialect="jina-marketplace", groups=[_group(row, identity=row["id"])], echo=True)


def _table(rows: Sequence[dict[str, Any]]) -> list[Expected]:
    groups = [
        Group(query=_query(row["query"]), texts=[row["passage"]], originals=[row["passage"]]) for row in rows
    ]
    return [Expected(dialect="csv", groups=groups)]


def _group(
    entry: Any,
    name: str = "documents",
    *,
    rank_fields: Sequence[str] = (),
    identity: str | None = None,
    counts: Sequence[str] = ("top_n", "top_k"),
) -> Group:
    if not isinstance(entry, dict):
        raise Refused
    query, originals = _query(entry.get("query")), _list(entry.get(name))
    texts = [_document(original, rank_fields) for original in originals]
    return Group(
        query=query,
        texts=texts,
        originals=originals,
        top_n=_count(entry, *counts),
        identity=identity,
    )


def _document(value: Any, rank_fields: Sequence[str]) -> str:
    if not isinstance(value, dict):
        return _text(value)
    names = rank_fields or ("text", "content", "page_content")
    present = [value[name] for name in names if value.get(name) is not None]
    if rank_fields:
        if not present:
            raise Refused
        if not all(isinstance(text, str) for text in present):
            raise Open
        return "\n".join(present)
    if present:
        return _text(present[0])
    if any(entry is not None for entry in value.values()):
        raise Open  # as lines of all its fields
    raise Refused


def _names(payload: dict[str, Any]) -> Sequence[str]:
    value = payload.get("rank_fields")
    if value is None or value == []:
        return ()
    if isinstance(value, str):
        raise Open
    names = [_text(name) for name in _list(value)]
    if len(set(names)) < len(names) or len(names) > 20:
        raise Open  # deduplicated, or refused
    return names


def _query(value: Any) -> str:
    if isinstance(value, dict):
        if value.keys() != {"text"}:
            raise Open
        value = value["text"]
    text = _text(value)
    if not text.strip():
        raise Refused
    return text


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused
    return value


def _list(value: Any, *, empty: bool = False) -> list[Any]:
    if not isinstance(value, list) or not (value or empty):
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
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        raise Open  # some of them are read as true or false
    if not isinstance(value, bool):
        raise Refused
    return value


def _count(payload: dict[str, Any], *names: str) -> int | None:
    value = _option(payload, *names)
    if value is None:
        return None
    if isinstance(value, str) or (isinstance(value, float) and value.is_integer()):
        raise Open
    if not isinstance(value, int) or isinstance(value, bool) or value < -1:
        raise Refused
    return value if value > 0 else None


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
    lines = answer.endswith(b"\n") and expected[0].dialect != "csv"
    texts = answer.split(b"\n")[:-1] if lines else [answer]
    if len(texts) != len(expected):
        raise Wrong(f"{len(texts)} answers to {len(expected)} requests")
    known = True
    for one, text in zip(expected, texts, strict=True):
        value = list(map(float, text.split())) if one.dialect == "csv" else strict(text)
        try:
            known &= _check(one, value, table, tolerance)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise Wrong(f"an answer of another form ({type(error).__name__})") from None
    return known


def _check(one: Expected, value: Any, table: Table, tolerance: float) -> bool:
    if one.dialect in (*_IN_ORDER, "csv"):
        return _check_pairs(one, _scores_in_order(one, value), table, tolerance)
    if one.dialect == "jina-marketplace":
        if len(value["data"]) != len(one.groups):
            raise Wrong(f"{len(value['data'])} entries for {len(one.groups)} queries")
        entries = zip(one.groups, value["data"], strict=True)
        known = [_check_entry(one, group, entry, table, tolerance) for group, entry in entries]
        return all(known)
    (group,) = one.groups
    results, score, echoed = _results(one, value)
    for result in results:
        original = group.originals[result["index"]]
        if one.dialect in ("tei", "huggingface-texts", "voyage", "elastic"):
            original = group.texts[result["index"]]
        elif one.dialect != "mixedbread" and isinstance(original, str):
            original = {"text": original}
        _echoed(result, echoed, original, shown=one.echo)
    return _ranked(group, one, _scored(results, score), table, tolerance)


# By dialect: where the results are, and what their scores and documents are called.
_RESULTS: dict[str, tuple[str, str, str]] = {
    "tei": ("", "score", "text"),
    "huggingface-texts": ("", "score", "text"),
    "voyage": ("data", "relevance_score", "document"),
    "bedrock": ("results", "relevanceScore", "document"),
    "elastic": ("rerank", "relevance_score", "text"),
    "nvidia": ("rankings", "logit", "document"),
    "mixedbread": ("data", "score", "input"),
    "pinecone": ("data", "score", "document"),
}


def _results(one: Expected, value: Any) -> tuple[list[Any], str, str]:
    if one.dialect == "jina" and not value["usage"]["total_tokens"] > 0:
        raise Wrong("no tokens")
    where, score, document = _RESULTS.get(one.dialect, ("results", "relevance_score", "document"))
    results = value["output"][where] if one.dialect == "dashscope" else value[where] if where else value
    if one.dialect == "mixedbread":  # has the field in any case
        results = [{name: entry for name, entry in result.items() if entry is not None} for result in results]
    return results, score, document


def _scores_in_order(one: Expected, value: Any) -> list[Any]:
    if one.dialect == "huggingface":
        return [entry["score"] for entry in ([value] if one.alone else value)]
    if one.dialect == "tei-predict":
        return [entry["score"] for (entry,) in ([value] if one.alone else value)]
    if one.dialect == "score":
        if [entry["index"] for entry in value["data"]] != list(range(len(value["data"]))):
            raise Wrong("not in order")
        return [entry["score"] for entry in value["data"]]
    if one.dialect == "weaviate":
        if [entry["document"] for entry in value["scores"]] != list(one.groups[0].texts):
            raise Wrong("another document's text")
        return [entry["score"] for entry in value["scores"]]
    return list(value if one.dialect in ("csv", "huggingface-sentences") else value["scores"])


def _check_pairs(one: Expected, scores: Sequence[Any], table: Table, tolerance: float) -> bool:
    if len(scores) != sum(len(group.texts) for group in one.groups):
        raise Wrong(f"{len(scores)} scores for {len(one.groups)} queries")
    logits = [table(group.query, group.texts, one.keep, one.left) for group in one.groups]
    wanted = [
        None if of_group is None else of_group[index]
        for group, of_group in zip(one.groups, logits, strict=True)
        for index in range(len(group.texts))
    ]
    for score, logit in zip(scores, wanted, strict=True):
        value = None if logit is None else logit if one.raw else sigmoid(logit)
        _same(score, value, tolerance, bounded=not one.raw)
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
    most = min(count, group.top_n or count)
    if len(results) > most or (one.lowest is None and len(results) < most):
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
    if one.lowest is not None:
        slack = 2 * tolerance + 1e-8
        if any(score < one.lowest - slack for score in scores):
            raise Wrong("a result below the lowest score")
        if len(results) < most and any(value >= one.lowest + slack for value in left_out):
            raise Wrong("a result above the lowest score was left out")
        return True
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


_ERROR_KEYS = (
    {"detail"},
    {"detail", "request_id", "errors"},
    {"detail", "message", "error", "error_type"},
    {"detail", "message"},
    {"message"},
    {"message", "id"},
    {"error"},
    {"error", "error_type"},
    {"error", "request_id"},
    {"error", "detail", "requestId"},
    {"detail", "request_id"},
    {"code", "message", "request_id"},
    {"status", "error"},
)


def check_error(case: Case, answer: bytes) -> None:
    """Raise Wrong unless a refusal is small, in one of the dialects' forms, and shows no text of the request."""
    value = strict(answer)
    if not isinstance(value, dict) or set(value) not in _ERROR_KEYS:
        raise Wrong("an error of another form")
    message = value.get("message") or value.get("error") or value["detail"]
    while isinstance(message, dict):
        message = message.get("message") or message.get("error")
    if not isinstance(message, str) or not message.strip():
        raise Wrong("an error without a sentence")
    if len(answer) > 4096:
        raise Wrong(f"an error of {len(answer)} bytes")
    # Names of fields are quoted: a change may have made a text one.
    if CANARY.encode() in answer and b"rank_fields" not in case.body:
        raise Wrong("an error that shows a text of the request")
