"""What the server answers beside rankings, and how bodies and errors travel, over real connections."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from sagerank_inference.contract import InvalidRequest, UnsupportedMediaType
from sagerank_inference.dialects import ROUTES
from sagerank_inference.inflate import Inflated

from ..servers import BODY, Server, running


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(SAGERANK_CORS_ORIGINS="https://search.example, https://other.example") as server:
        server.wait_until_ready()
        yield server


def runtime(server: Server, service: str = "sagemaker-runtime") -> Any:
    return boto3.client(
        service,
        endpoint_url=f"http://127.0.0.1:{server.port}",
        region_name="eu-west-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.mark.parametrize(
    "path", ["/ping", "/health", "/healthz", "/health/", "/.well-known/live", "/.well-known/ready"]
)
def test_health(server: Server, path: str) -> None:
    code, answer, _ = server.call("GET", path)
    assert (code, answer["status"]) == (200, "ready")


def test_clients_find_out_what_this_is(server: Server) -> None:
    info = server.call("GET", "/info")[1]
    assert "reranker" in info["model_type"], "Dify's TEI provider looks for it"
    assert (info["max_input_length"], info["max_client_batch_size"]) == (8192, 10_000)
    models = server.call("GET", "/v1/models")[1]
    assert models["data"][0]["id"] == models["models"][0]["model"] == info["model_id"]
    one = server.call("GET", "/v1/models/Org/any-name")[1]
    assert (one["id"], one["root"], one["model_ability"]) == ("Org/any-name", info["model_id"], ["rerank"])
    assert server.call("GET", "/meta")[1]["model"] == info["model_id"], "Weaviate reads an object"
    assert server.call("GET", "/")[1]["links"]["schema"] == "/openapi.json"
    assert server.call("GET", "/execution-parameters")[1] == {
        "MaxConcurrentTransforms": 4,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": 6,
    }


def test_a_model_may_be_named_by_its_arn(server: Server) -> None:
    arn = "arn:aws:bedrock:eu-west-1::foundation-model%2Fcohere.rerank-v3-5:0"
    body = json.loads(BODY) | {"api_version": 2}
    assert server.post(json.dumps(body).encode(), f"/model/{arn}/invoke")[0] == 200


def test_a_slash_at_the_end_changes_nothing(server: Server) -> None:
    for path in ("/v1/rerank/", "/v2/rerank//", "/invocations/"):
        assert server.post(path=path)[0] == 200


def test_the_schema_names_every_route_and_its_examples_are_answered(server: Server) -> None:
    schema = server.call("GET", "/openapi.json")[1]
    assert list(schema["paths"]) == list(ROUTES)
    for path, item in schema["paths"].items():
        examples = item["post"]["requestBody"]["content"]["application/json"]["examples"]
        assert examples, path
        for name, example in examples.items():
            where = path.replace("{", "").replace("}", "")
            code, answer = server.post(json.dumps(example["value"]).encode(), where)
            assert code == 200, (path, name, answer)


def test_what_is_not_there_says_what_is(server: Server) -> None:
    code, answer, _ = server.call("GET", "/v1/embeddings")
    assert code == 404
    assert "POST /v1/rerank" in answer["message"] == answer["detail"]["message"]
    code, answer, headers = server.call("POST", "/endpoints/x/other", b"{}")
    assert (code, set(answer)) == (404, {"Message"})
    assert headers["x-amzn-errortype"] == "UnknownOperationException"


def test_the_runtime_streams_in_frames_that_boto3_reads(server: Server) -> None:
    answer = runtime(server).invoke_endpoint_with_response_stream(
        EndpointName="any", ContentType="application/json", Body=BODY
    )
    body = b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"])
    whole = runtime(server).invoke_endpoint(EndpointName="any", ContentType="application/json", Body=BODY)
    assert answer["ContentType"] == "application/json"
    assert json.loads(body)["results"] == json.loads(whole["Body"].read())["results"]


def test_a_stream_gives_back_the_bytes_that_its_request_held(server: Server) -> None:
    body = BODY + b" " * 6_000_000
    for _ in range(5):  # three fit at once
        answer = runtime(server).invoke_endpoint_with_response_stream(
            EndpointName="any", ContentType="application/json", Body=body
        )
        assert sum(len(event["PayloadPart"]["Bytes"]) for event in answer["Body"])


def test_the_runtime_answers_errors_as_the_service_does(server: Server) -> None:
    client = runtime(server)
    for call in (client.invoke_endpoint, client.invoke_endpoint_with_response_stream):
        with pytest.raises(client.exceptions.ModelError) as caught:
            call(
                EndpointName="any",
                ContentType="application/json",
                Body=b'{"query":"q","texts":[""],"top_n":[]}',
            )
        assert caught.value.response["OriginalStatusCode"] == 422
        assert "Received client error (422)" in caught.value.response["Error"]["Message"]
    with pytest.raises(botocore.exceptions.ClientError, match="reads its input from S3"):
        client.invoke_endpoint_async(EndpointName="any", InputLocation="s3://bucket/key")


def test_invoke_model_answers_errors_as_bedrock_does(server: Server) -> None:
    client = runtime(server, "bedrock-runtime")
    for body in (b'{"query": "", "documents": ["a"], "api_version": 2}', b'{"query": "q"}', b"{"):
        with pytest.raises(client.exceptions.ValidationException, match="send|must be"):
            client.invoke_model(modelId="cohere.rerank-v3-5:0", body=body)
    answer = client.invoke_model(modelId="amazon.rerank-v1:0", body=BODY)
    assert {result["index"] for result in json.loads(answer["body"].read())["results"]} == {0, 1}


def test_the_custom_attributes_carry_the_request_id(server: Server) -> None:
    for attributes, wanted in (("abc-1", "abc-1"), ("tenant=x, request_id=abc-2;y", "abc-2"), ("no id!", "")):
        answer = runtime(server).invoke_endpoint(
            EndpointName="any", ContentType="application/json", Body=BODY, CustomAttributes=attributes
        )
        given = answer["CustomAttributes"].removeprefix("request_id=")
        assert given == wanted or (not wanted and len(given) == 32)


def test_pages_of_the_named_origins_may_call(server: Server) -> None:
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
    _, _, allowed = server.call("OPTIONS", "/v1/rerank", Origin="https://search.example", **asked)
    assert allowed["access-control-allow-origin"] == "https://search.example"
    assert "authorization" in allowed["access-control-allow-headers"]
    _, _, refused = server.call("OPTIONS", "/v1/rerank", Origin="https://evil.example", **asked)
    assert "access-control-allow-origin" not in refused
    with running() as closed:
        closed.wait_until_ready()
        _, _, headers = closed.call("POST", "/rerank", BODY, Origin="https://search.example")
        assert not any(name.startswith("access-control") for name in headers)


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("identity", BODY),
    ],
)
def test_compressed_bodies_are_inflated(server: Server, encoding: str, body: bytes) -> None:
    code, answer, _ = server.call("POST", "/v1/rerank", body, Content_Encoding=encoding)
    assert (code, len(answer["results"])) == (200, 2)


@pytest.mark.parametrize(
    ("encoding", "body", "status", "sentence"),
    [
        ("br", BODY, 415, "'br' is not read here: send gzip"),
        ("gzip, gzip", BODY, 415, "'gzip, gzip' is not read here"),
        ("gzip", BODY, 400, "not compressed as its Content-Encoding says"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-9], 400, "not all of it came"),
        ("gzip", gzip.compress(b" " * 2**27, mtime=0), 413, "more than 6291456 bytes"),
    ],
)
def test_bad_compression_is_refused(
    server: Server, encoding: str, body: bytes, status: int, sentence: str
) -> None:
    code, answer, _ = server.call("POST", "/v1/rerank", body, Content_Encoding=encoding)
    assert code == status
    assert sentence in answer["message"]
    assert server.post()[0] == 200


def test_a_bomb_is_given_up_early() -> None:
    inflated, taken = Inflated("gzip"), 0
    for piece in inflated.pieces(gzip.compress(b" " * 10**8)):
        taken += len(piece)
        if taken > 10**6:
            break
    assert taken < 1.1 * 10**6
    with pytest.raises(InvalidRequest):
        inflated.check()
    with pytest.raises(UnsupportedMediaType):
        Inflated("zstd")


def test_scores_as_csv_over_http(server: Server) -> None:
    code, text, headers = server.call("POST", "/invocations", b"q,a\nq,b\n", Content_Type="text/csv")
    assert (code, headers["content-type"].partition(";")[0]) == (200, "text/csv")
    assert len([float(line) for line in text.splitlines()]) == 2
    code, text, _ = server.call("POST", "/v1/rerank", BODY, Accept="text/csv")
    assert len([float(line) for line in text.splitlines()]) == 2
    code, answer, _ = server.call("POST", "/v1/rerank", BODY, Accept="*/*")
    assert answer["results"]


def test_spans_over_http(server: Server) -> None:
    long = "A cat sleeps on the sofa. " * 2500
    text = f"{long}Clouds cool, water condenses, and rain falls. {long}"
    body = {"query": "what causes rain", "documents": [text, "Rain."], "return_spans": True}
    code, answer = server.post(json.dumps(body).encode(), "/v1/rerank")
    assert code == 200
    (span,), (whole,) = (
        next(item["relevant_spans"] for item in answer["results"] if item["index"] == index)
        for index in (0, 1)
    )
    assert (whole["start"], whole["end"]) == (0, 5)
    assert 0 <= span["start"] < span["end"] <= len(text)
    assert span["end"] - span["start"] < len(text)
