"""The adapters in the frameworks themselves, before a real server and the local AWS: sync, async, copied, at once."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from haystack import Document as HaystackDocument
from haystack import Pipeline
from haystack.utils import Secret
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index_instrumentation import get_dispatcher
from pydantic import SecretStr

from sagerank.adapters.haystack import SagerankRanker
from sagerank.adapters.langchain import SagerankCrossEncoder, SagerankReranker
from sagerank.adapters.llamaindex import SagerankRerank
from sagerank.adapters.target import Connection, Target
from sagerank.client import RerankClient
from sagerank.errors import AccessDenied, InvalidRequest, RerankError, Unavailable
from sagerank_inference.dialects import sigmoid
from sagerank_inference.engine import Engine

from ...servers import KEY, Proxied, Server, proxied

QUERY = "what causes rain"
TEXTS = ["A cat sleeps.", "Clouds cool, and rain falls.", 'Rain\u2028is "wet".', "A cat sleeps.", "日本の雨"]
Rank = Callable[..., list[tuple[str, float]]]


@pytest.fixture(scope="module")
def expected(micro: Engine) -> list[float]:
    return [sigmoid(logit) for logit in micro.score(QUERY, TEXTS).values]


@pytest.fixture(scope="module")
def proxy(server: Server) -> Iterator[Proxied]:
    with proxied("--url", url(server)) as started:
        yield started


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


class Given(BaseRetriever):
    """Finds the same documents for every query."""

    texts: list[str]

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [Document(text, metadata={"number": number}) for number, text in enumerate(self.texts)]


def best(expected: Sequence[float], count: int) -> list[int]:
    return sorted(range(len(expected)), key=lambda index: -expected[index])[:count]


def test_a_langchain_retriever_keeps_the_scores(server: Server, expected: list[float]) -> None:
    compressor = SagerankReranker(url=url(server), top_n=3)
    retriever = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=Given(texts=TEXTS))
    for found in (retriever.invoke(QUERY), asyncio.run(retriever.ainvoke(QUERY))):
        assert [document.metadata["number"] for document in found] == best(expected, 3)
        for document in found:
            assert document.page_content == TEXTS[document.metadata["number"]]
            score = document.metadata["relevance_score"]
            assert score == pytest.approx(expected[document.metadata["number"]], abs=1e-6)
    empty = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=Given(texts=[]))
    assert empty.invoke(QUERY) == []


def test_a_langchain_chain_runs_it(server: Server, expected: list[float]) -> None:
    documents = [Document(text) for text in TEXTS]
    low = sorted(expected)[1]
    strict = SagerankReranker(url=url(server), top_n=None, min_score=low, score_key="score")
    found = strict.compress_documents(documents, QUERY)
    assert len(found) == sum(score >= low for score in expected)
    assert all(document.metadata["score"] >= low for document in found)
    assert documents[0].metadata == {}, "what was given stays as it was"


def test_langchains_cross_encoder(server: Server, expected: list[float]) -> None:
    model = SagerankCrossEncoder(url=url(server))
    pairs = [(QUERY, text) for text in TEXTS]
    assert model.score(pairs) == pytest.approx(expected, abs=1e-6)
    assert asyncio.run(model.ascore(pairs)) == pytest.approx(expected, abs=1e-6)
    assert model.score([]) == []
    mixed = [pairs[0], ("other", TEXTS[1]), pairs[2]]
    assert [model.score(mixed)[index] for index in (0, 2)] == pytest.approx(
        [expected[0], expected[2]], abs=1e-6
    )
    reranker = CrossEncoderReranker(model=model, top_n=2)
    found = reranker.compress_documents([Document(text) for text in TEXTS], QUERY)
    assert [document.page_content for document in found] == [TEXTS[index] for index in best(expected, 2)]


def nodes() -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]


def test_a_llamaindex_postprocessor(server: Server, expected: list[float]) -> None:
    seen = []

    class Listening(BaseEventHandler):
        def handle(self, event: Any, **_: Any) -> None:
            seen.append(event.class_name())

    get_dispatcher().add_event_handler(Listening())
    debug = LlamaDebugHandler(print_trace_on_end=False)
    reranker = SagerankRerank(url=url(server), top_n=3, callback_manager=CallbackManager([debug]))
    found = [
        reranker.postprocess_nodes(nodes(), query_str=QUERY),
        asyncio.run(reranker.apostprocess_nodes(nodes(), query_str=QUERY)),
    ]
    for kept in found:
        assert [node.text for node in kept] == [TEXTS[index] for index in best(expected, 3)]
        assert [node.score for node in kept] == pytest.approx(
            [expected[i] for i in best(expected, 3)], abs=1e-6
        )
    assert seen.count("ReRankStartEvent") == seen.count("ReRankEndEvent") == 2
    assert len(debug.get_events()) == 4
    assert reranker.postprocess_nodes([], query_str=QUERY) == []
    with pytest.raises(InvalidRequest, match="There is no query"):
        reranker.postprocess_nodes(nodes())
    kept = SagerankRerank(url=url(server), keep_retrieval_score=True).postprocess_nodes(
        nodes(), query_str=QUERY
    )
    assert kept[0].node.metadata["retrieval_score"] == 0.5


def test_llamaindex_ranks_the_text_that_it_embeds(server: Server, micro: Engine) -> None:
    node = TextNode(text="Clouds cool.", metadata={"title": "Rain"})
    (found,) = SagerankRerank(url=url(server)).postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
    (logit,) = micro.score(QUERY, ["title: Rain\n\nClouds cool."]).values
    assert found.score == pytest.approx(sigmoid(logit), abs=1e-6)


def test_a_haystack_pipeline_is_written_and_read(server: Server, expected: list[float]) -> None:
    documents = [HaystackDocument(content=text, meta={"number": n}) for n, text in enumerate(TEXTS)]
    pipeline = Pipeline()
    pipeline.add_component("ranker", SagerankRanker(url=url(server), top_k=3))
    written = pipeline.dumps()
    found = Pipeline.loads(written, allowed_modules=["sagerank.adapters.haystack"]).run(
        {"ranker": {"query": QUERY, "documents": [*documents, documents[0]]}}
    )
    kept = found["ranker"]["documents"]
    assert [document.meta["number"] for document in kept] == best(expected, 3)
    assert [document.score for document in kept] == pytest.approx(
        [expected[i] for i in best(expected, 3)], abs=1e-6
    )
    assert documents[0].score is None, "what was given stays as it was"
    ranker = SagerankRanker(url=url(server))
    assert ranker.run(query=QUERY, documents=[]) == {"documents": []}
    assert len(ranker.run(query=QUERY, documents=documents, top_k=1)["documents"]) == 1
    assert ranker.run(query=QUERY, documents=documents, score_threshold=1.0) == {"documents": []}


def test_haystack_runs_it_without_a_thread(server: Server, expected: list[float]) -> None:
    pipeline = Pipeline()
    pipeline.add_component("ranker", SagerankRanker(url=url(server), top_k=2))
    documents = [HaystackDocument(content=text, meta={"number": n}) for n, text in enumerate(TEXTS)]
    found = asyncio.run(pipeline.run_async({"ranker": {"query": QUERY, "documents": documents}}))
    assert [document.meta["number"] for document in found["ranker"]["documents"]] == best(expected, 2)


def test_haystack_puts_fields_before_the_content(server: Server, micro: Engine) -> None:
    document = HaystackDocument(content="Clouds cool.", meta={"title": "Rain", "none": None})
    ranker = SagerankRanker(url=url(server), meta_fields_to_embed=["title", "none"])
    (found,) = ranker.run(query=QUERY, documents=[document])["documents"]
    (logit,) = micro.score(QUERY, ["Rain\nClouds cool."]).values
    assert found.score == pytest.approx(sigmoid(logit), abs=1e-6)


def ranks(**target: Any) -> dict[str, Rank]:
    """Each adapter as a function of texts."""

    def langchain(texts: list[str]) -> list[tuple[str, float]]:
        found = SagerankReranker(**target, top_n=None).compress_documents([Document(t) for t in texts], QUERY)
        return [(document.page_content, document.metadata["relevance_score"]) for document in found]

    def llamaindex(texts: list[str]) -> list[tuple[str, float]]:
        given = [NodeWithScore(node=TextNode(text=text)) for text in texts]
        found = SagerankRerank(**target, top_n=None).postprocess_nodes(given, query_str=QUERY)
        return [(node.text, float(node.score or 0)) for node in found]

    def haystack(texts: list[str]) -> list[tuple[str, float]]:
        own = {**target, "api_key": Secret.from_token(target["api_key"])} if "api_key" in target else target
        given = [HaystackDocument(content=text, meta={"n": n}) for n, text in enumerate(texts)]
        found = SagerankRanker(**own, top_k=None).run(query=QUERY, documents=given)["documents"]
        return [(str(document.content), float(document.score or 0)) for document in found]

    return {"langchain": langchain, "llamaindex": llamaindex, "haystack": haystack}


@pytest.mark.parametrize("name", ranks())
@pytest.mark.parametrize(
    "target",
    [{"endpoint": "whole"}, {"endpoint": "parts", "inference_component": "reranker"}],
    ids=["endpoint", "component"],
)
def test_an_endpoint_and_an_inference_component(
    aws: dict[str, str],
    expected: list[float],
    name: str,
    target: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, value in aws.items():
        monkeypatch.setenv(variable, value)
    found = ranks(**target)[name](TEXTS)
    assert sorted(score for _, score in found) == pytest.approx(sorted(expected), abs=1e-6)
    if "inference_component" in target:
        with pytest.raises(RerankError, match="refused the inference component"):
            ranks(endpoint="parts", inference_component="other")[name](TEXTS)


@pytest.mark.parametrize("name", ranks())
def test_more_than_one_request_takes_is_split(server: Server, micro: Engine, name: str) -> None:
    texts = [f"{number} drops of rain" for number in range(1001)]
    found = ranks(url=url(server))[name](texts)
    assert len(found) == 1001
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


@pytest.mark.parametrize("name", ranks())
def test_many_at_once(server: Server, expected: list[float], name: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: ranks(url=url(server))[name](TEXTS), range(24)):
            assert sorted(score for _, score in found) == pytest.approx(sorted(expected), abs=1e-6)


def test_one_adapter_in_many_loops(server: Server) -> None:
    reranker = SagerankReranker(url=url(server))
    documents = [Document(text) for text in TEXTS]
    for _ in range(5):
        assert len(asyncio.run(reranker.acompress_documents(documents, QUERY))) == 3


def test_what_is_cancelled_in_the_caller_is_cancelled(server: Server) -> None:
    reranker = SagerankReranker(url=url(server), top_n=1)
    many = [Document("rain and clouds " * 200)] * 3000

    async def leave() -> float:
        task = asyncio.create_task(reranker.acompress_documents(many, QUERY))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        began = asyncio.get_running_loop().time()
        assert len(await reranker.acompress_documents(many[:1], QUERY)) == 1
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(leave()) < 30


@pytest.mark.parametrize("name", ranks())
def test_a_key_goes_to_the_proxy_and_nowhere_else(proxy: Proxied, name: str) -> None:
    with pytest.raises(AccessDenied):
        ranks(url=url(proxy), api_key="wrong-key-0123456789")[name](TEXTS)
    assert len(ranks(url=url(proxy), api_key=KEY)[name](TEXTS)) == len(TEXTS)


def test_secrets_are_not_written() -> None:
    langchain = SagerankReranker(url="http://127.0.0.1:1", api_key=SecretStr("hush-hush"))
    llamaindex = SagerankRerank(url="http://127.0.0.1:1", api_key=SecretStr("hush-hush"))
    haystack = SagerankRanker(url="http://127.0.0.1:1", api_key=Secret.from_token("hush-hush"))
    for text in (
        langchain.model_dump_json(),
        repr(langchain),
        json.dumps(llamaindex.to_dict(), default=str),
        repr(llamaindex),
        repr(langchain._connection.target),
        repr(haystack),
    ):
        assert "hush" not in text
    with pytest.raises(ValueError, match="Cannot serialize token-based secret"):
        haystack.to_dict()


def test_copies_reach_the_same_target(server: Server, expected: list[float]) -> None:
    documents = [Document(text) for text in TEXTS]
    reranker = SagerankReranker(url=url(server), top_n=1)
    reranker.compress_documents(documents, QUERY)  # its client is made
    again = SagerankReranker.model_validate(reranker.model_dump())
    for other in (pickle.loads(pickle.dumps(reranker)), copy.deepcopy(reranker), again):
        (found,) = other.compress_documents(documents, QUERY)
        assert found.page_content == TEXTS[best(expected, 1)[0]]
    rebuilt = SagerankRerank.from_dict(SagerankRerank(url=url(server), top_n=1).to_dict())
    assert len(rebuilt.postprocess_nodes(nodes(), query_str=QUERY)) == 1
    ranker = copy.deepcopy(SagerankRanker(url=url(server)))
    assert len(ranker.run(query=QUERY, documents=[HaystackDocument(content="a")])["documents"]) == 1


@pytest.mark.parametrize("make", [SagerankReranker, SagerankRerank, SagerankRanker])
def test_a_target_is_an_endpoint_or_a_url(make: Callable[..., Any]) -> None:
    for wrong in ({}, {"endpoint": "a", "url": "http://b"}, {"url": "http://b", "region": "eu-west-1"}):
        with pytest.raises((InvalidRequest, ValueError), match="Give endpoint|are of a SageMaker endpoint"):
            make(**wrong)


@pytest.mark.parametrize("name", ranks())
def test_nobody_there_is_said(name: str) -> None:
    from ...conftest import free_port

    given = ranks(url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="127.0.0.1"):
        given[name](["a"])


@pytest.mark.parametrize(
    ("extra", "module"),
    [("langchain", "langchain_core"), ("llamaindex", "llama_index"), ("haystack", "haystack")],
)
def test_a_missing_framework_is_one_sentence(extra: str, module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; import sagerank.adapters.{extra}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: sagerank.adapters.")
    assert f"[{extra}]" in last


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_connects_is_not_held_up() -> None:
    connection = Connection(Target(url="http://127.0.0.1:1"))
    with connection._lock:
        child = os.fork()
        if not child:
            os._exit(0 if connection._lock.acquire(timeout=5) else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_a_client_that_its_own_thread_collects_is_closed(server: Server) -> None:
    client = RerankClient.http(f"http://127.0.0.1:{server.port}")
    client.rerank("q", ["a"])
    thread = client._thread
    client._loop.call_soon_threadsafe(client.close)
    thread.join(10)
    assert not thread.is_alive()
    assert len(client.rerank("q", ["a"]).results) == 1
    client.close()
