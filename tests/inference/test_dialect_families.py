"""The dialects of APIs beside Jina's, Cohere's, TEI's and LangChain's: a body as its clients send it, and what they read.

`make clients` runs the clients themselves; here is what decides between dialects, and the forms that no client of it has.
"""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest
from botocore.awsrequest import AWSResponse, HeadersDict
from botocore.parsers import create_parser
from botocore.retries.standard import RetryContext, ThrottledRetryableChecker, TransientRetryableChecker

from sagerank_inference.contract import (
    InternalError,
    InvalidRequest,
    Overloaded,
    RerankError,
    Scores,
    Timings,
    Unauthorized,
    Unavailable,
)
from sagerank_inference.dialects import DIALECTS, SHARED, Call, parse, render, render_error, sigmoid

DOCS = ["b", "ccc", "aa"]
B, CCC, AA = (sigmoid(float(len(text))) for text in DOCS)
TIMINGS = Timings(0.0, 0.0, 0.0)


def read(payload: object, path: str = "/invocations", headers: dict[str, str] | None = None) -> Call:
    return parse(json.dumps(payload).encode(), None, path=path, headers=headers or {})


def answer(payload: object, path: str = "/invocations", headers: dict[str, str] | None = None) -> Any:
    """With the length of a document as its logit."""
    call = read(payload, path, headers)
    scores = [
        [
            Scores(tuple(float(len(d)) for d in g.documents), 3, (4,) * len(g.documents), TIMINGS)
            for g in r.groups
        ]
        for r in call.requests
    ]
    return json.loads(render(call, scores, model="m", request_id="r")[0])


def order(results: list[dict[str, Any]]) -> list[int]:
    return [item["index"] for item in results]


KEYS = {"priority", "api_version", "property", "max_chunks_per_doc", "return_input", "rewrite_query", "items"}
KEYS |= {key for dialect in DIALECTS.values() for key in (*dialect.keys, *dialect.example)}


@pytest.mark.parametrize("name", [name for name, dialect in DIALECTS.items() if dialect.example])
def test_every_example_is_read_by_its_own_dialect(name: str) -> None:
    dialect = DIALECTS[name]
    paths = (
        dialect.paths[:1]
        if name in ("cohere-v2", "tei-predict", "deepinfra")
        else ("/invocations", *dialect.paths)
    )
    for path in paths:
        where = path.replace("{", "").replace("}", "")
        assert read(dialect.example, where).dialect == name
        # What others know their own by, without a value. `top_k` beside `truncation` alone says something when null.
        for silent in (KEYS - {"top_k"}, KEYS - {"truncation"}):
            assert read({**dict.fromkeys(silent), **dialect.example}, where).dialect == name


BEDROCK = (
    "AWS4-HMAC-SHA256 Credential=id/20261127/eu-west-1/bedrock/aws4_request, SignedHeaders=host, Signature=0"
)


@pytest.mark.parametrize(
    ("payload", "headers", "name"),
    [
        ({"query": "q", "documents": DOCS, "top_k": None, "truncation": True}, {}, "voyage"),
        ({"query": "q", "documents": DOCS, "model": "rerank-2.5"}, {}, "voyage"),
        ({"query": "q", "documents": DOCS, "model": "rerank-lite-1"}, {}, "voyage"),
        ({"query": "q", "documents": DOCS}, {"x-fern-sdk-name": "voyageai"}, "voyage"),
        ({"query": "q", "documents": DOCS, "model": "rerank-v3.5", "top_n": 3}, {}, "jina"),
        ({"query": "q", "documents": DOCS, "model": "rerank-english-v3.0"}, {}, "jina"),
        ({"query": "q", "documents": DOCS, "top_k": 3}, {}, "jina"),
        ({"query": "q", "documents": DOCS, "truncation": True, "top_n": 2}, {}, "jina"),
        ({"query": "q", "documents": DOCS, "property": ""}, {}, "weaviate"),
        ({"query": "q", "documents": DOCS}, {"x-fern-sdk-name": "cohere-ai"}, "cohere-v1"),
        ({"query": "q", "documents": DOCS, "api_version": 2}, {"x-fern-sdk-name": "cohere"}, "cohere-v2"),
        # InvokeModel's signature, which names the same service as Rerank's.
        ({"query": "q", "documents": DOCS}, {"authorization": BEDROCK}, "jina"),
        ({"query": "q", "documents": DOCS, "api_version": 2}, {"authorization": BEDROCK}, "cohere-v2"),
        ({"query": "q", "documents": DOCS}, {"x-pinecone-api-version": "2025-04"}, "pinecone"),
        ({"query": "q", "input": DOCS}, {}, "elastic"),
        ({"query": "q", "input": DOCS, "top_k": 3}, {}, "mixedbread"),
        ({"query": "q", "input": DOCS, "top_k": None}, {}, "elastic"),
        ({"queries": "q", "documents": DOCS}, {}, "score"),
    ],
)
def test_bodies_that_look_alike_are_told_apart(
    payload: dict[str, Any], headers: dict[str, str], name: str
) -> None:
    assert read(payload, "/v1/rerank", headers).dialect == name


def test_voyage() -> None:
    body = {"query": "q", "documents": DOCS, "top_k": 2, "truncation": True, "return_documents": True}
    assert answer(body, "/v1/rerank") == {
        "object": "list",
        "data": [
            {"index": 1, "relevance_score": CCC, "document": "ccc"},
            {"index": 2, "relevance_score": AA, "document": "aa"},
        ],
        "model": "m",
        "usage": {"total_tokens": 15},
    }


def bedrock(*sources: dict[str, Any], **options: Any) -> dict[str, Any]:
    inner = {
        "modelConfiguration": {"modelArn": "a", "additionalModelRequestFields": options.pop("extra", {})}
    }
    return {
        "queries": [{"type": "TEXT", "textQuery": {"text": "q"}}],
        "sources": [{"type": "INLINE", "inlineDocumentSource": source} for source in sources],
        "rerankingConfiguration": {
            "type": "BEDROCK_RERANKING_MODEL",
            "bedrockRerankingConfiguration": inner | options,
        },
    }


def test_bedrock() -> None:
    texts = [{"type": "TEXT", "textDocument": {"text": text}} for text in DOCS]
    assert answer(bedrock(*texts), "/rerank") == {
        "results": [
            {"index": 1, "relevanceScore": CCC},
            {"index": 2, "relevanceScore": AA},
            {"index": 0, "relevanceScore": B},
        ]
    }
    assert order(answer(bedrock(*texts, numberOfResults=1))["results"]) == [1]
    raw = answer(bedrock(*texts, extra={"raw_scores": True}))
    assert raw["results"][0]["relevanceScore"] == 3.0
    (group,) = read(bedrock({"type": "JSON", "jsonDocument": {"a": "x", "n": 1}})).requests[0].groups
    assert group.documents == ("a: x\nn: 1",)


@pytest.mark.parametrize(
    "body",
    [
        {"queries": [], "sources": [{}]},
        {"queries": [{}], "sources": [3]},
        {"queries": [{"textQuery": {"text": "q"}}], "sources": [{"inlineDocumentSource": {}}]},
        {"queries": [{"textQuery": {"text": "q"}}] * 2, "sources": [{}]},
        bedrock({"textDocument": {"text": "a"}}, numberOfResults="x"),
        bedrock({"textDocument": {"text": "a"}}) | {"rerankingConfiguration": 3},
        bedrock({"textDocument": {"text": "a"}})
        | {"rerankingConfiguration": {"bedrockRerankingConfiguration": []}},
    ],
)
def test_bedrock_refuses_as_aws_does(body: dict[str, Any]) -> None:
    with pytest.raises(RerankError) as caught:
        read(body)
    refusal = render_error(caught.value, path="/rerank", request_id="r")
    assert (refusal.status, set(json.loads(refusal.body))) == (400, {"message"})
    assert refusal.headers["x-amzn-ErrorType"] == "ValidationException"


@pytest.mark.parametrize(
    ("error", "code", "retried"),
    [
        (Overloaded("x", retry_after=1), "ThrottlingException", True),
        (Unavailable("x"), "InternalServerException", True),
        (InvalidRequest("x"), "ValidationException", False),
        (Unauthorized("x"), "AccessDeniedException", False),
    ],
)
@pytest.mark.parametrize(
    ("operation", "path"), [("Rerank", "/rerank"), ("InvokeModel", "/model/cohere.rerank-v3-5:0/invoke")]
)
def test_botocore_reads_errors_and_tries_again(
    error: RerankError, code: str, retried: bool, operation: str, path: str
) -> None:
    service = "bedrock-agent-runtime" if operation == "Rerank" else "bedrock-runtime"
    model = botocore.session.get_session().get_service_model(service).operation_model(operation)
    error.dialect = "bedrock" if operation == "Rerank" else "cohere-v2"
    refusal = render_error(error, path=path, request_id="r")
    headers = HeadersDict(refusal.headers)
    wire = {"headers": headers, "status_code": refusal.status, "body": refusal.body}
    parsed = create_parser("rest-json").parse(wire, model.output_shape)
    assert parsed["Error"] == {"Code": code, "Message": "x"}
    context = RetryContext(
        attempt_number=1,
        operation_model=model,
        parsed_response=parsed,
        http_response=AWSResponse("", refusal.status, headers, None),
    )
    checks = (TransientRetryableChecker(), ThrottledRetryableChecker())
    assert any(check.is_retryable(context) for check in checks) is retried
    expected = next((shape for shape in model.error_shapes if shape.name == code), None)
    assert expected is not None
    if code != "InternalServerException":
        assert expected.metadata["error"]["httpStatusCode"] == refusal.status


@pytest.mark.parametrize("body", [{"query": "q"}, {"query": "q", "documents": []}, {}])
def test_invoke_model_takes_any_body_whoever_signed_it(body: dict[str, Any]) -> None:
    """Rerank's and InvokeModel's signatures name the same service."""
    with pytest.raises(RerankError, match="^(documents|The body has none)"):
        read(body, "/model/any/invoke", {"authorization": BEDROCK})


def test_elasticsearch() -> None:
    body = {"query": "q", "input": DOCS, "top_n": 2, "return_documents": True, "task_settings": {}}
    assert answer(body) == {
        "rerank": [
            {"index": 1, "relevance_score": CCC, "text": "ccc"},
            {"index": 2, "relevance_score": AA, "text": "aa"},
        ]
    }
    assert answer({"query": "q", "input": "aa"}) == {"rerank": [{"index": 0, "relevance_score": AA}]}


@pytest.mark.parametrize(
    ("pair", "query", "document"),
    [
        ({"text": "q", "text_pair": "a document"}, "q", "a document"),
        ({"text": "a document", "text_pair": "q"}, "q", "a document"),
        ({"text": "aa", "text_pair": "bb"}, "aa", "bb"),
    ],
)
def test_a_pair_alone_is_answered_alone_whichever_comes_first(
    pair: dict[str, str], query: str, document: str
) -> None:
    (group,) = read({"inputs": pair}).requests[0].groups
    assert (group.query, group.documents) == (query, (document,))
    assert answer({"inputs": pair}) == {"label": "LABEL_0", "score": sigmoid(float(len(document)))}
    for name in ("text", "text_pair"):
        body = {"inputs": pair, "parameters": {"document": name}}
        assert read(body).requests[0].groups[0].documents == (pair[name],)


def test_a_blank_text_is_the_document() -> None:
    (group,) = read({"inputs": {"text": "a query", "text_pair": " "}}).requests[0].groups
    assert (group.query, group.documents) == ("a query", (" ",))


def test_a_pair_with_an_object_has_that_for_its_document() -> None:
    for body in (
        {"text": "a query", "text_pair": {"text": "d"}},
        {"text": {"text": "d"}, "text_pair": "a query"},
    ):
        (group,) = read({"inputs": body}).requests[0].groups
        assert (group.query, group.documents) == ("a query", ("d",))
    for lacking in ({"text": "q"}, {"text_pair": "q"}, {}):
        with pytest.raises(RerankError, match="^inputs must be an object with text"):
            read({"inputs": lacking})


def test_the_field_of_the_document_is_named_for_a_list_too() -> None:
    body = {"inputs": [{"text": "a", "text_pair": "q"}, {"text": "b", "text_pair": "q"}]}
    (group,) = read({**body, "parameters": {"document": "text"}}).requests[0].groups
    assert (group.query, group.documents) == ("q", ("a", "b"))
    assert [g.query for g in read({**body, "parameters": {}}).requests[0].groups] == ["a", "b"]
    with pytest.raises(RerankError, match="^parameters.document must be text or text_pair"):
        read({**body, "parameters": {"document": "texts"}})


def test_the_toolkit_refuses_in_its_own_form() -> None:
    with pytest.raises(RerankError) as caught:
        read({"inputs": {"query": "q", "texts": ["a", 3]}})
    refusal = render_error(caught.value, path="/", request_id="r")
    assert (refusal.status, set(json.loads(refusal.body))) == (400, {"error", "request_id"})


def test_hugging_face_ranks_texts() -> None:
    assert answer({"inputs": [["q", text] for text in DOCS]}) == {"scores": [B, CCC, AA]}
    got = answer(
        {"inputs": {"query": "q", "texts": DOCS, "return_documents": True}, "parameters": {"top_n": 1}}
    )
    assert got == [{"index": 1, "score": CCC, "text": "ccc"}]
    assert answer({"inputs": {"source_sentence": "q", "sentences": DOCS}, "parameters": {}}, "/") == [
        B,
        CCC,
        AA,
    ]


def test_tei_predicts() -> None:
    assert answer({"inputs": ["q", "aa"]}, "/predict") == [{"score": AA, "label": "LABEL_0"}]
    several = answer({"inputs": [["q", "aa"], ["p", "b"]], "raw_scores": True}, "/predict")
    assert several == [[{"score": 2.0, "label": "LABEL_0"}], [{"score": 1.0, "label": "LABEL_0"}]]
    assert order(answer({"query": "q", "texts": DOCS}, "/")) == [1, 2, 0]


@pytest.mark.parametrize(
    ("body", "scores"),
    [
        ({"text_1": "q", "text_2": "aa"}, [AA]),
        ({"text_1": "q", "text_2": DOCS}, [B, CCC, AA]),
        ({"text_1": ["q", "p", "q"], "text_2": DOCS}, [B, CCC, AA]),
        ({"data_1": ["q", "p"], "data_2": "aa"}, [AA, AA]),
        ({"queries": "q", "documents": DOCS}, [B, CCC, AA]),
        ({"queries": ["q"], "items": DOCS, "use_activation": False}, [1.0, 3.0, 2.0]),
    ],
)
def test_score_in_four_shapes(body: dict[str, Any], scores: list[float]) -> None:
    for path in ("/score", "/v1/score", "/invocations"):
        got = answer(body, path)
        assert [item["score"] for item in got["data"]] == scores
        assert order(got["data"]) == list(range(len(scores)))
        assert (got["id"], got["object"], got["model"]) == ("r", "list", "m")
        assert set(got["usage"]) == {"prompt_tokens", "total_tokens", "completion_tokens"}
    if "documents" in body:
        got = answer({"queries": ["q"], "documents": DOCS}, "/v1/inference/org/model")
        assert got == {"scores": scores, "input_tokens": 15, "request_id": "r"}


def test_score_refuses_lists_that_make_no_pairs() -> None:
    with pytest.raises(RerankError, match="text_1 has 2 entries and text_2 3") as caught:
        read({"text_1": ["q", "p"], "text_2": DOCS})
    refusal = render_error(caught.value, path="/score", request_id="r")
    assert json.loads(refusal.body)["error"]["code"] == refusal.status == 400
    with pytest.raises(RerankError, match="text_2 is empty"):
        read({"text_1": "q", "text_2": []})
    with pytest.raises(RerankError, match="10001 documents, more than 10000"):
        read({"text_1": "q", "text_2": ["a"] * 10_001})
    for body in ({}, {"text_1": "q"}, {"queries": "q", "documents": None}):
        with pytest.raises(RerankError, match="^One of the two sides is missing: send text_1 and text_2"):
            read(body, "/score")
    with pytest.raises(RerankError, match="^text_1 is blank"):
        read({"text_1": "", "text_2": "a"})
    with pytest.raises(RerankError, match=r"^text_2\[1\] is null"):
        read({"text_1": "q", "text_2": ["a", None]})


@pytest.mark.parametrize("value", [-1, "-1", -1.0])
def test_vllms_minus_one_is_one_window_of_what_the_model_takes(value: object) -> None:
    truncation = read({"text_1": "q", "text_2": "a", "truncate_prompt_tokens": value}).requests[0].truncation
    assert truncation.allowed
    assert (truncation.max_pair_tokens or 0) > 1_000_000


@pytest.mark.parametrize(
    "document",
    [
        {"image": "https://a/b.png"},
        {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
        {"video": "https://a/b.mp4"},
    ],
)
def test_an_image_is_no_text(document: dict[str, Any]) -> None:
    bodies: list[dict[str, Any]] = [
        {"query": "q", "documents": ["a", document]},
        {"query": {"text": "q"}, "passages": ["a", document]},
        {"input": {"query": "q", "documents": ["a", document]}},
        {"text_1": "q", "text_2": ["a", document]},
    ]
    for body in bodies:
        with pytest.raises(RerankError, match=r"\[1\] is an image, and these models read text"):
            read(body)
    (group,) = read({"query": "q", "documents": [{"title": "A cat", "image": "cat.png"}]}).requests[0].groups
    assert group.documents == ("title: A cat\nimage: cat.png",), "a record that has one among its fields"


def test_nvidia_answers_logits() -> None:
    body = {"query": {"text": "q"}, "passages": [{"text": text} for text in DOCS], "model": "x"}
    for path in ("/v1/ranking", "/ranking", "/v1/retrieval/nvidia/a-model/reranking", "/invocations"):
        got = answer(body, path)
        assert got["rankings"] == [
            {"index": 1, "logit": 3.0},
            {"index": 2, "logit": 2.0},
            {"index": 0, "logit": 1.0},
        ]
    assert not read({**body, "truncate": "NONE"}).requests[0].truncation.allowed
    assert read({**body, "truncate": "END"}).requests[0].truncation.allowed
    assert answer({**body, "raw_scores": False})["rankings"][0]["logit"] == CCC


def test_mixedbread() -> None:
    got = answer(
        {"model": "x", "query": "q", "input": DOCS, "top_k": 2, "return_input": True}, "/v1/reranking"
    )
    assert got["data"] == [
        {"index": 1, "score": CCC, "input": "ccc"},
        {"index": 2, "score": AA, "input": "aa"},
    ]
    assert (got["top_k"], got["return_input"], got["usage"]["total_tokens"]) == (2, True, 15)
    nothing = {"model": "x", "query": "q", "input": [{"t": "aa"}], "top_k": None, "rank_fields": None}
    got = answer({**nothing, "return_input": None}, "/v1/reranking")
    assert (got["top_k"], got["return_input"], got["data"][0]["input"]) == (1, False, None)


def test_pinecone() -> None:
    documents = [{"id": "1", "body": "b"}, {"id": "2", "body": "ccc"}]
    body = {"model": "x", "query": "q", "documents": documents, "rank_fields": ["body"], "top_n": 1}
    got = answer(body, "/rerank", {"x-pinecone-api-version": "2026-07"})
    assert got == {
        "model": "m",
        "data": [{"index": 1, "score": CCC, "document": {"id": "2", "body": "ccc"}}],
        "usage": {"rerank_units": 1},
    }


def test_dashscope() -> None:
    path = "/api/v1/services/rerank/text-rerank/text-rerank"
    body = {"model": "x", "input": {"query": "q", "documents": DOCS}, "parameters": {"top_n": 1}}
    for where in (path, "/invocations"):
        got = answer(body, where)
        assert got == {
            "output": {"results": [{"index": 1, "relevance_score": CCC}]},
            "usage": {"total_tokens": 15},
            "request_id": "r",
        }
    echoed = answer({**body, "parameters": {"return_documents": True}})
    assert echoed["output"]["results"][0]["document"] == {"text": "ccc"}
    with pytest.raises(RerankError, match="input must be an object with query and documents"):
        read({"input": 3}, path)


def test_weaviate() -> None:
    got = answer({"query": "q", "documents": DOCS, "property": ""}, "/rerank")
    pairs = [("b", B), ("ccc", CCC), ("aa", AA)]
    assert got == {"query": "q", "scores": [{"document": text, "score": score} for text, score in pairs]}


@pytest.mark.parametrize(
    ("dialect", "error", "status", "body"),
    [
        ("voyage", InvalidRequest("x"), 400, {"detail": "x"}),
        ("bedrock", Overloaded("x", retry_after=1), 429, {"message": "x"}),
        ("elastic", InternalError("x"), 500, {"error": "x"}),
        ("weaviate", InternalError("x"), 500, {"error": "x"}),
        ("mixedbread", InvalidRequest("x"), 422, {"detail": "x", "message": "x"}),
        ("nvidia", InvalidRequest("x"), 422, {"error": "x", "detail": "x", "requestId": "r"}),
        (
            "dashscope",
            Overloaded("x", retry_after=1),
            429,
            {"code": "Throttling", "message": "x", "request_id": "r"},
        ),
        (
            "dashscope",
            Unauthorized("x"),
            401,
            {"code": "InvalidApiKey", "message": "x", "request_id": "r"},
        ),
        (
            "pinecone",
            Unauthorized("x"),
            401,
            {"status": 401, "error": {"code": "UNAUTHENTICATED", "message": "x"}},
        ),
        (
            "score",
            Overloaded("x", retry_after=1),
            429,
            {"error": {"message": "x", "type": "Too Many Requests", "param": None, "code": 429}},
        ),
        ("deepinfra", InvalidRequest("x"), 400, {"detail": {"error": "x"}, "request_id": "r"}),
        (
            "pinecone",
            InvalidRequest("x"),
            400,
            {"status": 400, "error": {"code": "INVALID_ARGUMENT", "message": "x"}},
        ),
        (
            "score",
            InvalidRequest("x", field="text_1"),
            400,
            {"error": {"message": "x", "type": "BadRequestError", "param": "text_1", "code": 400}},
        ),
    ],
)
def test_errors(dialect: str, error: RerankError, status: int, body: dict[str, Any]) -> None:
    refusal = render_error(error, path="/invocations", request_id="r", dialect=dialect)
    assert (refusal.status, json.loads(refusal.body)) == (status, body)
    throttled = error.__class__ is Overloaded and dialect == "bedrock"
    assert (refusal.headers.get("x-amzn-ErrorType") == "ThrottlingException") is throttled


def test_no_two_dialects_claim_a_route() -> None:
    paths = [path for dialect in DIALECTS.values() for path in dialect.paths]
    assert len(set(paths)) == len(paths)
    assert not set(paths) & set(SHARED)
