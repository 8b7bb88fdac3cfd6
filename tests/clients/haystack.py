"""Haystack's rankers."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import os
from typing import Any

from haystack import Document
from haystack.utils import Secret
from rows import DOCUMENTS, KEY, MODEL, QUERY, URL, ordered, row

SECRET = Secret.from_token(KEY)
os.environ["AWS_ENDPOINT_URL_BEDROCK_AGENT_RUNTIME"] = URL


def documents() -> list[Any]:
    return [Document(content=text, meta={"index": index}) for index, text in enumerate(DOCUMENTS)]


def scored(found: list[Any], *, score: str = "score") -> list[float | None]:
    return ordered(({"score": one.score, **one.meta} for one in found), score=score)


def ranked(ranker: Any) -> list[float | None]:
    return scored(ranker.run(query=QUERY, documents=documents())["documents"])


@row("jina-haystack", "JinaRanker")
def _() -> list[float | None]:
    from haystack_integrations.components.rankers.jina import JinaRanker

    return ranked(JinaRanker(base_url=f"{URL}/v1/rerank", api_key=SECRET))


@row("cohere-haystack", "CohereRanker")
def _() -> list[float | None]:
    from haystack_integrations.components.rankers.cohere import CohereRanker

    return ranked(CohereRanker(api_base_url=URL, api_key=SECRET))


@row("huggingface-api-haystack", "HuggingFaceTEIRanker")
def _() -> list[float | None]:
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

    return ranked(HuggingFaceTEIRanker(url=URL))


@row("huggingface-api-haystack", "HuggingFaceTEIRanker.run_async, top_k", top=2)
async def _() -> list[float | None]:
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

    found = await HuggingFaceTEIRanker(url=URL).run_async(query=QUERY, documents=documents(), top_k=2)
    return scored(found["documents"])


@row("huggingface-api-haystack", "HuggingFaceTEIRanker, raw_scores", raw=True)
def _() -> list[float | None]:
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

    return ranked(HuggingFaceTEIRanker(url=URL, raw_scores=True))


@row("vllm-haystack", "VLLMRanker")
def _() -> list[float | None]:
    from haystack_integrations.components.rankers.vllm import VLLMRanker

    return ranked(VLLMRanker(model=MODEL, api_base_url=f"{URL}/v1", api_key=SECRET))


@row("nvidia-haystack", "NvidiaRanker", raw=True)
def _() -> list[float | None]:
    from haystack_integrations.components.rankers.nvidia import NvidiaRanker

    return ranked(NvidiaRanker(model=MODEL, api_url=f"{URL}/v1", api_key=SECRET, top_k=len(DOCUMENTS)))


@row("amazon-bedrock-haystack", "AmazonBedrockRanker")
def _() -> list[float | None]:
    from haystack_integrations.components.rankers.amazon_bedrock import AmazonBedrockRanker

    return ranked(AmazonBedrockRanker(top_k=len(DOCUMENTS)))


@row("mixedbread-ai-haystack", "MixedbreadReranker")
def _() -> list[float | None]:
    from mixedbread_ai_haystack.rerankers import MixedbreadReranker

    ranker = MixedbreadReranker(api_key=SECRET, base_url=URL, max_retries=0)
    return scored(ranker.run(query=QUERY, documents=documents())["documents"], score="rerank_score")
