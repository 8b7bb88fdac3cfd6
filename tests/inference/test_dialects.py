"""Every dialect in and out, and everything that is no request."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagerank_inference import dialects
from sagerank_inference.contract import (
    Group,
    Limits,
    RerankError,
    RerankRequest,
    Scores,
    Timings,
    status,
)
from sagerank_inference.dialects import Call, parse, render, render_error, sigmoid
from sagerank_inference.dialects.dialect import Dialect, Scored
from sagerank_inference.dialects.fields import Fields, read_list, read_query

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
        "model": "m",
        "object": "list",
        "usage": {"total_tokens": 11},
        "results": [
            {"index": 1, "relevance_score": round(TOP[0], 8), "document": "ccc"},
            {"index": 0, "relevance_score": round(TOP[2], 8), "document": {"text": "b", "id": 7}},
        ],
    }
    short = answer({"query": "q", "documents": DOCS, "top_k": 1, "return_documents": False})
    assert short["results"] == [{"index": 1, "relevance_score": round(TOP[0], 8)}]


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
    assert one["results"][0]["relevance_score"] == round(sigmoid(4.0), 8), "both fields were ranked"
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
    assert answer({"inputs": {"text": "q", "text_pair": "b"}}) == labelled[:1]


def test_json_lines_answer_line_by_line() -> None:
    lines = b'{"query":"q","documents":["b"]}\n\n{"query":"q","texts":["b"]}\n'
    call = parse(lines, "application/jsonlines")
    body, media_type = render(call, scored(call), model="m", request_id="r")
    first, second = map(json.loads, body.splitlines())
    assert (first["object"], second[0]["index"], media_type) == ("list", 0, "application/jsonlines")
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
        parse(b"only,two\n", "text/csv")


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object, not a list"),
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
        ({"query": "q", "documents": ["a", None]}, r"documents\[1\] must be a string or an object"),
        ({"query": "q", "documents": [{"body": "a"}]}, r"documents\[0\] has no field 'text'"),
        (b'{"query":"q","documents":["\\ud800"]}', "surrogate"),
        ({"query": "q", "documents": ["a"], "top_n": 0}, "top_n must be a whole number"),
        ({"query": "q", "documents": ["a"], "top_n": True}, "top_n must be a whole number"),
        ({"query": "q", "documents": ["a"], "top_n": 1.5}, "top_n must be a whole number"),
        (
            {"query": "q", "documents": ["a"], "return_documents": "yes"},
            "return_documents must be true or false",
        ),
        ({"query": "q", "documents": ["a"], "return_embeddings": True}, "return_embeddings is not offered"),
        ({"query": "q", "texts": [{"text": "a"}]}, r"texts\[0\] must be a string"),
        ({"query": "q", "texts": ["a"], "truncation_direction": "up"}, "truncation_direction"),
        ({"text_pairs": [["q"]]}, r"text_pairs\[0\]"),
        ({"inputs": [{"text": "q"}]}, "text_pair"),
        ({"inputs": ["q"], "docs": []}, "docs is empty"),
        ({"inputs": ["q"], "docs": ["a", "b"]}, "1 entries and docs 2"),
        ({"data": [3]}, r"data\[0\] must be an object"),
        ({"query": "q", "documents": ["a"] * 10_001}, "10001 documents, more than 10000"),
        (
            b'{"query":"q","documents":[{"text":"a","x":1e999}]}',
            r"documents\[0\] holds a number that is not finite",
        ),
        (
            b'{"query":"q","documents":["a",{"text":"a","x":["\\ud800"]}]}',
            r"documents\[1\] holds half of a surrogate",
        ),
        (
            b'{"query":"q","documents":[{"text":"a","\\udc00":1}]}',
            r"documents\[0\] holds half of a surrogate",
        ),
        (b'{"query":"q","documents":["a"],"x":[' + b"[]," * 600_000 + b"0]}", "more than 500000 JSON values"),
        (b'{"query":"q","documents":["a"],"x":"' + b'\\",' * 600_000, "not JSON"),
        (
            {"query": "q", "documents": [{}], "rank_fields": ["x" * 900] * 5_000},
            r"documents\[0\] has no field 'x{40}': name",
        ),
    ],
)
def test_what_is_no_request_gets_a_sentence(payload: object, sentence: str) -> None:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    with pytest.raises(RerankError, match=sentence) as caught:
        parse(body, None)
    assert 400 <= status(caught.value) < 500


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ('id,q,["a"],' + "9" * 5_000, "top_n must be a whole number of at least 1, in at most 18 digits"),
        ('id,q,["a"],-1', "top_n must be a whole number"),
        ("id,q,,1", "Line 1: documents is empty"),
        ("id,q,a", "Line 1: documents is not JSON"),
        ("id,q,[" + "[" * 3_000, "Line 1: documents is (not JSON|nested too deeply)"),
        ("id,q,[" + "9" * 5_000 + "]", "Line 1: documents is not JSON"),
        ("id,q,[1e999]", r"documents\[0\] must be a string"),
        ("id,q\0,[]", "Line 1: "),
    ],
)
def test_rows_of_csv_that_are_no_request(row: str, sentence: str) -> None:
    with pytest.raises(RerankError, match=sentence) as caught:
        parse(row.encode(), "text/csv")
    assert status(caught.value) == 400
    assert len(str(caught.value)) < 400


def test_what_ends_a_line_elsewhere_may_stand_in_a_string_of_json_lines() -> None:
    text = "a\u2028b\x85c\x0bd".replace("\x0b", "")
    line = json.dumps({"query": text, "documents": [text]}, ensure_ascii=False)
    call = parse(f"{line}\r\n\n \r\n{line}".encode(), "application/jsonlines")
    assert [request.groups[0].query for request in call.requests] == [text, text]
    body, _ = render(call, scored(call), model="m", request_id="r")
    assert [json.loads(one)["results"][0]["document"] for one in body.decode().rstrip("\n").split("\n")] == [
        text
    ] * 2


def test_objects_are_echoed_as_they_came() -> None:
    documents = [
        "a",
        {"text": "b", "n": [1, 2.5, None, True, {"é": "\u2028"}], "z": 10**40},
        {"text": "", "a": {}},
    ]
    got = answer({"query": "q", "documents": documents})
    assert [item["document"] for item in sorted(got["results"], key=lambda item: item["index"])] == documents
    echoed = answer({"query": "q", "documents": documents, "api_version": 1, "return_documents": True})
    assert {item["index"]: item["document"] for item in echoed["results"]} == {
        0: {"text": "a"},
        1: documents[1],
        2: documents[2],
    }
    # What is not echoed need not be fit for it.
    assert answer(b'{"query":"q","documents":[{"text":"a","x":1e999}],"return_documents":false}')["results"]


def test_rank_fields_are_taken_once_in_their_order() -> None:
    body = {
        "query": "q",
        "documents": [{"b": "2", "a": "1", "c": "3"}],
        "rank_fields": ["a", "b", "a", "x"] * 9,
    }
    assert parse(json.dumps(body).encode(), None).requests[0].groups[0].documents == ("1\n2",)


def test_reading_takes_time_that_is_linear_in_the_bytes() -> None:
    """Of what took 40 s: a bound far above what it takes now, and far below that."""
    many = [f"f{n}" for n in range(100_000)]
    bodies: list[object] = [
        {"query": "q", "documents": [{"text": "a"}] * 9_000, "rank_fields": [*many, "text"]},
        {"query": "q", "documents": [{"text": "a"}] * 9_000, "rank_fields": ["text"] * 100_000},
        {"text_pairs": [[f"q{n}", "a"] for n in range(10_000)]},
    ]
    began = time.process_time()
    for body in bodies:
        answer(body)
    for hostile in (
        b'"\\' * 1_000_000,
        b"[" * 3_000_000,
        b"[]," * 1_000_000,
        b'{"query":"' + b'\\"' * 1_500_000,
    ):
        with pytest.raises(RerankError):
            parse(hostile, None)
    assert time.process_time() - began < 10


def test_media_types() -> None:
    body = b'\xef\xbb\xbf{"query":"q","documents":["a"]}'
    for accepted in (None, "application/json", "Application/JSON; charset=UTF-8"):
        assert parse(body, accepted).requests[0].dialect == "jina"
    for refused in ("text/plain", "application/json; charset=latin-1", "application/x-www-form-urlencoded"):
        with pytest.raises(RerankError) as caught:
            parse(body, refused)
        assert status(caught.value) == 415
    with pytest.raises(RerankError) as caught:
        parse(body, None, limits=Limits(max_body_bytes=10))
    assert status(caught.value) == 413


@pytest.mark.parametrize(
    ("payload", "path", "keys"),
    [
        ({"query": "", "documents": ["a"]}, "/v1/rerank", {"detail"}),
        ({"query": "", "documents": ["a"]}, "/v2/rerank", {"message", "id"}),
        ({"query": "", "texts": ["a"]}, "/rerank", {"error", "error_type"}),
        ({"text_pairs": []}, "/invocations", {"error", "request_id"}),
        ({"data": {}}, "/invocations", {"detail"}),
        ({}, "/v2/rerank", {"message", "id"}),
    ],
)
def test_errors_come_in_the_form_of_the_dialect(payload: object, path: str, keys: set[str]) -> None:
    with pytest.raises(RerankError) as caught:
        parse(json.dumps(payload).encode(), None, path=path)
    assert set(json.loads(render_error(caught.value, path=path, request_id="r"))) == keys


class Lucid(Dialect):
    """What a new file in dialects/ would hold."""

    name, keys, shape, path = "lucid", ("ask", "of"), '{"ask", "of"} (Lucid)', "/lucid"

    def read(self, fields: Fields) -> RerankRequest:
        texts = read_list(fields.payload.get("of"), "of")
        return RerankRequest(self.name, (Group(read_query(fields.payload.get("ask"), "ask"), tuple(texts)),))

    def answer(self, scored: Scored) -> object:
        return {"best": scored.ranked()[2][0], "id": scored.request_id}

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
        assert set(json.loads(render_error(caught.value, path="/rerank", request_id="r"))) == {"sorry", "id"}
    with pytest.raises(RerankError) as caught:
        parse(b"{", None, path="/lucid")
    assert "sorry" in json.loads(render_error(caught.value, path="/lucid", request_id="r"))
    # On its own path it reads bodies that dialects before it recognise, too.
    assert answer({"ask": "q", "of": DOCS, "query": "q", "documents": DOCS}, "/lucid") == {
        "best": 1,
        "id": "r",
    }


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
    refused: RerankError | None = None
    try:
        call = parse(body, content_type, path=path)
    except RerankError as error:
        refused = error
    if refused:
        json.loads(render_error(refused, path=path, request_id="r"))
        assert 400 <= status(refused) < 500
        return
    rendered, _ = render(call, scored(call), model="m", request_id="r")
    for line in rendered.splitlines():
        json.loads(line)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=50), st.integers(1, 60))
def test_results_are_sorted_distinct_and_as_many_as_asked(values: list[float], top_n: int) -> None:
    call = parse(json.dumps({"query": "q", "documents": ["d"] * len(values), "top_n": top_n}).encode(), None)
    scores = [[Scores(tuple(values), 1, (1,) * len(values), TIMINGS)]]
    results = json.loads(render(call, scores, model="m", request_id="r")[0])["results"]
    indices = [item["index"] for item in results]
    assert len(set(indices)) == len(indices) == min(top_n, len(values))
    assert [values[index] for index in indices] == sorted(values, reverse=True)[:top_n]
    assert all(math.isfinite(item["relevance_score"]) for item in results)
