"""Infinity's client and what is built on it, which ask for an older httpx than others do, and TEI's."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from rows import DOCUMENTS, MODEL, QUERY, URL, ordered, row, texts


@row("infinity-client", "rerank.sync")
def _() -> list[float | None]:
    from infinity_client import Client
    from infinity_client.api.default import rerank
    from infinity_client.models import RerankInput

    body = RerankInput(query=QUERY, documents=DOCUMENTS, model=MODEL)
    return ordered(rerank.sync(client=Client(base_url=URL), body=body).results)


@row("infinity-client", "rerank.sync, raw_scores", raw=True)
def _() -> list[float | None]:
    from infinity_client import Client
    from infinity_client.api.default import rerank
    from infinity_client.models import RerankInput

    body = RerankInput(query=QUERY, documents=DOCUMENTS, model=MODEL, raw_scores=True)
    return ordered(rerank.sync(client=Client(base_url=URL), body=body).results)


@row("agno", "InfinityReranker")
def _() -> list[float | None]:
    from agno.knowledge.document import Document
    from agno.knowledge.reranker.infinity import InfinityReranker

    documents = [Document(content=text, id=str(index)) for index, text in enumerate(DOCUMENTS)]
    ranked = InfinityReranker(url=URL, model=MODEL).rerank(QUERY, documents)
    return ordered({"index": int(one.id), "relevance_score": one.reranking_score} for one in ranked)


@row("tei-client", "HttpClient.rerank")
def _() -> list[float | None]:
    from tei_client import HttpClient

    ranks = HttpClient(URL).rerank(QUERY, DOCUMENTS, return_text=True).ranks
    texts(ranks, lambda rank: rank.text)
    return ordered(ranks, score="score")
