"""LlamaIndex's postprocessors."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import os
from typing import Any

from rows import DOCUMENTS, KEY, MODEL, QUERY, URL, ordered, row

ALL = len(DOCUMENTS)
os.environ |= {
    "AWS_ENDPOINT_URL_BEDROCK_AGENT_RUNTIME": URL,
    "DASHSCOPE_HTTP_BASE_URL": f"{URL}/api/v1",
    "MIXEDBREAD_BASE_URL": URL,
    "PINECONE_CONTROLLER_HOST": URL,
}


def processed(postprocessor: Any) -> list[float | None]:
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [NodeWithScore(node=TextNode(id_=str(index), text=text)) for index, text in enumerate(DOCUMENTS)]
    ranked = postprocessor.postprocess_nodes(nodes, query_str=QUERY)
    return ordered({"index": int(one.node.node_id), "relevance_score": one.score} for one in ranked)


@row("llama-index-postprocessor-jinaai-rerank", "JinaRerank")
def _() -> list[float | None]:
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    return processed(JinaRerank(base_url=f"{URL}/v1", api_key=KEY, top_n=ALL))


@row("llama-index-postprocessor-cohere-rerank", "CohereRerank")
def _() -> list[float | None]:
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    return processed(CohereRerank(base_url=URL, api_key=KEY, top_n=ALL, max_retries=1))


@row("llama-index-postprocessor-tei-rerank", "TextEmbeddingInference")
def _() -> list[float | None]:
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    return processed(TextEmbeddingInference(base_url=URL, top_n=ALL))


@row("llama-index-postprocessor-xinference-rerank", "XinferenceRerank")
def _() -> list[float | None]:
    from llama_index.postprocessor.xinference_rerank import XinferenceRerank

    return processed(XinferenceRerank(base_url=URL, model=MODEL, top_n=ALL))


@row("llama-index-postprocessor-siliconflow-rerank", "SiliconFlowRerank")
def _() -> list[float | None]:
    from llama_index.postprocessor.siliconflow_rerank import SiliconFlowRerank

    return processed(SiliconFlowRerank(base_url=f"{URL}/v1/rerank", api_key=KEY, top_n=ALL))


@row("llama-index-postprocessor-nvidia-rerank", "NVIDIARerank", raw=True)
def _() -> list[float | None]:
    from llama_index.postprocessor.nvidia_rerank import NVIDIARerank

    return processed(NVIDIARerank(base_url=f"{URL}/v1", api_key=KEY, top_n=ALL))


@row("llama-index-postprocessor-bedrock-rerank", "BedrockRerank")
def _() -> list[float | None]:
    from llama_index.postprocessor.bedrock_rerank import BedrockRerank

    return processed(BedrockRerank(region_name="eu-west-1", top_n=ALL, max_retries=1))


@row("llama-index-postprocessor-mixedbreadai-rerank", "MixedbreadAIRerank")
def _() -> list[float | None]:
    from llama_index.postprocessor.mixedbreadai_rerank import MixedbreadAIRerank

    return processed(MixedbreadAIRerank(api_key=KEY, top_n=ALL, max_retries=0))


@row("llama-index-postprocessor-pinecone-native-rerank", "PineconeNativeRerank")
def _() -> list[float | None]:
    from llama_index.postprocessor.pinecone_native_rerank import PineconeNativeRerank

    return processed(PineconeNativeRerank(api_key=KEY, top_n=ALL))


@row("llama-index-postprocessor-dashscope-rerank", "DashScopeRerank")
def _() -> list[float | None]:
    from llama_index.postprocessor.dashscope_rerank import DashScopeRerank

    return processed(DashScopeRerank(api_key=KEY, top_n=ALL))
