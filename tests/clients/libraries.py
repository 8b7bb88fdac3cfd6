"""Agno and Mem0, which rank with whatever their user runs, and the SDKs of ZeroEntropy and Baseten."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import os
from typing import Any

from rows import DOCUMENTS, KEY, MODEL, QUERY, URL, ordered, row, texts

os.environ |= {
    "AWS_ENDPOINT_URL_BEDROCK_AGENT_RUNTIME": URL,
    "CO_API_URL": URL,
    "MEM0_TELEMETRY": "False",
    "ZEROENTROPY_BASE_URL": f"{URL}/v1",
}


def knowledge(reranker: Any) -> list[float | None]:
    """Scores of one of Agno's, which gives back what it was given where it fails."""
    from agno.knowledge.document import Document

    documents = [Document(content=text, id=str(index)) for index, text in enumerate(DOCUMENTS)]
    ranked = reranker.rerank(QUERY, documents)
    return ordered({"index": int(one.id), "relevance_score": one.reranking_score} for one in ranked)


@row("agno", "CohereReranker")
def _() -> list[float | None]:
    from agno.knowledge.reranker.cohere import CohereReranker

    return knowledge(CohereReranker(api_key=KEY, model=MODEL))


@row("agno", "AwsBedrockReranker")
def _() -> list[float | None]:
    from agno.knowledge.reranker.aws_bedrock import AwsBedrockReranker

    return knowledge(AwsBedrockReranker(aws_region="eu-west-1"))


@row("mem0ai", "CohereReranker")
def _() -> list[float | None]:
    from mem0.configs.rerankers.cohere import CohereRerankerConfig
    from mem0.reranker.cohere_reranker import CohereReranker

    reranker = CohereReranker(CohereRerankerConfig(api_key=KEY, model=MODEL))
    ranked = reranker.rerank(QUERY, [{"text": text, "index": index} for index, text in enumerate(DOCUMENTS)])
    return ordered(ranked, score="rerank_score")


@row("mem0ai", "ZeroEntropyReranker")
def _() -> list[float | None]:
    from mem0.configs.rerankers.zero_entropy import ZeroEntropyRerankerConfig
    from mem0.reranker.zero_entropy_reranker import ZeroEntropyReranker

    reranker = ZeroEntropyReranker(ZeroEntropyRerankerConfig(api_key=KEY, model=MODEL))
    ranked = reranker.rerank(QUERY, [{"text": text, "index": index} for index, text in enumerate(DOCUMENTS)])
    return ordered(ranked, score="rerank_score")


@row("zeroentropy", "models.rerank")
def _() -> list[float | None]:
    from zeroentropy import ZeroEntropy

    client = ZeroEntropy(api_key=KEY, max_retries=0)
    return ordered(client.models.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS).results)


@row("baseten-performance-client", "PerformanceClient.rerank")
def _() -> list[float | None]:
    from baseten_performance_client import PerformanceClient

    client = PerformanceClient(base_url=URL, api_key=KEY)
    data = client.rerank(QUERY, DOCUMENTS, return_text=True).data
    texts(data, lambda result: result.text)
    return ordered(data, score="score")
