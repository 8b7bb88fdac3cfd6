"""Every dialect in and out, and everything that is no request."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagerank_inference import dialects
from sagerank_inference.contract import (
    Group,
    InternalError,
    InvalidRequest,
    Limits,
    Overloaded,
    PayloadTooLarge,
    RerankError,
    RerankRequest,
    Scores,
    Timings,
    TokenLimitExceeded,
    Unavailable,
    status,
)
from sagerank_inference.dialects import Call, parse, render, render_error, sigmoid
from sagerank_inference.dialects.dialect import Dialect, Scored
from sagerank_inference.dialects.fields import Fields, read_query
from sagerank_inference.scale import Scale

TIMINGS = Timings(0.0, 0.0, 0.0)


def scored(call: Call) -> list[list[Scores]]:
    """The longer a document, the better: a score that tests can foresee."""
    return [
        [
            Scores(tuple(float(len(d)) for d in g.documents), 3, tuple(4 for _ in g.documents), TIMINGS)
            for g in r.groups
        ]
        for r in call.requests
    ]


def answer(payload: object, path: str = "/invocations", content_type: str | None = None) -> Any:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    call = parse(body, content_type, path=path)
    rendered, _ = render(call, scored(call), model="m", request_id="r")
    return json.loads(rendered)


DOCS = ["b", "ccc", "aa"]
TOP = [sigmoid(3.0), sigmoid(2.0), sigmoid(1.0)]


def test_jina() -> None:
    got = answer({"query": "q", "documents": [{"text": "b", "id": 7}, "ccc"], "top_n": 5})
    assert got == {
        "id": "r",
        "model": "m",
        "object": "rerank",
        "usage": {"prompt_tokens": 11, "total_tokens": 11, "completion_tokens": 0},
        "results": [
            {"index": 1, "relevance_score": TOP[0], "document": {"text": "ccc"}},
            {"index": 0, "relevance_score": TOP[2], "document": {"text": "b", "id": 7}},
        ],
        "meta": {
            "api_version": {"version": "1"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": 11},
        },
    }
    short = answer({"query": "q", "documents": DOCS, "top_k": 1, "return_documents": False})
    assert short["results"] == [{"index": 1, "relevance_score": TOP[0]}]


def test_marketplace_one_and_several() -> None:
    data = {"query": "q", "documents": [{"text": "b"}, {"text": "ccc"}], "top_n": 1}
    entry = answer({"data": data})["data"][0]
    assert len(entry["id"]) == 32
    assert entry["query_usage"]["total_tokens"] == 3
    assert entry["results"][0]["relevance_score"] == TOP[0]
    assert entry["results"][0]["document"]["text"] == "ccc"
    assert entry["results"][0]["usage"]["total_tokens"] == 4
    assert len(answer({"data": [data, data]})["data"]) == 2


def test_cohere() -> None:
    got = answer({"query": "q", "documents": DOCS, "model": "x"}, "/v2/rerank")
    assert [item["index"] for item in got["results"]] == [1, 2, 0]
    assert got["meta"]["api_version"]["version"] == "2"
    assert "document" not in got["results"][0]
    one = answer(
        {
            "query": "q",
            "documents": [{"title": "tt", "text": "b"}],
            "rank_fields": ["title", "text"],
            "return_documents": True,
        }
    )
    assert one["results"][0]["document"] == {"title": "tt", "text": "b"}
    assert one["results"][0]["relevance_score"] == sigmoid(4.0), "both fields were ranked"
    assert (
        answer({"query": "q", "documents": DOCS, "api_version": 2})["meta"]["api_version"]["version"] == "2"
    )


def test_tei() -> None:
    got = answer({"query": "q", "texts": DOCS, "return_text": True})
    assert got == [
        {"index": 1, "score": TOP[0], "text": "ccc"},
        {"index": 2, "score": TOP[1], "text": "aa"},
        {"index": 0, "score": TOP[2], "text": "b"},
    ]
    assert answer({"query": "q", "texts": DOCS, "raw_scores": True}, "/rerank")[0] == {
        "index": 1,
        "score": 3.0,
    }


def test_pairs_keep_their_order() -> None:
    scores = [TOP[2], TOP[0], TOP[1]]
    assert answer({"text_pairs": [["q", d] for d in DOCS]}) == {"scores": scores}
    assert answer({"text_pairs": [["q", "b"], ["p", "ccc"], ["q", "aa"]]}) == {"scores": scores}
    assert answer({"inputs": ["q"] * 3, "docs": DOCS}) == {"scores": scores}
    labelled = [{"label": "LABEL_0", "score": score} for score in scores]
    assert answer({"inputs": [{"text": "q", "text_pair": d} for d in DOCS]}) == labelled
    assert answer({"inputs": {"text": "q", "text_pair": "b"}}) == labelled[0]


def test_json_lines_answer_line_by_line() -> None:
    lines = b'{"query":"q","documents":["b"]}\n{"query":"q","texts":["b"]}\n'
    call = parse(lines, "application/jsonlines")
    body, media_type = render(call, scored(call), model="m", request_id="r")
    first, second = map(json.loads, body.splitlines())
    assert (first["object"], second[0]["index"], media_type) == ("rerank", 0, "application/jsonlines")
    with pytest.raises(RerankError, match=r"^Line 2: .*not JSON"):
        parse(b'{"query":"q","documents":["b"]}\n{\n', "application/jsonlines")


def test_csv_as_batch_transform_sends_it() -> None:
    documents = (
        json.dumps([{"text": 'a, "quoted" b'}, {"text": "c"}])
        .replace("\\", "\\\\")
        .replace('"', '\\"')
        .replace(",", "\\,")
    )
    call = parse(f"id1,the query,{documents},1\nid2,other,{documents}\n".encode(), "text/csv")
    assert call.requests[0].groups[0].documents == ('a, "quoted" b', "c")
    body, _ = render(call, scored(call), model="m", request_id="r")
    first, second = map(json.loads, body.splitlines())
    assert first["data"][0]["id"] == "id1"
    assert len(first["data"][0]["results"]) == 1
    assert len(second["data"][0]["results"]) == 2
    with pytest.raises(RerankError, match="Line 1: expected id,query"):
        parse(b"one of five,columns,[],1,x\n", "text/csv")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ('i,q,["a"],' + "9" * 5000, "top_n must be a whole number"),
        ('i,q,["a"],-1', "top_n must be a whole number"),
        ('i,q,["a"],1.5', "top_n must be a whole number"),
        ("i,q,[" + "9" * 5000 + "]", "documents is not JSON"),
        ('i,q,"[""a"", 1e999]"', r"documents\[1\] must be a string"),
        ("i,q, ,1", "documents is blank"),
        ("i,q,,", "documents is blank"),
        ("i,,[]", "query is blank"),
        ("i,q,{}", "documents must be a list, not an object"),
        ("i,q," + "[" * 100_000, "nested too deeply|not JSON"),
        ("i" * 257 + ',q,["a"]', "id has 257 characters"),
        ('i,q,"[""\\ud800""]"', "surrogate"),
        ("i\rj,q,[]", "not CSV"),
        ("a,b\n\nc,d", "Line 2 is blank"),
        ('"a"b,c', "not CSV"),
        ("a,b\nc,d,e", "Line 2 has 3 columns"),
        ("a,b\n,d", "Line 2: query is blank"),
        ("," * 100_000, "100001 columns"),
        ("\n" * 300_001, "more than 300000 lines"),
        ("\n\n", "The body is empty"),
    ],
)
def test_csv_that_cannot_be_read_gets_a_sentence(row: str, sentence: str) -> None:
    with pytest.raises(RerankError, match=sentence) as caught:
        parse(row.encode(), "text/csv")
    assert 400 <= status(caught.value) < 500
    assert len(str(caught.value)) < 300


def test_csv_takes_any_top_n_and_odd_characters() -> None:
    huge = parse(b'i\0,q\0,["a\\u0000"],' + b"9" * 99, "text/csv")
    body, _ = render(huge, scored(huge), model="m", request_id="r")
    assert json.loads(body)["data"][0]["results"][0]["document"]["text"] == "a\0"


def test_a_line_ends_at_a_newline_only() -> None:
    """The others may stand in a JSON string as they are."""
    text = "a\u2028b\u2029c\x85d"
    lines = [json.dumps({"query": "q", "documents": [text]}, ensure_ascii=False)] * 2
    call = parse(" \r\n".join([*lines, "", ""]).encode(), "application/jsonlines")
    assert [request.groups[0].documents for request in call.requests] == [(text,)] * 2
    with pytest.raises(RerankError, match="^Line 2 is blank"):
        parse(f"{lines[0]}\r\n \n{lines[0]}".encode(), "application/jsonlines")
    body, _ = render(call, scored(call), model="m", request_id="r")
    assert len(body.decode().splitlines()) == 2, "who splits an answer at any of them gets whole lines"
    assert json.loads(body.splitlines()[1])["results"][0]["document"]["text"] == text
    with pytest.raises(RerankError, match="The body is empty"):
        parse(b" \r\n\n", "application/jsonlines")


def test_the_limit_of_csv_stays_as_the_rest_of_the_process_has_it() -> None:
    before = csv.field_size_limit(5)
    try:
        (request,) = parse(f"a query,{'long ' * 50}\n".encode(), "text/csv; header=absent").requests
        assert len(request.groups[0].documents[0]) == 250
        assert csv.field_size_limit() == 5
    finally:
        csv.field_size_limit(before)


def lines_of(body: str, accept: str = "", content_type: str = "text/csv") -> tuple[list[str], str]:
    call = parse(body.encode(), content_type)
    rendered, media_type = render(call, scored(call), model="m", request_id="r", accept=accept)
    return rendered.decode().splitlines(), media_type


def test_two_columns_of_csv_give_one_score_a_line() -> None:
    """As SQL engines send it: https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/postgresql-ml.html."""
    rows = 'q,b\n"q","cc""c"\np,"a,\na"\nq,\n'
    expected = [repr(sigmoid(value)) for value in (1.0, 4.0, 4.0, 0.0)]
    assert lines_of(rows) == (expected, "text/csv")
    assert lines_of(rows, accept="text/csv")[0] == expected
    assert lines_of("query,passage\n" + rows)[0] == expected
    assert lines_of("Document,Query\nb,q\n")[0] == expected[:1]
    assert len(lines_of("query,passage\n", content_type="text/csv; header=absent")[0]) == 1
    assert json.loads(lines_of(rows, accept="application/json")[0][0])["scores"] == list(map(float, expected))
    with pytest.raises(RerankError, match="The header has other names"):
        parse(b"what,where\nq,a", "text/csv; header=present")
    with pytest.raises(RerankError) as caught:
        parse(b",a", "text/csv")
    assert caught.value.dialect == "csv"


def test_scores_as_csv_of_any_body() -> None:
    body = json.dumps({"query": "q", "documents": DOCS, "top_n": 1})
    expected = [repr(sigmoid(value)) for value in (1.0, 3.0, 2.0)]
    assert lines_of(body, "text/csv", "application/json") == (expected, "text/csv")
    assert lines_of(f"{body}\n{body}", "text/csv", "application/jsonlines")[0] == [",".join(expected)] * 2
    assert lines_of(body, "application/json;q=1, text/csv", "application/json")[1] == "application/json"


@given(st.lists(st.tuples(st.text(min_size=1), st.text()), min_size=1, max_size=5))
def test_standard_csv_keeps_every_character(rows: list[tuple[str, str]]) -> None:
    rows = [("query ", "passage "), *((f"q{query}", passage) for query, passage in rows)]
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    (request,) = parse(written.getvalue().encode(), "text/csv; header=absent").requests
    assert [(g.query, d) for g in request.groups for d in g.documents] == rows
    written = io.StringIO()
    documents = [passage for _, passage in rows]
    csv.writer(written).writerow(["i", rows[-1][0], json.dumps(documents, ensure_ascii=False)])
    (group,) = parse(written.getvalue().encode(), "text/csv").requests[0].groups
    assert (group.query, list(group.documents)) == (rows[-1][0], documents)


@given(st.text(min_size=1), st.lists(st.text(), min_size=1, max_size=4), st.integers(1, 9))
def test_the_csv_of_jina_sagemaker_keeps_every_character(query: str, texts: list[str], top_n: int) -> None:
    documents = json.dumps([{"text": text} for text in texts])
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_NONE, escapechar="\\", lineterminator="\n").writerow(
        ["id", f"q{query}", documents, top_n]
    )
    call = parse(written.getvalue().encode(), "text/csv")
    (group,) = call.requests[0].groups
    assert (group.query, list(group.documents), group.top_n) == (f"q{query}", texts, top_n)


@given(st.lists(st.text(), min_size=1, max_size=4), st.booleans())
def test_json_lines_keep_every_character(texts: list[str], escaped: bool) -> None:
    body = json.dumps({"query": "q", "documents": texts}, ensure_ascii=escaped)
    for content_type, text in (
        ("application/x-ndjson", f"{body}\n{body}\r\n"),
        ("application/json", f"[{body},{body}]"),
    ):
        call = parse(text.encode(), content_type)
        assert [r.groups[0].documents for r in call.requests] == [tuple(texts)] * 2
        rendered, media_type = render(call, scored(call), model="m", request_id="r")
        assert media_type == "application/jsonlines"
        for line in rendered.decode().splitlines():
            by_index = {r["index"]: r["document"]["text"] for r in json.loads(line)["results"]}
            assert [by_index[n] for n in range(len(texts))] == texts


def test_several_requests_under_a_label_of_one_are_answered_as_lines() -> None:
    one, other = (
        json.dumps({"query": "q", "documents": DOCS}),
        json.dumps({"query": "q", "texts": DOCS}, indent=2),
    )
    for body in (f"{one}\n{other}", f"{one}{other}\n", f"[{one},\n{other}]"):
        found, media_type = lines_of(body, content_type="application/json")
        assert (len(found), media_type) == (2, "application/jsonlines")
    with pytest.raises(RerankError, match="Request 2: query is blank"):
        parse(f'{one} {{"query": "", "documents": []}}'.encode(), None)
    with pytest.raises(RerankError, match=r"not JSON \(line 2, column 2\)"):
        parse(f"{one}\n x".encode(), None)


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object, not a list"),
        (b"[1]", "must be a JSON object, not a list"),
        (b"1 " * 10_001, "more than 10000 requests"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply|not JSON"),
        (b'{"query":"q","documents":["a"],"top_n":NaN}', "NaN is not a JSON number"),
        (b'{"query":"q","documents":["a"],"top_n":' + b"9" * 5000 + b"}", "not JSON"),
        ({}, "none of the shapes"),
        ({"query": "q"}, "documents must be a list, not null"),
        ({"query": " ", "documents": ["a"]}, "query is blank"),
        ({"query": 3, "documents": ["a"]}, "query must be a string, not a number"),
        ({"query": {"image": "x"}, "documents": ["a"]}, "read text"),
        ({"query": "q", "documents": []}, "documents is empty"),
        ({"query": "q", "documents": "a"}, "documents must be a list, not a string"),
        ({"query": "q", "documents": ["a", None]}, r"documents\[1\] is null: leave it out"),
        ({"query": "q", "documents": ["a", 3]}, r"documents\[1\] must be a string or an object"),
        ({"query": "q", "documents": [{}]}, r"documents\[0\] is an object without text"),
        (
            {"query": "q", "documents": [{"text": None, "n": None}]},
            r"documents\[0\] is an object without text",
        ),
        ({"query": "q", "documents": [{"text": 3}]}, r"documents\[0\]\.text must be a string"),
        (b'{"query":"q","documents":["\\ud800"]}', "surrogate"),
        ({"query": "q", "documents": ["a"], "top_n": -2}, "top_n must be a whole number"),
        ({"query": "q", "documents": ["a"], "top_n": True}, "top_n must be a whole number"),
        ({"query": "q", "documents": ["a"], "top_n": 1.5}, "top_n must be a whole number"),
        (
            {"query": "q", "documents": ["a"], "return_documents": "maybe"},
            "return_documents must be true or false",
        ),
        ({"query": "q", "documents": ["a"], "return_embeddings": True}, "return_embeddings is not offered"),
        ({"query": "q", "texts": [["a"]]}, r"texts\[0\] must be a string or an object"),
        ({"query": "q", "texts": ["a"], "truncation_direction": "up"}, "truncation_direction"),
        ({"text_pairs": [["q"]]}, r"text_pairs\[0\]"),
        ({"inputs": [{"text": "q"}]}, "text_pair"),
        ({"inputs": ["q"], "docs": []}, "1 entries and docs 0"),
        ({"inputs": ["q"], "docs": ["a", "b"]}, "1 entries and docs 2"),
        ({"data": [3]}, r"data\[0\] must be an object"),
        ({"query": "q", "documents": ["a"] * 10_001}, "10001 documents, more than 10000"),
        ({"query": "q", "texts": ["a"] * 10_001}, "10001 documents, more than 10000"),
        ({"text_pairs": [["q", "a"]] * 10_001}, "10001 documents, more than 10000"),
        ({"inputs": [{"text": "q", "text_pair": "a"}] * 10_001}, "10001 documents, more than 10000"),
        ({"inputs": ["q"] * 10_001, "docs": ["a"] * 10_001}, "10001 documents, more than 10000"),
        ({"data": [{"query": "q", "documents": ["a"]}] * 10_001}, "10001 documents, more than 10000"),
        (b'{"query":"q","documents":[{"text":"a","n":[1e999]}]}', r"documents\[0\] holds a number too large"),
        (b'{"query":"q","documents":["b",{"text":"a","n":["\\udfff"]}]}', r"documents\[1\] holds half of"),
        (b'{"query":"q","documents":[{"text":"a","\\ud800":1}]}', r"documents\[0\] holds half of"),
        (
            b'{"query":"q","documents":[{"text":"a","n":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
            "nested too deeply",
        ),
        ({"query": "q", "documents": [{}], "rank_fields": ["x" * 10**6]}, r"no field 'x{40}\.\.\.'"),
        ({"query": "q", "documents": [{}], "rank_fields": [str(n) for n in range(65)]}, "65 different names"),
        (
            {"query": "q", "documents": [{}], "rank_fields": ["a", "b", "c", "d"]},
            "no field 'a' or 'b' or 'c':",
        ),
        ({"query": "q", "documents": ["a"], "rank_fields": [1]}, r"rank_fields\[0\] must be a string"),
        ({"query": "q", "documents": ["a"], "top_n": "--5"}, "top_n must be a whole number"),
        ([{"inputs": []}] * 10_001, "more than 10000 requests"),
        ({"text_1": ["q", "r"], "text_2": "a" * 3_200_000}, "2 times a document of 3200000 characters"),
        (b'{"query":"q","documents":[' + b"[]," * 250_000 + b"[]]}", "more than 300000 JSON values"),
        (
            b'{"a":"' + b'\\\\\\"' * 9 + b'","query":"q","documents":[' + b"[]," * 250_000 + b"[]]}",
            "JSON values",
        ),
    ],
)
def test_what_is_no_request_gets_a_sentence(payload: object, sentence: str) -> None:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    with pytest.raises(RerankError, match=sentence) as caught:
        parse(body, None)
    assert 400 <= status(caught.value) < 500
    assert len(str(caught.value)) < 500


def test_lines_without_documents_are_bounded_too() -> None:
    with pytest.raises(PayloadTooLarge, match="more than 10000 requests"):
        parse(b'{"inputs":[]}\n' * 10_001, "application/jsonlines")


@pytest.mark.parametrize("start", [b"", b'a",', b'"a""",b\n', b'a\\,"\\"",', b"id,query,documents\n1,q,"])
def test_columns_of_csv_are_bounded(start: bytes) -> None:
    """Each takes memory, and a row is read in one go: a body must not become forty times as much."""
    with pytest.raises(PayloadTooLarge, match="more than 300000"):
        parse(start + b"ab," * 310_000, "text/csv")


@pytest.mark.parametrize(
    ("head", "comma"), [(b"", b","), (b"id,query,documents\n", b","), (b"id,query,documents\n", b"\\,")]
)
def test_texts_of_csv_with_many_commas_are_not_many_columns(head: bytes, comma: bytes) -> None:
    text = b"a" + comma * 310_000
    body = {
        (b"", b","): b'q,"' + text + b'"',
        (b"id,query,documents\n", b","): head + b'1,q,"[""b\\"" ' + text + b'""]"',
        (b"id,query,documents\n", b"\\,"): head + b'1,q,[\\"' + text + b'\\"]',
    }[head, comma]
    (request,) = parse(body, "text/csv").requests
    assert request.groups[0].documents[0].count(",") == 310_000


def test_text_with_many_commas_is_not_many_values() -> None:
    text = ",:[{" * 200_000 + '\\"' * 100_000
    assert parse(json.dumps({"query": "q", "documents": [text]}).encode(), None).requests[0].groups[
        0
    ].documents == (text,)


def test_limits_hold_over_lines_and_stop_there() -> None:
    line = b'{"query":"q","documents":["a","b"]}\n'
    limits = Limits(max_documents=4)
    assert len(parse(line * 2, "application/jsonlines", limits=limits).requests) == 2
    # What comes after the limit is not even read.
    for body, media_type in (
        (line * 3 + b"{", "application/jsonlines"),
        (b'i,q,["a"]\n' * 5 + b"i", "text/csv"),
    ):
        with pytest.raises(RerankError, match="documents, more than 4") as caught:
            parse(body, media_type, limits=limits)
        assert status(caught.value) == 413


def test_media_types() -> None:
    body = b'\xef\xbb\xbf{"query":"q","documents":["a"]}'
    for accepted in (
        None,
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;;charset="utf-8" ; q',
        'application/json;x="; charset=latin-1"',
        "application/json" + ";" * 50_000 + 'a="' * 20_000,
        "",
        "application/octet-stream",
        "text/plain; charset=utf-8",
        "application/x-www-form-urlencoded",
        "*/*",
        "application/vnd.sagerank+json",
    ):
        assert parse(body, accepted).requests[0].dialect == "jina"
    for refused in (
        "application/json; charset=latin-1",
        "application/json; charset='latin-1",
        'application/json;x="; charset=utf-8";charset="latin-1"',
        "image/png",
        "x" * 10_000,
    ):
        with pytest.raises(RerankError) as caught:
            parse(body, refused)
        assert status(caught.value) == 415
        assert len(str(caught.value)) < 300
    with pytest.raises(RerankError, match="Content-Type 'text/plain' is not read here"):
        parse(b"query,passage", "text/plain")
    for label in ("jsonl", "ndjson", "json-lines", "jsonlines", "x-ndjson"):
        assert parse(body, f"application/{label}").media_type == "application/jsonlines"
    with pytest.raises(RerankError) as caught:
        parse(body, None, limits=Limits(max_body_bytes=10))
    assert status(caught.value) == 413


@pytest.mark.parametrize(
    ("payload", "path", "keys"),
    [
        ({"query": "", "documents": ["a"]}, "/v1/rerank", {"detail", "request_id", "errors"}),
        ({"query": "", "documents": ["a"]}, "/v2/rerank", {"message", "id"}),
        ({"query": "", "texts": ["a"]}, "/rerank", {"error", "error_type"}),
        ({"text_pairs": {}}, "/invocations", {"error", "request_id"}),
        ({"data": {}}, "/invocations", {"detail", "request_id", "errors"}),
        ({"ask": 1}, "/invocations", {"detail", "message", "error", "error_type"}),
        ({"query": "q", "documents": 3}, "/v1/rerank", {"detail", "request_id", "errors"}),
        ({}, "/v2/rerank", {"message", "id"}),
    ],
)
def test_errors_come_in_the_form_of_the_dialect(payload: object, path: str, keys: set[str]) -> None:
    with pytest.raises(RerankError) as caught:
        parse(json.dumps(payload).encode(), None, path=path)
    assert set(json.loads(render_error(caught.value, path=path, request_id="r").body)) == keys


def test_an_error_that_several_requests_share_is_answered_to_each_in_its_form() -> None:
    error = Unavailable("No model is ready here.")
    for dialect, keys in (
        ("tei", {"error", "error_type"}),
        ("jina", {"detail"}),
        ("cohere-v2", {"message", "id"}),
    ):
        refusal = render_error(error, path="/invocations", request_id="r", dialect=dialect)
        assert set(json.loads(refusal.body)) == keys


class Lucid(Dialect):
    """What a new file in dialects/ would hold."""

    name, keys, shape, paths = "lucid", ("ask", "of"), '{"ask", "of"} (Lucid)', ("/lucid",)

    def read(self, fields: Fields) -> RerankRequest:
        return fields.request(
            self.name, [Group(read_query(fields.payload.get("ask"), "ask"), fields.texts("of"))]
        )

    def answer(self, scored: Scored) -> object:
        return {"best": scored.ranked()[0].index, "id": scored.request_id}

    def error(self, error: RerankError, request_id: str, /) -> dict[str, object]:
        return {"sorry": str(error), "id": request_id}


def test_a_new_dialect_is_one_file_and_one_line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RerankError, match="none of the shapes"):
        parse(b'{"ask":"q","of":["a"]}', None)
    monkeypatch.setitem(dialects.DIALECTS, "lucid", Lucid())
    assert answer({"ask": "q", "of": DOCS}) == {"best": 1, "id": "r"}
    for payload, path in (({"ask": "", "of": DOCS}, "/invocations"), ({}, "/lucid")):
        with pytest.raises(RerankError, match=r"^(ask|of) ") as caught:
            parse(json.dumps(payload).encode(), None, path=path)
        assert set(json.loads(render_error(caught.value, path="/rerank", request_id="r").body)) == {
            "sorry",
            "id",
        }
    with pytest.raises(RerankError) as caught:
        parse(b"{", None, path="/lucid")
    assert "sorry" in json.loads(render_error(caught.value, path="/lucid", request_id="r").body)
    # On its own path it reads bodies that dialects before it recognise, too.
    assert answer({"ask": "q", "of": DOCS, "query": "q", "documents": DOCS}, "/lucid") == {
        "best": 1,
        "id": "r",
    }


@pytest.mark.parametrize(
    ("fields", "logits"),
    [
        ({"raw_scores": True}, True),
        ({"raw_scores": "false"}, False),
        ({"use_activation": False}, True),
        ({"use_activation": None}, False),
        ({"activation": False}, True),
        ({"activation": "sigmoid"}, False),
        ({"function_to_apply": "none"}, True),
        ({"parameters": {"function_to_apply": "none"}}, True),
        ({"parameters": {"function_to_apply": "sigmoid"}}, False),
    ],
)
def test_every_dialect_obeys_who_asks_for_logits(fields: dict[str, Any], logits: bool) -> None:
    wanted = [3.0, 2.0, 1.0] if logits else TOP
    jina = answer({"query": "q", "documents": DOCS} | fields)
    assert [item["relevance_score"] for item in jina["results"]] == wanted
    assert jina.get("raw_scores", False) is logits, "a client can tell"
    cohere = answer({"query": "q", "documents": DOCS} | fields, "/v2/rerank")
    assert [item["relevance_score"] for item in cohere["results"]] == wanted
    assert [item["score"] for item in answer({"query": "q", "texts": DOCS} | fields)] == wanted
    pairs = answer({"text_pairs": [["q", d] for d in DOCS]} | fields)
    assert sorted(pairs["scores"], reverse=True) == wanted
    pairs = answer({"inputs": [{"text": "q", "text_pair": d} for d in DOCS]} | fields)
    assert sorted((item["score"] for item in pairs), reverse=True) == wanted
    data = answer({"data": {"query": "q", "documents": DOCS} | fields})["data"][0]
    assert [item["relevance_score"] for item in data["results"]] == wanted


def test_softmax_of_one_score_is_refused() -> None:
    with pytest.raises(RerankError, match="function_to_apply is not offered"):
        parse(b'{"inputs":[],"parameters":{"function_to_apply":"softmax"}}', None)


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"top_n": 0}, 3),
        ({"top_n": None}, 3),
        ({"top_n": -1}, 3),
        ({"top_n": "2"}, 2),
        ({"top_n": 2.0}, 2),
        ({"top_k": "1"}, 1),
        ({"top_n": 10**30}, 3),
        ({"top_n": "9" * 40}, 3),
    ],
)
def test_counts_are_read_as_a_pydantic_server_reads_them(fields: dict[str, Any], count: int) -> None:
    assert len(answer({"query": "q", "documents": DOCS} | fields)["results"]) == count


@pytest.mark.parametrize(
    ("value", "meaning"), [("true", True), ("False", False), (1, True), (0.0, False), (None, True)]
)
def test_flags_are_read_as_a_pydantic_server_reads_them(value: object, meaning: bool) -> None:
    results = answer({"query": "q", "documents": DOCS, "return_documents": value})["results"]
    assert ("document" in results[0]) is meaning


@pytest.mark.parametrize(
    ("document", "fields", "text"),
    [
        ({"content": "a", "id": 1}, {}, "a"),
        ({"page_content": "a", "metadata": {"x": 1}}, {}, "a"),
        ({"text": "a", "content": "b"}, {}, "a"),
        ({"text": None, "content": "b"}, {}, "b"),
        (
            {"title": "T", "year": 1999, "tags": ["x", "y"], "none": None},
            {},
            'title: T\nyear: 1999\ntags: ["x","y"]',
        ),
        ({"title": "T", "year": 1999}, {"rank_fields": ["year", "body", "title"]}, "1999\nT"),
        ({"title": "T", "text": "b"}, {"rank_fields": []}, "b"),
        ({"title": "T", "text": "b"}, {"rank_fields": None}, "b"),
        ({"text": ""}, {}, ""),
    ],
)
def test_the_text_of_an_object(document: object, fields: dict[str, Any], text: str) -> None:
    body = {"query": "q", "documents": [document], "api_version": 1, **fields}
    assert parse(json.dumps(body).encode(), None).requests[0].groups[0].documents == (text,)


def test_a_null_field_never_chooses_a_dialect() -> None:
    body = {"query": "q", "documents": DOCS, "texts": None, "text_pairs": None, "inputs": None, "data": None}
    body |= {
        "priority": None,
        "rank_fields": None,
        "max_chunks_per_doc": None,
        "api_version": None,
        "docs": None,
    }
    assert parse(json.dumps(body).encode(), None).requests[0].dialect == "jina"


def test_an_empty_list_is_answered_where_a_pipeline_sends_one() -> None:
    assert answer({"text_pairs": []}) == {"scores": []}
    assert answer({"inputs": [], "docs": []}) == {"scores": []}
    assert answer({"inputs": []}) == []
    with pytest.raises(RerankError) as caught:
        parse(b'{"query":"q","texts":[]}', None)
    refusal = render_error(caught.value, path="/rerank", request_id="r")
    assert (refusal.status, json.loads(refusal.body)["error_type"]) == (400, "Empty")


def test_scores_far_from_zero_are_not_rounded_into_ties() -> None:
    call = parse(b'{"query":"q","documents":["a","b","c"]}', None)
    scores = [[Scores((-25.0, -20.0, -22.0), 1, (1, 1, 1), TIMINGS)]]
    results = json.loads(render(call, scores, model="m", request_id="r")[0])["results"]
    assert [item["index"] for item in results] == [1, 2, 0]
    assert len({item["relevance_score"] for item in results}) == 3


def test_a_lowest_score_leaves_results_out() -> None:
    body = {"query": "q", "documents": DOCS, "min_score": 0.85}
    assert [item["index"] for item in answer(body)["results"]] == [1, 2]
    assert [item["index"] for item in answer(body | {"raw_scores": True, "min_score": 2.5})["results"]] == [1]
    assert answer({"query": "q", "texts": DOCS, "min_score": 2}) == []
    for refused, sentence in (
        ({"text_pairs": [["q", "a"]], "min_score": 0.5}, "one for each document"),
        (body | {"min_score": "high"}, "must be a finite number"),
        (body | {"min_score": True}, "must be a finite number"),
        (body | {"min_score": "calibrated"}, "there is no cut-off here"),
    ):
        with pytest.raises(RerankError, match=sentence):
            parse(json.dumps(refused).encode(), None)
    calibrated = json.dumps(body | {"min_score": "calibrated"}).encode()
    assert parse(calibrated, None, scale=Scale(cutoff=0.0)).requests[0].min_score == 0.5


def test_spans_are_answered_as_cohere_does() -> None:
    def spans(fields: dict[str, Any], path: str = "/v1/rerank") -> list[Any]:
        call = parse(json.dumps({"query": "q", "documents": DOCS} | fields).encode(), None, path=path)
        assert call.requests[0].return_spans is bool(fields)
        found = ((0, 1), (1, 3), (0, 2)) if call.requests[0].return_spans else None
        scores = [[Scores((1.0, 3.0, -3.0), 1, (1, 1, 1), TIMINGS, found)]]
        results = json.loads(render(call, scores, model="m", request_id="r")[0])["results"]
        return [item.get("relevant_spans") for item in results]

    best = [{"start": 1, "end": 3, "score": sigmoid(3.0)}]
    assert spans({"return_spans": True}) == [
        best,
        [{"start": 0, "end": 1, "score": sigmoid(1.0)}],
        [{"start": 0, "end": 2, "score": sigmoid(-3.0)}],
    ]
    cohere = {"relevant_spans": {"mode": "enabled", "threshold": 0.8}}
    assert spans(cohere, "/v2/rerank") == [best, None, None]
    assert spans({}) == [None, None, None]


@pytest.mark.parametrize(
    ("error", "path", "headers", "number"),
    [
        (InvalidRequest("x", field="query"), "/v1/rerank", {}, 400),
        (Overloaded("x", retry_after=1.0), "/v2/rerank", {}, 429),
        (InternalError("x"), "/rerank", {}, 500),
    ],
)
def test_what_is_known_before_the_body_is_answered_in_the_form_of_route_and_headers(
    error: RerankError, path: str, headers: dict[str, str], number: int
) -> None:
    refusal = render_error(error, path=path, headers=headers, request_id="r")
    assert refusal.status == number
    body = json.loads(refusal.body)
    if path == "/v2/rerank":
        assert body == {"message": "x", "id": "r"}
    else:  # whoever reads it finds its own field
        assert body["message"] == body["error"] == body["detail"]["message"] == "x"


@pytest.mark.parametrize(
    ("dialect", "error", "number", "word"),
    [
        ("jina", InvalidRequest("x", field="documents[1]"), 422, None),
        ("jina", TokenLimitExceeded("x"), 400, None),
        ("tei", InvalidRequest("x"), 422, "Validation"),
        ("tei", TokenLimitExceeded("x"), 422, "Validation"),
        ("tei", PayloadTooLarge("x"), 413, "Validation"),
        ("tei", Overloaded("x", retry_after=1.0), 429, "Overloaded"),
        ("tei", InternalError("x"), 424, "Backend"),
        ("tei", Unavailable("x"), 503, "Unhealthy"),
        ("cohere-v2", InvalidRequest("x"), 400, None),
    ],
)
def test_statuses_are_those_of_the_original(
    dialect: str, error: RerankError, number: int, word: str | None
) -> None:
    refusal = render_error(error, path="/invocations", request_id="r", dialect=dialect)
    assert refusal.status == number
    body = json.loads(refusal.body)
    assert body.get("error_type") == word
    if dialect == "jina" and number == 422:
        assert body["errors"] == [{"field": "documents[1]", "message": "x", "type": "value_error"}]


def test_sigmoid_never_overflows() -> None:
    assert (sigmoid(0.0), sigmoid(-1e9), sigmoid(1e9)) == (0.5, 0.0, 1.0)
    assert sigmoid(2.5911) == pytest.approx(0.9303, abs=1e-4)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(
    [
        "query",
        "documents",
        "texts",
        "data",
        "inputs",
        "docs",
        "text_pairs",
        "top_n",
        "rank_fields",
        "text",
        "text_pair",
    ]
)
any_request = st.dictionaries(
    keys, any_json | st.just("q") | st.lists(st.text(st.characters()), max_size=4), max_size=6
)
paths = st.sampled_from(["/invocations", "/rerank", "/v2/rerank"])
types = st.sampled_from([None, "application/jsonlines", "text/csv", "application/json"])


@given(st.binary(max_size=200) | any_request.map(lambda value: json.dumps(value).encode()), types, paths)
def test_anything_is_answered_or_refused(body: bytes, content_type: str | None, path: str) -> None:
    refusal(body, content_type, path)


DOCUMENTS = [{"text": "b", "n": [1.5, None, "é"]}, "ccc", {"text": ""}]
SEEDS: list[tuple[bytes, str, str]] = [
    *[
        (json.dumps(payload, ensure_ascii=False).encode(), "application/json", path)
        for payload, path in [
            ({"query": "q", "documents": DOCUMENTS, "top_n": 2, "max_doc_length": 9}, "/v1/rerank"),
            (
                {
                    "query": "q",
                    "documents": DOCUMENTS,
                    "rank_fields": ["n", "text"],
                    "return_documents": True,
                },
                "/",
            ),
            ({"query": "q", "documents": DOCUMENTS, "api_version": 2, "max_tokens_per_doc": 3}, "/v2/rerank"),
            (
                {"query": "q", "texts": DOCS, "raw_scores": True, "return_text": True, "truncate": False},
                "/rerank",
            ),
            ({"data": [{"query": "q", "documents": DOCUMENTS, "top_n": 1}]}, "/invocations"),
            ({"text_pairs": [["q", "a"], ["p", "b"]]}, "/invocations"),
            ({"inputs": [{"text": "q", "text_pair": "a"}]}, "/invocations"),
            ({"inputs": ["q", "p"], "docs": ["a", "b"]}, "/invocations"),
        ]
    ],
    (
        b'{"query":"q","documents":["b"]}\n\n{"query":"q","texts":["b"]}\r\n',
        "application/jsonlines",
        "/invocations",
    ),
    (
        b'id1,the query,[{\\"text\\": \\"a\\"}\\, {\\"text\\": \\"c\\"}],1\nid2,q,"[""x""]"\n',
        "text/csv",
        "/invocations",
    ),
]
SCRAPS = [
    *(
        b'"',
        b"\\",
        b"\\ud800",
        b"\\udc00",
        b"1e999",
        b"-1e999",
        b"9" * 5000,
        b"NaN",
        b"null",
        b"{",
        b"}",
        b"[",
        b"]",
    ),
    *(
        b",",
        b":",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xe2\x80\xa8",
        b"\xef\xbb\xbf",
        b'""',
        b"{}",
        b"[]",
        b"true",
    ),
    *(
        b"[" * 2000,
        b'{"a":' * 2000,
        b'"text"',
        b'"rank_fields":["a","a"],',
        b"0",
        b"-1",
        b"1.5",
        b" " * 99,
        b"\\u0000",
    ),
]


ODD = [
    None,
    True,
    0,
    -1,
    2,
    1.5,
    10**4000,
    "",
    "@",
    "x" * 300,
    "\ud800",
    "\0",
    {},
    [],
    {"text": "a"},
    ["a"],
    [["q", "a"]],
]


def changed(value: Any, chance: random.Random) -> Any:
    """A value with one of its parts replaced, removed or doubled."""
    if not value or not isinstance(value, dict | list) or chance.random() < 0.2:
        return chance.choice(ODD)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key: Any = chance.choice(keys)
    copy: Any = value.copy()
    match chance.randrange(8):
        case 0:
            del copy[key]
        case 1 if isinstance(copy, list):
            copy.append(copy[key])
        case 1:
            copy[chance.choice(["rank_fields", "return_documents", "top_n", "n", "\ud800"])] = chance.choice(
                ODD
            )
        case _:
            copy[key] = changed(copy[key], chance)
    return copy


def mutated(seed: int) -> tuple[bytes, str, str]:
    chance = random.Random(seed)
    body, media_type, path = chance.choice(SEEDS)
    if media_type == "application/json":
        payload = json.loads(body)
        for _ in range(chance.choice([0, 1, 1, 2, 4])):
            payload = changed(payload, chance)
        body = json.dumps(payload).encode().replace(b'"@"', b"1e999")
    for _ in range(chance.choice([0, 0, 0, 1, 2])):
        at, size = chance.randrange(len(body) + 1), chance.choice([0, 0, 1, 3, 20])
        scrap = chance.choice([*SCRAPS, body[at : at + 30], bytes([chance.randrange(256)])])
        body = body[:at] + scrap * chance.choice([1, 1, 2]) + body[at + size :]
    if chance.random() < 0.1:
        media_type = chance.choice(["application/json", "application/jsonlines", "text/csv"])
    if chance.random() < 0.1:
        path = chance.choice(["/invocations", "/rerank", "/v2/rerank"])
    return body, media_type, path


def refusal(body: bytes, media_type: str | None, path: str = "/invocations") -> RerankError | None:
    """What a body is refused with, in a short sentence and the dialect's form; None: it was answered, in JSON."""
    try:
        call = parse(body, media_type, path=path)
    except RerankError as error:
        refused = error
    else:
        rendered, media_type = render(call, scored(call), model="m", request_id="r")
        assert len(rendered) < 4 * len(body) + 1000 * sum(len(r.groups) for r in call.requests)
        for answer in rendered.splitlines() if media_type == "application/jsonlines" else [rendered]:
            json.loads(answer)
        return None
    assert 400 <= status(refused) < 500
    assert len(str(refused)) < 500
    json.loads(render_error(refused, path=path, request_id="r").body)
    return refused


def test_damaged_bodies_are_answered_or_refused_with_a_short_sentence() -> None:
    answered = sum(refusal(*mutated(seed)) is None for seed in range(6000))
    assert 1000 < answered < 5000


SIX = 6_000_000


def repeated(begin: str, unit: str, end: str, size: int = SIX, joined: str = ",") -> bytes:
    return (begin + joined.join([unit] * (size // len((unit + joined).encode()))) + end).encode()


HOSTILE: dict[str, Callable[[], tuple[bytes, str]]] = {
    "empty lists": lambda: (
        repeated('{"query":"q","documents":[{"text":"a","x":[', "[]", "]}]}"),
        "application/json",
    ),
    "objects": lambda: (
        repeated('{"query":"q","documents":[{"text":"a","x":[', '{"":0}', "]}]}", 2_000_000),
        "application/json",
    ),
    "strings": lambda: (repeated('{"query":"q","documents":[', '""', "]}"), "application/json"),
    "one field 20,000 times": lambda: (
        json.dumps(
            {
                "query": "q",
                "documents": [{"text": "a" * 200}] * 1000,
                "rank_fields": ["text"] * 20_000,
                "return_documents": True,
            }
        ).encode(),
        "application/json",
    ),
    "a long field": lambda: (
        json.dumps({"query": "q", "documents": [{}] * 10_000, "rank_fields": ["x" * SIX]}).encode()[:SIX],
        "application/json",
    ),
    "queries that alternate": lambda: (
        repeated('{"text_pairs":[', f'["{"a" * 250}","b"],["{"c" * 250}","d"]', "]}", 2_500_000),
        "application/json",
    ),
    "blank lines": lambda: (b"\n" * SIX, "application/jsonlines"),
    "blank rows": lambda: (b"\n" * SIX, "text/csv"),
    "columns": lambda: (b"," * SIX, "text/csv"),
    "quotation marks": lambda: (b'"' * SIX, "application/json"),
    "backslashes": lambda: (b'{"a":"' + b"\\" * SIX + b",,", "application/json"),
    "requests": lambda: (
        repeated("", '{"query":"q","documents":["a"]}', "", joined="\n"),
        "application/jsonlines",
    ),
    "emoji": lambda: (
        repeated('{"query":"q","documents":["a","', "\U0001f600", '"]}', joined=""),
        "application/json",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_six_hostile_megabytes_take_little_time_and_memory(name: str) -> None:
    """Some are refused, some answered; a bound that shows what grows faster than the body, on a busy machine too."""
    body, media_type = HOSTILE[name]()
    tracemalloc.start()
    began = time.process_time()
    try:
        refusal(body, media_type)
        seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seconds < 4
    assert peak < 120 << 20


def test_equal_queries_are_one_string() -> None:
    body = json.dumps({"text_pairs": [["query one", "a"], ["query two", "b"]] * 50}).encode()
    groups = parse(body, None).requests[0].groups
    assert len({id(group.query) for group in groups}) == 2


def test_echoed_objects_are_kept_as_json_and_only_where_they_are_echoed() -> None:
    documents = [{"text": "b", "n": {"é": [1.0, 2**70, None, "\u2028", '"\\']}}, "ccc"]
    body = {"query": "q", "documents": documents}
    (group,) = parse(json.dumps(body).encode(), None).requests[0].groups
    assert group.originals == (json.dumps(documents[0], ensure_ascii=False, separators=(",", ":")), None)
    assert [item["document"] for item in answer(body)["results"]] == [{"text": "ccc"}, documents[0]]
    v1 = {**body, "api_version": 1, "return_documents": True}
    assert [item["document"] for item in answer(v1)["results"]] == [{"text": "ccc"}, documents[0]]
    for silent, path in (
        ({**body, "return_documents": False}, "/rerank"),
        (body, "/v2/rerank"),
        ({"data": body}, "/"),
    ):
        (group,) = parse(json.dumps(silent).encode(), None, path=path).requests[0].groups
        assert group.originals is None
    # What is not sent back may hold anything.
    unsendable = b'{"query":"q","return_documents":false,"documents":[{"text":"a","n":[1e999,"\\ud800"]}]}'
    assert parse(unsendable, None).requests[0].groups[0].documents == ("a",)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=50), st.integers(1, 60))
def test_results_are_sorted_distinct_and_as_many_as_asked(values: list[float], top_n: int) -> None:
    call = parse(json.dumps({"query": "q", "documents": ["d"] * len(values), "top_n": top_n}).encode(), None)
    scores = [[Scores(tuple(values), 1, (1,) * len(values), TIMINGS)]]
    results = json.loads(render(call, scores, model="m", request_id="r")[0])["results"]
    indices = [item["index"] for item in results]
    assert len(set(indices)) == len(indices) == min(top_n, len(values))
    assert [values[index] for index in indices] == sorted(values, reverse=True)[:top_n]
    assert all(math.isfinite(item["relevance_score"]) for item in results)
