"""Clients that ask for older versions than others do: of httpx, those of Infinity and TEI; of OpenAI's SDK, LocalAI's."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from rows import DOCUMENTS, KEY, MODEL, QUERY, URL, ordered, row, texts


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


@row("langchain-localai", "LocalAIRerank")
def _() -> list[float | None]:
    from langchain_core.documents import Document
    from langchain_localai import LocalAIRerank

    reranker = LocalAIRerank(openai_api_base=URL, openai_api_key=KEY, model=MODEL, top_n=len(DOCUMENTS))
    documents = [Document(text, metadata={"index": index}) for index, text in enumerate(DOCUMENTS)]
    return ordered(document.metadata for document in reranker.compress_documents(documents, QUERY))
