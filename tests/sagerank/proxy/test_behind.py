"""What becomes of a request where the reranker behind the proxy is slow, full, gone or not to be used."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ...conftest import free_port
from ...servers import BEARER, Proxied, proxied, wait_for
from ..scripted import Failure, Script, http_error, model_error, score

BODY = json.dumps({"query": "q", "documents": ["a"]})


def service_error(kind: str, status: int, message: str = "no") -> Failure:
    return status, json.dumps({"message": message}).encode(), {"x-amzn-errortype": kind}


@pytest.fixture
def proxy(script: Script) -> Iterator[Proxied]:
    """Before a SageMaker runtime that is scripted; what cannot be answered in two seconds is late."""
    behind = ("--endpoint", "ranker", "--region", "eu-west-1", "--endpoint-url", script.url)
    with proxied(*behind, "--component", "part", "--timeout", "2") as started:
        yield started


def test_a_component_is_asked_in_signed_requests(proxy: Proxied, script: Script) -> None:
    assert proxy.ask("/v1/rerank", BODY)[0] == 200
    head = script.heads[0]
    assert head["X-Amzn-SageMaker-Inference-Component"] == "part"
    assert head["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDlocal/")
    assert "/eu-west-1/sagemaker/aws4_request" in head["Authorization"]
    assert proxy.ask("/v1/models")[1]["data"][0]["id"] == "part"


def test_more_than_sagemaker_takes_is_several_requests_of_its_size(proxy: Proxied, script: Script) -> None:
    documents = [f"{number:04} " + "x" * 20_000 for number in range(600)]
    body = json.dumps({"query": "q", "documents": documents, "return_documents": False})
    assert len(body) > 12_000_000
    status, answer, _ = proxy.ask("/v1/rerank", body)
    assert status == 200
    assert len(script.bodies) >= 3
    assert max(map(len, script.bodies)) <= 6_291_456
    got = [(result["index"], result["relevance_score"]) for result in answer["results"]]
    best_first = sorted(((n, score(text)) for n, text in enumerate(documents)), key=lambda one: -one[1])
    assert [index for index, _ in got] == [index for index, _ in best_first]
    assert [value for _, value in got] == pytest.approx([value for _, value in best_first], abs=1e-9)
    assert answer["usage"]["total_tokens"] == 600


def test_certain_probabilities_stay_certain(proxy: Proxied, script: Script) -> None:
    results = [{"index": n, "relevance_score": value} for n, value in enumerate((0, 1, 1e-300, 0.5))]
    answer = {"model": "m", "usage": {"total_tokens": 1}, "results": results}
    script.failures.append((200, json.dumps(answer).encode(), {}))
    body = json.dumps({"query": "q", "texts": ["a", "b", "c", "d"]})
    got = {one["index"]: one["score"] for one in proxy.ask("/rerank", body)[1]}
    assert got == {0: 0, 1: 1, 2: pytest.approx(1e-300), 3: 0.5}


@pytest.mark.parametrize(
    ("failure", "status", "sentence"),
    [
        (service_error("AccessDeniedException", 403), 502, "sagemaker:InvokeEndpoint on endpoint/ranker"),
        (service_error("ExpiredTokenException", 403), 502, "have expired: run `aws configure`"),
        (
            service_error("ValidationError", 400, "Endpoint ranker not found."),
            502,
            "There is no endpoint ranker",
        ),
        (service_error("ValidationError", 400, "Inference Component part."), 502, "name one of ranker's"),
        ("garbage", 502, "not that of a reranker"),
        (model_error(400, "documents[0] is a novel."), 422, "documents[0] is a novel."),
        (model_error(413, "too much"), 413, "too much"),
    ],
)
def test_what_no_second_try_mends_is_told_at_once(
    proxy: Proxied, script: Script, failure: Failure, status: int, sentence: str
) -> None:
    script.failures += [failure] * 2
    got, answer, _ = proxy.ask("/v1/rerank", BODY)
    assert got == status
    assert sentence in json.dumps(answer)
    assert len(script.bodies) == 1
    proxy.process.terminate()
    logged = [json.loads(line) for line in proxy.process.communicate()[0].splitlines() if line[:1] == "{"]
    unusable = [one for one in logged if one["event"] == "unusable"]
    assert len(unusable) == (status == 502)
    assert all(set(one) == {"time", "level", "event", "request_id", "cause"} for one in unusable)


def test_throttling_is_waited_for_and_then_told(proxy: Proxied, script: Script) -> None:
    script.failures.append(service_error("ThrottlingException", 400))
    assert proxy.ask("/v1/rerank", BODY)[0] == 200
    script.failures += [model_error(429, "full")] * 9
    for path, body in (
        ("/v1/rerank", BODY),
        ("/v2/rerank", BODY),
        ("/rerank", json.dumps({"query": "q", "texts": ["a"]})),
    ):
        status, _, headers = proxy.ask(path, body)
        assert (status, headers["retry-after"]) == (429, "1")


def test_faults_are_tried_again_and_then_told(proxy: Proxied, script: Script) -> None:
    script.failures += [model_error(500, "oops"), "drop"]
    assert proxy.ask("/v1/rerank", BODY)[0] == 200
    script.failures += [model_error(503, "No model is ready.")] * 40
    status, answer, _ = proxy.ask("/v1/rerank", BODY)
    assert (status, answer["detail"]["message"]) == (503, "No model is ready.")


def test_an_answer_that_takes_too_long_is_not_waited_for(proxy: Proxied, script: Script) -> None:
    script.failures.append("watch")
    began = time.monotonic()
    status, answer, _ = proxy.ask("/v1/rerank", BODY)
    assert (status, answer["detail"]["code"]) == (504, "DEADLINE_EXCEEDED")
    assert "--timeout" in answer["detail"]["message"]
    assert time.monotonic() - began < 10
    assert script.closed.wait(10)


def test_the_end_of_a_hundred_thousand_queries_holds_nobody_up(proxy: Proxied, script: Script) -> None:
    """Each is a request behind; at the deadline those that wait are ended at once."""
    body = json.dumps({"text_1": [f"q{number}" for number in range(100_000)], "text_2": "d"})
    script.failures += ["watch"] * 8
    began = time.monotonic()
    status, answer, _ = proxy.ask("/score", body)
    assert (status, answer["error"]["code"]) == (504, 504)
    assert proxy.ask("/ping")[0] == 200
    assert time.monotonic() - began < 15


def test_who_leaves_takes_the_request_behind_along(script: Script) -> None:
    script.failures.append("watch")
    with (
        proxied("--url", script.url) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as caller,
    ):
        head = f"POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nAuthorization: {BEARER['Authorization']}\r\n"
        caller.sendall(f"{head}Content-Length: {len(BODY)}\r\n\r\n{BODY}".encode())
        wait_for(lambda: len(script.bodies) == 1, 20)
        caller.close()
        assert script.closed.wait(20)


def test_an_address_where_nothing_answers(script: Script) -> None:
    with proxied("--url", f"http://127.0.0.1:{free_port()}", "--timeout", "0.5") as proxy:
        status, answer, _ = proxy.ask("/v1/rerank", BODY)
        assert status == 503
        assert "could not be reached" in answer["detail"]["message"]
        assert proxy.ping() == 200  # which asks nobody


def test_logits_of_a_server_without_them_are_refused_and_probabilities_not(script: Script) -> None:
    with proxied("--url", script.url) as proxy:
        body = {"query": "q", "documents": ["a"]}
        assert proxy.ask("/v1/rerank", json.dumps(body))[0] == 200
        status, answer, _ = proxy.ask("/v1/rerank", json.dumps({**body, "raw_scores": True}))
        assert (status, "leave raw_scores out" in answer["detail"]["message"]) == (502, True)


def test_the_key_of_what_is_behind_is_sent_there_and_the_callers_is_not(script: Script) -> None:
    with proxied("--url", script.url, SAGERANK_PROXY_UPSTREAM_KEY="of-the-upstream") as proxy:
        script.failures.append(http_error(401, "Unknown key of-the-upstream."))
        status, answer, _ = proxy.ask("/v1/rerank", BODY)
        assert status == 502
        assert "of-the-upstream" not in json.dumps(answer)
    assert script.heads[0]["Authorization"] == "Bearer of-the-upstream"
    assert BEARER["Authorization"] not in str(script.heads[0])


def test_told_to_stop_it_answers_what_it_has_taken(script: Script) -> None:
    script.failures.append("late")
    answers: list[tuple[int, Any, dict[str, str]]] = []
    with proxied("--url", script.url) as proxy:
        asking = threading.Thread(target=lambda: answers.append(proxy.ask("/v1/rerank", BODY)))
        asking.start()
        wait_for(lambda: len(script.bodies) == 1, 20)
        proxy.process.send_signal(signal.SIGTERM)
        asking.join(30)
        assert [status for status, *_ in answers] == [200]
        assert proxy.process.wait(30) == 0
