"""LangChain's document compressors and cross-encoder."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import os
from typing import Any

from rows import DOCUMENTS, KEY, MODEL, QUERY, URL, ordered, row

ARN = "arn:aws:bedrock:eu-west-1::foundation-model/cohere.rerank-v3-5:0"
ALL = len(DOCUMENTS)
os.environ |= {
    "AWS_ENDPOINT_URL_BEDROCK_AGENT_RUNTIME": URL,
    "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": URL,
    "DASHSCOPE_HTTP_BASE_URL": f"{URL}/api/v1",
    "NVIDIA_USAGE_TELEMETRY_ENABLED": "false",
    "PINECONE_CONTROLLER_HOST": URL,
}


def documents() -> list[Any]:
    from langchain_core.documents import Document

    return [Document(text, metadata={"index": index}) for index, text in enumerate(DOCUMENTS)]


def compressed(compressor: Any) -> list[float | None]:
    return ordered(document.metadata for document in compressor.compress_documents(documents(), QUERY))


async def acompressed(compressor: Any) -> list[float | None]:
    return ordered(one.metadata for one in await compressor.acompress_documents(documents(), QUERY))


@row("langchain-cohere", "CohereRerank")
def _() -> list[float | None]:
    from langchain_cohere import CohereRerank

    return compressed(CohereRerank(base_url=URL, cohere_api_key=KEY, model=MODEL, top_n=None))


@row("langchain-voyageai", "VoyageAIRerank")
def _() -> list[float | None]:
    from langchain_voyageai import VoyageAIRerank

    return compressed(VoyageAIRerank(base_url=f"{URL}/v1", api_key=KEY, model=MODEL))


@row("langchain-voyageai", "VoyageAIRerank.acompress_documents, top_k", top=2)
async def _() -> list[float | None]:
    from langchain_voyageai import VoyageAIRerank

    return await acompressed(VoyageAIRerank(base_url=f"{URL}/v1", api_key=KEY, model=MODEL, top_k=2))


@row("langchain-community", "SagemakerEndpointCrossEncoder")
def _() -> list[float | None]:
    from langchain_community.cross_encoders import SagemakerEndpointCrossEncoder

    encoder = SagemakerEndpointCrossEncoder(endpoint_name="rerank", region_name="eu-west-1")
    scores: list[float | None] = encoder.score([(QUERY, text) for text in DOCUMENTS])
    return scores


@row("langchain-community", "JinaRerank")
def _() -> list[float | None]:
    from langchain_community.document_compressors import jina_rerank

    jina_rerank.JINA_API_URL = f"{URL}/v1/rerank"  # its only setting of an address
    return compressed(jina_rerank.JinaRerank(jina_api_key=KEY, model=MODEL, top_n=None))


@row("langchain-community", "DashScopeRerank")
def _() -> list[float | None]:
    from langchain_community.document_compressors import DashScopeRerank

    return compressed(DashScopeRerank(dashscope_api_key=KEY, top_n=None))


@row("langchain-aws", "BedrockRerank")
def _() -> list[float | None]:
    from langchain_aws import BedrockRerank

    return compressed(BedrockRerank(model_arn=ARN, region_name="eu-west-1", top_n=ALL))


@row("langchain-nvidia-ai-endpoints", "NVIDIARerank", raw=True)
def _() -> list[float | None]:
    from langchain_nvidia_ai_endpoints import NVIDIARerank

    return compressed(NVIDIARerank(base_url=f"{URL}/v1", api_key=KEY, model=MODEL, top_n=ALL))


@row("langchain-nvidia-ai-endpoints", "NVIDIARerank.acompress_documents, truncate", raw=True)
async def _() -> list[float | None]:
    from langchain_nvidia_ai_endpoints import NVIDIARerank

    settings = {"base_url": f"{URL}/v1", "api_key": KEY, "model": MODEL, "top_n": ALL}
    return await acompressed(NVIDIARerank(**settings, truncate="END"))


@row("langchain-pinecone", "PineconeRerank")
def _() -> list[float | None]:
    from langchain_pinecone import PineconeRerank
    from pinecone import Pinecone

    model = Pinecone(api_key=KEY).inference.list_models(type="rerank")[0].model
    return compressed(PineconeRerank(pinecone_api_key=KEY, model=model, top_n=ALL))
