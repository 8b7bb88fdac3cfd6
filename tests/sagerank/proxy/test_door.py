"""What comes in at the proxy's door is answered as the server behind it answers."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from ...servers import KEY, Proxied, Server, proxied

QUERY, DOCUMENTS = "what causes rain", ["A cat sleeps.", "Clouds cool and drop water.", "", "Rain " * 90]
JINA = {"query": QUERY, "documents": DOCUMENTS}
PAIRS = [[QUERY, document] for document in DOCUMENTS] + [["how do cats sleep", DOCUMENTS[0]]]
BODIES: list[tuple[str, Any, str]] = [
    ("/v1/rerank", {**JINA, "top_n": 2}, "application/json"),
    ("/v1/rerank", {**JINA, "raw_scores": True, "return_documents": False}, "application/json"),
    ("/v1/rerank", {**JINA, "min_score": 0.5}, "application/json"),
    ("/v1/rerank", {**JINA, "max_tokens_per_doc": 2, "truncation_direction": "left"}, "application/json"),
    ("/v1/rerank", {**JINA, "truncate_prompt_tokens": 9}, "application/json"),
    ("/v2/rerank", JINA, "application/json"),
    ("/invocations", {**JINA, "api_version": 1, "return_documents": True}, "application/json"),
    ("/rerank", {"query": QUERY, "texts": DOCUMENTS, "return_text": True}, "application/json"),
    ("/rerank", {"query": QUERY, "texts": DOCUMENTS, "raw_scores": True}, "application/json"),
    ("/invocations", {"text_pairs": PAIRS}, "application/json"),
    ("/invocations", {"text_pairs": []}, "application/json"),
    ("/invocations", {"data": {"query": QUERY, "documents": [{"text": "a"}]}}, "application/json"),
    (
        "/invocations",
        f"{json.dumps(JINA)}\n{json.dumps({**JINA, 'query': 'cats'})}\n",
        "application/jsonlines",
    ),
    ("/invocations", f'"{QUERY}","Clouds, cool."\n"{QUERY}",cats\n', "text/csv"),
    ("/endpoints/any/invocations", JINA, "application/json"),
    ("/v1/rerank", {**JINA, "top_k": 2, "model": "rerank-2.5", "truncation": True}, "application/json"),
    ("/v1/reranking", {"query": QUERY, "input": DOCUMENTS, "top_k": 2}, "application/json"),
    (
        "/v1/ranking",
        {"query": {"text": QUERY}, "passages": [{"text": text} for text in DOCUMENTS]},
        "application/json",
    ),
    ("/score", {"text_1": [QUERY, "cats"], "text_2": DOCUMENTS[:2]}, "application/json"),
    ("/predict", {"inputs": [[QUERY, text] for text in DOCUMENTS]}, "application/json"),
    (
        "/api/v1/services/rerank/text-rerank/text-rerank",
        {"model": "x", "input": JINA, "parameters": {"top_n": 1}},
        "application/json",
    ),
    ("/v1/rerank", {**JINA, "raw_scores": True, "max_tokens_per_doc": 8}, "application/json"),
    ("/v1/rerank", {**JINA, "return_spans": True}, "application/json"),
    ("/v2/rerank", {**JINA, "relevant_spans": {"mode": "enabled", "threshold": 0.5}}, "application/json"),
]


def same(left: Any, right: Any) -> bool:
    """Whether two answers say the same: ids are each its own."""
    if isinstance(left, dict) and isinstance(right, dict):
        kept = left.keys() - {"id", "request_id", "created"}
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in kept)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return bool(left == pytest.approx(right, abs=1e-6))
    return bool(left == right)


@pytest.mark.parametrize(("path", "body", "kind"), BODIES)
def test_an_answer_is_that_of_the_server(
    proxy: Proxied, server: Server, path: str, body: Any, kind: str
) -> None:
    sent = body if isinstance(body, str) else json.dumps(body)
    status, answer, headers = proxy.ask(path, sent, Content_Type=kind)
    wanted, expected, its = server.call("POST", path, sent, Content_Type=kind)
    assert (status, headers["content-type"]) == (wanted, its["content-type"]) == (200, its["content-type"])
    if "data" in str(body)[:10]:  # of which the proxy is told the sum alone
        for entry in (answer["data"][0], expected["data"][0]):
            tokens = [entry.pop("query_usage"), *(result.pop("usage") for result in entry["results"])]
            entry["sum"] = sum(usage["total_tokens"] for usage in tokens)
            entry["results"] = [result["relevance_score"] for result in entry["results"]]
    if isinstance(answer, str):
        assert list(map(float, answer.split())) == pytest.approx(list(map(float, expected.split())), abs=1e-6)
    else:
        assert same(answer, expected), (answer, expected)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {"query": QUERY}),
        ("/v1/rerank", {"query": " ", "documents": ["a"]}),
        ("/v2/rerank", {"query": QUERY, "documents": []}),
        ("/rerank", {"query": QUERY, "texts": [3]}),
        ("/v1/rerank", {"query": QUERY, "documents": ["rain " * 9000], "truncate": False}),
        ("/v2/rerank", {"query": QUERY, "documents": ["a", "rain " * 9000], "truncate": False}),
        ("/rerank", {"query": QUERY, "texts": ["rain " * 9000], "truncate": False}),
        ("/endpoints/any/invocations", {"query": QUERY, "documents": [None]}),
        ("/invocations", {"nothing": "known"}),
        ("/nowhere", {}),
    ],
)
def test_a_refusal_is_that_of_the_server(proxy: Proxied, server: Server, path: str, body: Any) -> None:
    """Also of what only the model behind it can refuse."""

    def told(answer: Any) -> Any:
        return json.loads(answer["OriginalMessage"]) if "OriginalMessage" in answer else answer

    status, answer, _ = proxy.ask(path, json.dumps(body))
    wanted, expected, _ = server.call("POST", path, json.dumps(body))
    assert status == wanted >= 400
    assert same(told(answer), told(expected))


@pytest.mark.parametrize("path", ["/", "/info", "/v1/models", "/v1/models/any", "/openapi.json", "/health"])
def test_what_clients_ask_first_is_answered(proxy: Proxied, server: Server, path: str) -> None:
    status, answer, _ = proxy.ask(path)
    wanted, expected, _ = server.call("GET", path)
    assert (status, answer.keys()) == (wanted, expected.keys())
    assert wanted == 200


def test_a_large_body_in_pieces_is_as_one(proxy: Proxied, server: Server) -> None:
    documents = [f"Rain falls on hill {number}." for number in range(1_200)]
    body = json.dumps({"query": QUERY, "documents": documents, "raw_scores": True, "top_n": 20})
    _, expected, _ = server.call("POST", "/v1/rerank", body)
    status, answer, _ = proxy.ask("/v1/rerank", body)
    assert status == 200
    assert same(answer["results"], expected["results"])


def test_a_bodys_encoding_and_a_slash_are_the_servers(proxy: Proxied) -> None:
    body = gzip.compress(json.dumps(JINA).encode())
    assert proxy.ask("/v1/rerank/", body, Content_Encoding="gzip")[0] == 200


def test_the_log_has_a_line_a_request_and_no_text(server: Server) -> None:
    with proxied("--url", f"http://127.0.0.1:{server.port}") as own:
        own.ask("/v1/rerank", json.dumps(JINA), X_Request_Id="known")
        own.call("POST", "/v2/rerank", json.dumps(JINA), Authorization="Bearer wrong-key-of-another")
        metrics = own.ask("/metrics")[1]
        own.process.terminate()
        output, said = own.process.communicate(timeout=60)
    assert own.process.returncode == 0
    requests = [entry for entry in map(json.loads, output.splitlines()) if entry["event"] == "request"]
    first, second = requests
    assert first["request_id"] == "known"
    assert (first["dialect"], first["status"], first["documents"], first["requests"]) == ("jina", 200, 4, 1)
    assert first["tokens"] > 4
    assert (second["dialect"], second["status"]) == ("cohere-v2", 401)
    for secret in (KEY, "wrong-key", "AKIDlocal", QUERY, "drop water"):
        assert secret not in output + said + metrics
    assert 'sagerank_requests_total{dialect="jina",status="200"} 1.0' in metrics
    assert 'sagerank_requests_total{dialect="cohere-v2",status="401"} 1.0' in metrics
    assert "sagerank_ready 1.0" in metrics
