"""The client against a real HTTP server that misbehaves as told, over both of its transports."""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagerank import AsyncRerankClient, RerankClient
from sagerank.client import Options, Retry, Split
from sagerank.errors import (
    AccessDenied,
    BadAnswer,
    EndpointNotFound,
    NoCapacity,
    RerankError,
    TokenLimitExceeded,
)
from sagerank.transport import EngineTransport
from sagerank_inference.contract import (
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    Unavailable,
)
from sagerank_inference.engine import Engine

from ..conftest import run_python
from .scripted import Failure, Script, http_error, model_error, score

QUICK = Retry(first=0.001, longest=0.002)


@pytest.fixture(params=["http", "sagemaker"])
def client(
    request: pytest.FixtureRequest, script: Script, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RerankClient]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    if request.param == "http":
        made = RerankClient.http(script.url, retry=QUICK)
    else:
        made = RerankClient.sagemaker("ranker", region="eu-west-1", endpoint_url=script.url, retry=QUICK)
    with made:
        yield made


def failure(client: RerankClient, status: int, message: str) -> Failure:
    return (
        model_error(status, message)
        if "SageMaker" in type(client.transport).__name__
        else http_error(status, message)
    )


def test_ranks_and_echoes(client: RerankClient) -> None:
    documents: list[str | dict[str, Any]] = ["a", {"text": "bb", "id": 3}, "ccc"]
    ranking = client.rerank("q", documents, top_n=2)
    expected = sorted(range(3), key=lambda i: -score(["a", "bb", "ccc"][i]))[:2]
    assert [item.index for item in ranking.results] == expected
    assert all(item.document is documents[item.index] for item in ranking.results)
    assert (ranking.model, ranking.total_tokens, ranking.requests) == ("scripted", 3, 1)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=30),
    st.integers(1, 7),
    st.integers(250, 600),
    st.none() | st.integers(1, 40),
)
def test_a_split_request_ranks_as_one(
    texts: list[str], max_documents: int, max_bytes: int, top_n: int | None
) -> None:
    class Local:
        """The scripted server's arithmetic without the socket: hundreds of examples."""

        async def __call__(self, body: bytes) -> bytes:
            assert len(body) <= max_bytes
            documents = json.loads(body)["documents"]
            assert len(documents) <= max_documents
            results = [{"index": i, "relevance_score": score(text)} for i, text in enumerate(documents)]
            return json.dumps({"model": "m", "usage": {"total_tokens": 1}, "results": results}).encode()

        async def close(self) -> None:
            pass

    split = Split(max_documents=max_documents, max_bytes=max_bytes)
    with RerankClient(Local(), split=split) as client:
        ranking = client.rerank("q", texts, top_n=top_n)
    expected = sorted(range(len(texts)), key=lambda i: -score(texts[i]))[:top_n]
    assert [item.index for item in ranking.results] == expected


def test_splits_by_documents_and_reports_progress(script: Script) -> None:
    seen: list[tuple[int, int]] = []
    with RerankClient.http(script.url, split=Split(max_documents=10)) as client:
        ranking = client.rerank(
            "q", [str(n) for n in range(35)], progress=lambda done, total: seen.append((done, total))
        )
    assert ranking.requests == len(script.bodies) == 4
    assert seen[-1] == (35, 35)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_one_document_too_large_is_named(script: Script) -> None:
    with (
        RerankClient.http(script.url, split=Split(max_bytes=500)) as client,
        pytest.raises(PayloadTooLarge, match=r"documents\[1\]"),
    ):
        client.rerank("q", ["a", "é" * 300])
    assert not script.bodies


def test_passing_faults_are_retried(client: RerankClient, script: Script) -> None:
    script.failures += [failure(client, 500, "oops"), failure(client, 503, "loading"), "drop"]
    assert len(client.rerank("q", ["a"]).results) == 1
    assert len(script.bodies) == 4


def test_throttling_waits_as_long_as_it_was_told(script: Script) -> None:
    script.failures.append(http_error(429, "full", **{"Retry-After": "0.3"}))
    with RerankClient.http(script.url, retry=QUICK) as client:
        start = time.monotonic()
        client.rerank("q", ["a"])
    assert time.monotonic() - start >= 0.3


def test_bad_requests_are_not_retried_and_carry_the_servers_sentence(
    client: RerankClient, script: Script
) -> None:
    script.failures.append(failure(client, 400, "top_n must be a whole number."))
    with pytest.raises(InvalidRequest, match="top_n must be a whole number"):
        client.rerank("q", ["a"])
    assert len(script.bodies) == 1


def test_it_gives_up_at_the_deadline(script: Script) -> None:
    script.failures += [http_error(503, "down")] * 50
    with RerankClient.http(script.url, retry=Retry(tries=50, first=0.2, longest=0.2)) as client:
        start = time.monotonic()
        with pytest.raises(Unavailable, match="down"):
            client.rerank("q", ["a"], timeout=0.5)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("failure", ["slow", "drip"])
def test_the_timeout_is_the_deadline_whatever_the_server_does(
    client: RerankClient, script: Script, failure: str
) -> None:
    script.failures.append(failure)
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="No answer in time"):
        client.rerank("q", ["a"], timeout=0.3)
    assert time.monotonic() - start < 1.4  # before the server's answer at 1.5 s
    script.failures.clear()  # a busy machine may not have come to it
    assert len(client.rerank("q", ["a"]).results) == 1, "the client goes on working"


def test_a_client_that_is_closed_ends_its_calls_and_can_be_used_again(script: Script) -> None:
    script.failures.append("slow")
    client = RerankClient.http(script.url)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.rerank, "q", ["a"])
        while not script.bodies:
            time.sleep(0.01)
        client.close()
        with pytest.raises(Unavailable, match="was closed"):
            call.result(timeout=1)
    assert client.rerank("q", ["a"]).requests == 1
    client.close()


def test_the_deadline_covers_the_wait_for_a_turn(script: Script) -> None:
    script.failures += ["slow"] * 3
    with (
        RerankClient.http(script.url, split=Split(max_documents=1), concurrency=1) as client,
        pytest.raises(DeadlineExceeded),
    ):
        client.rerank("q", ["a", "b", "c"], timeout=0.3)


def test_an_answer_that_is_no_ranking_is_refused(client: RerankClient, script: Script) -> None:
    script.failures.append("garbage")
    with pytest.raises(BadAnswer, match="not that of a reranker"):
        client.rerank("q", ["a"])


@pytest.mark.parametrize(
    ("status", "kind", "message", "error", "sentence"),
    [
        (400, "ThrottlingException", "Rate exceeded", Overloaded, "throttled"),
        (
            400,
            "ValidationException",
            "Endpoint ranker of account 1 not found.",
            EndpointNotFound,
            "no endpoint ranker in eu-west-1",
        ),
        (403, "AccessDeniedException", "no", AccessDenied, r"sagemaker:InvokeEndpoint on endpoint/ranker"),
        (500, "InternalFailure", "x", Unavailable, "InternalFailure"),
        (
            400,
            "ValidationError",
            "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress.",
            NoCapacity,
            "ranker has no instance now.*longer timeout",
        ),
        (403, "ExpiredTokenException", "no", AccessDenied, "have expired: run `aws configure`"),
        (
            400,
            "ValidationError",
            "Inference Component Name header is required for endpoints to which you plan to deploy them.",
            EndpointNotFound,
            r"deploy them\): name one of ranker's",
        ),
    ],
)
def test_errors_of_sagemaker_itself_say_what_to_change(
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    kind: str,
    message: str,
    error: type[Exception],
    sentence: str,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    script.failures += [(status, json.dumps({"message": message}).encode(), {"x-amzn-errortype": kind})] * 2
    client = RerankClient.sagemaker(
        "ranker", region="eu-west-1", endpoint_url=script.url, retry=Retry(tries=1)
    )
    with client, pytest.raises(error, match=sentence):
        client.rerank("q", ["a"], timeout=2)


def test_missing_credentials_region_and_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(InvalidRequest, match="No AWS region"):
        RerankClient.sagemaker("x")
    with (
        RerankClient.sagemaker("x", region="eu-west-1") as client,
        pytest.raises(AccessDenied, match="No AWS credentials"),
    ):
        client.rerank("q", ["a"])
    with (
        RerankClient.http("http://127.0.0.1:9", retry=Retry(tries=1)) as client,
        pytest.raises(Unavailable, match="is the server running"),
    ):
        client.rerank("q", ["a"])
    with pytest.raises(InvalidRequest, match="not an HTTP URL"):
        RerankClient.http("localhost:8080")


@pytest.mark.parametrize(
    "url", ["http://h:99999", "http://h:x", "http://[::1", "http://", "ftp://user:secret@h"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="not an HTTP URL") as caught:
        RerankClient.http(url)
    assert "secret" not in str(caught.value)
    with pytest.raises(InvalidRequest, match="A header holds"):
        RerankClient.http("http://localhost", headers={"X-Name": "é"})


@pytest.mark.parametrize(
    ("query", "documents", "top_n", "sentence"),
    [
        (" ", ["a"], None, "query is blank"),
        ("q", [], None, "documents is empty"),
        ("q", ["a", {"body": "x"}], None, r"documents\[1\]"),
        ("q", ["a"], 0, "top_n is 0"),
        ("q", "ab", None, "documents is no list"),
        ("q", {"a": "b"}, None, "documents is no list"),
        ("q", ["\ud800"], None, "surrogate"),
    ],
)
def test_bad_arguments_send_nothing(
    script: Script, query: str, documents: Any, top_n: int | None, sentence: str
) -> None:
    with RerankClient.http(script.url) as client, pytest.raises(InvalidRequest, match=sentence):
        client.rerank(query, documents, top_n=top_n)
    assert not script.bodies


def test_async_ranks_many_at_once_over_one_pool(script: Script) -> None:
    async def test() -> None:
        async with AsyncRerankClient.http(script.url, split=Split(max_documents=1), connections=2) as client:
            rankings = await asyncio.gather(*(client.rerank("q", ["a", "b"], top_n=1) for _ in range(5)))
        assert {len(ranking.results) for ranking in rankings} == {1}

    asyncio.run(test())
    assert script.connections <= 2


@pytest.mark.parametrize("kind", ["http", "sagemaker"])
def test_a_cancelled_rerank_closes_its_requests_and_sends_no_more(
    script: Script, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    split = Split(max_documents=1)

    async def test() -> None:
        if kind == "http":
            client = AsyncRerankClient.http(script.url, split=split, concurrency=2)
        else:
            client = AsyncRerankClient.sagemaker(
                "ranker", region="eu-west-1", endpoint_url=script.url, split=split, concurrency=2
            )
        async with client:
            script.failures += ["watch"] * 2
            task = asyncio.create_task(client.rerank("q", [str(n) for n in range(50)]))
            while len(script.bodies) < 2:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(test())
    assert script.closed.wait(5), "the server sees the end of the connection"
    assert len(script.bodies) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX forks")
def test_one_client_in_several_event_loops_and_after_a_fork(script: Script) -> None:
    asynchronous = AsyncRerankClient.http(script.url)

    async def test() -> None:
        async with asynchronous:
            assert (await asynchronous.rerank("q", ["a"])).requests == 1

    for _ in range(2):
        asyncio.run(test())
    code = (
        "import os, sys\n"
        "from sagerank import RerankClient\n"
        "client = RerankClient.http(sys.argv[1])\n"
        "client.rerank('q', ['a'])\n"
        "child = os.fork()\n"
        "assert client.rerank('q', ['a'], timeout=20).requests == 1\n"
        "if child: assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "client.close()\n"
    )
    done = run_python(code, script.url, env={**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"})
    assert (done.returncode, done.stderr) == (0, "")


def test_loopback_is_never_behind_a_proxy(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        with RerankClient.http(script.url.replace("127.0.0.1", host)) as client:
            assert client.rerank("q", ["a"]).requests == 1
    with (
        RerankClient.http("http://reranker.invalid", retry=Retry(tries=1)) as client,
        pytest.raises(Unavailable, match="ConnectError"),
    ):
        client.rerank("q", ["a"])


def test_progress_runs_in_the_callers_thread_and_may_do_what_it_likes(script: Script) -> None:
    with RerankClient.http(script.url) as client:
        inner: list[int] = []
        threads: list[object] = []

        def progress(done: int, total: int) -> None:
            threads.append(threading.current_thread())
            inner.append(client.rerank("inner", ["x"]).requests)

        client.rerank("q", ["a"], progress=progress)
        assert (inner, threads) == ([1], [threading.main_thread()])

        def leave(done: int, total: int) -> None:
            raise SystemExit(3)

        with pytest.raises(SystemExit):
            client.rerank("q", ["a"], progress=leave)
        assert client.rerank("q", ["a"]).requests == 1


def test_a_servers_sentence_is_one_short_line(script: Script) -> None:
    script.failures.append(http_error(400, "no\x1b[2J\n" + "x" * 100_000))
    with RerankClient.http(script.url) as client, pytest.raises(InvalidRequest) as caught:
        client.rerank("q", ["a"])
    assert str(caught.value).startswith("no [2J xxx")
    assert len(str(caught.value)) == 500


def test_a_proxy_that_cannot_be_used_is_named_and_does_not_matter_on_loopback(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://secret@nowhere")
    with RerankClient.http(script.url) as client:
        assert client.rerank("q", ["a"]).requests == 1
    with RerankClient.http("http://reranker.invalid") as client:
        with pytest.raises(InvalidRequest, match="The proxy that") as caught:
            client.rerank("q", ["a"])
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("status", "error"), [(429, Overloaded), (403, AccessDenied), (502, Unavailable)])
def test_what_stands_before_sagemaker_is_understood_too(
    script: Script, monkeypatch: pytest.MonkeyPatch, status: int, error: type[Exception]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    script.failures.append((status, b"busy", {}))
    client = RerankClient.sagemaker("ranker", endpoint_url=script.url, retry=Retry(tries=1))
    with client, pytest.raises(error):
        client.rerank("q", ["a"])


def test_an_aws_configuration_that_cannot_be_used_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nope")
    with pytest.raises(InvalidRequest, match="There is no AWS profile 'nope'"):
        RerankClient.sagemaker("ranker", region="eu-west-1")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_another_thread_holds_the_client_leaves_a_client_that_works() -> None:
    client = RerankClient.http("http://127.0.0.1:9")
    with client._lock:
        child = os.fork()
        if child == 0:
            try:
                client.rerank("q", ["a"], timeout=1.0)
            except RerankError:
                os._exit(0)
            os._exit(1)
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.05)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


def test_options_are_sent_only_where_they_ask_for_something(script: Script) -> None:
    options = Options(max_tokens_per_doc=9, truncate_prompt_tokens=1, truncation_direction="left")
    with RerankClient.http(script.url) as client:
        client.rerank("q", ["a"])
        client.rerank("q", ["a"], truncate=False, options=options)
    plain, asked = map(json.loads, script.bodies)
    assert plain == {"query": "q", "return_documents": False, "truncate": True, "documents": ["a"]}
    assert asked == plain | {
        "truncate": False,
        "max_tokens_per_doc": 9,
        "truncate_prompt_tokens": 1,
        "truncation_direction": "left",
    }


@pytest.mark.parametrize(
    "given",
    [{"max_tokens_per_doc": 0}, {"truncate_prompt_tokens": True}, {"truncation_direction": "up"}],
)
def test_an_option_that_means_nothing_is_named(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=f"^{next(iter(given))} is"):
        Options(**given)


def test_logits_are_the_engines_and_split_or_not_the_same(micro: Engine) -> None:
    """Far from zero, too, where probabilities are all the same; and a lowest score is one of them."""
    documents = ["Clouds cool and drop water.", "A cat sleeps.", "Rain falls.", "", "drops " * 400]
    expected = micro.score("what causes rain", documents).values
    with RerankClient(EngineTransport(micro), split=Split(max_documents=2)) as client:
        ranking = client.rerank("what causes rain", documents, options=Options(raw_scores=True))
        assert ranking.requests == 3
        for item in ranking.results:
            assert item.score == pytest.approx(expected[item.index], abs=1e-5)
        lowest = ranking.results[1].score
        few = client.rerank(
            "what causes rain", documents, min_score=lowest - 1e-4, options=Options(raw_scores=True)
        )
    assert [item.index for item in few.results] == [item.index for item in ranking.results[:2]]


def test_a_server_that_answers_probabilities_where_logits_were_asked_for_is_found_out(
    script: Script,
) -> None:
    with RerankClient.http(script.url) as client, pytest.raises(BadAnswer, match="leave raw_scores out"):
        client.rerank("q", ["a"], options=Options(raw_scores=True))


def spans(*values: Any) -> Failure:
    results = [
        {"index": index, "relevance_score": 0.5, "relevant_spans": value}
        for index, value in enumerate(values)
    ]
    answer = {"model": "m", "usage": {"total_tokens": 1}, "results": results}
    return 200, json.dumps(answer).encode(), {}


def test_spans_are_of_their_documents(script: Script) -> None:
    script.failures.append(spans([{"start": 1, "end": 3, "score": 0.5}], [{"start": 0, "end": 0}]))
    with RerankClient.http(script.url) as client:
        ranking = client.rerank("q", ["abc", ""], options=Options(return_spans=True))
        assert json.loads(script.bodies[0])["return_spans"] is True
        assert [item.span for item in ranking.results] == [(1, 3), (0, 0)]
        assert client.rerank("q", ["abc"]).results[0].span is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        [{"start": 0}],
        [{"start": 2, "end": 1}],
        [{"start": -1, "end": 1}],
        [{"start": 0, "end": 4}],
        [{"start": True, "end": 1}],
        [{"start": 0, "end": 1.0}],
    ],
)
def test_a_span_that_is_none_is_refused(script: Script, value: Any) -> None:
    script.failures.append(spans(value))
    with RerankClient.http(script.url) as client, pytest.raises(BadAnswer, match="leave return_spans out"):
        client.rerank("q", ["abc"], options=Options(return_spans=True))


def test_a_refused_document_has_the_callers_number(script: Script) -> None:
    sentence = f"documents[1] has 9 tokens, and 8 fit beside this query: {TokenLimitExceeded.REMEDY}"
    script.failures += [(200, json.dumps(ANSWER).encode(), {}), http_error(400, sentence)]
    with (
        RerankClient.http(script.url, split=Split(max_documents=2), concurrency=1) as client,
        pytest.raises(TokenLimitExceeded, match=r"^documents\[3\] has 9 tokens"),
    ):
        client.rerank("q", ["a", "b", "c", "d"], truncate=False)


ANSWER = {
    "model": "m",
    "usage": {"total_tokens": 1},
    "results": [{"index": 0, "relevance_score": 0.5}, {"index": 1, "relevance_score": 0.25}],
}


@pytest.mark.parametrize("lowest", [True, "0.5", math.nan])
def test_a_lowest_score_is_a_number(script: Script, lowest: Any) -> None:
    with RerankClient.http(script.url) as client:
        script.failures.append((200, json.dumps(ANSWER).encode(), {}))
        assert len(client.rerank("q", ["a", "b"], min_score=0.5).results) == 1
        with pytest.raises(InvalidRequest, match="min_score is"):
            client.rerank("q", ["a"], min_score=lowest)


def test_a_component_is_named_to_sagemaker(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    client = RerankClient.sagemaker(
        "ranker", region="eu-west-1", endpoint_url=script.url, inference_component="part"
    )
    with client:
        client.rerank("q", ["a"])
    assert script.heads[0]["X-Amzn-SageMaker-Inference-Component"] == "part"
    assert "x-amzn-sagemaker-inference-component, Signature" in script.heads[0]["Authorization"]  # signed


def test_credentials_that_expired_are_read_anew(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As those that `aws sso login` or a role's tool writes while a long-lived client runs."""
    file = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    expired = (403, b'{"message": "no"}', {"x-amzn-errortype": "ExpiredTokenException"})

    def sign_in(key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n")

    sign_in("FIRST")
    with RerankClient.sagemaker("ranker", region="eu-west-1", endpoint_url=script.url) as client:
        client.rerank("q", ["a"])
        script.failures.append(expired)
        with pytest.raises(AccessDenied, match="have expired"):  # nobody has signed in: it is not tried again
            client.rerank("q", ["a"])
        sign_in("SECOND")
        script.failures.append(expired)
        client.rerank("q", ["a"])
    keys = [head["Authorization"].partition("Credential=")[2].partition("/")[0] for head in script.heads]
    assert keys == ["FIRST", "FIRST", "FIRST", "SECOND"]
