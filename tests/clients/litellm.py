"""LiteLLM, with each provider of its rerankers that can be sent to an address."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from typing import Any

from rows import DOCUMENTS, KEY, QUERY, URL, ordered, row, texts

# Provider and model as LiteLLM names them, and the path that its users are told to add to the address.
ROUTES = {
    "azure_ai/micro": "",
    "cohere/micro": "",
    "dashscope/micro": "/v1",
    "fireworks_ai/micro": "/inference/v1",
    "hosted_vllm/micro": "",
    "huggingface/micro": "",
    "jina_ai/micro": "",
    "scaleway/micro": "/v1",
    "together_ai/micro": "/v1",
    "voyage/rerank-2.5": "",
}


def rerank(model: str, path: str = "", **options: Any) -> list[float | None]:
    import litellm

    given = {"query": QUERY, "documents": DOCUMENTS, "api_key": KEY, "api_base": URL + path, "num_retries": 0}
    results = litellm.rerank(model=model, **given | options).results
    if options.get("return_documents"):
        texts(results, lambda result: result["document"]["text"])
    return ordered(results)


for model, path in ROUTES.items():
    row("litellm", f"rerank {model}")(lambda model=model, path=path: rerank(model, path))


@row("litellm", "rerank cohere/micro, return_documents")
def _() -> list[float | None]:
    return rerank("cohere/micro", return_documents=True)


@row("litellm", "rerank cohere/micro at /v1/rerank")
def _() -> list[float | None]:
    return rerank("cohere/micro", "/v1/rerank", return_documents=True)


@row("litellm", "rerank jina_ai/micro, return_documents", top=2)
def _() -> list[float | None]:
    return rerank("jina_ai/micro", return_documents=True, top_n=2)


@row("litellm", "rerank together_ai/micro, return_documents")
def _() -> list[float | None]:
    return rerank("together_ai/micro", "/v1", return_documents=True)


# With documents its request is hosted_vllm's to the byte, and it reads strings where that reads objects.
@row("litellm", "rerank infinity/micro, return_documents=False")
def _() -> list[float | None]:
    return rerank("infinity/micro", return_documents=False)


@row("litellm", "rerank deepinfra/micro")
def _() -> list[float | None]:
    return rerank("deepinfra/micro", "/v1", query=[QUERY] * len(DOCUMENTS))


@row("litellm", "rerank nvidia_nim/micro", raw=True)
def _() -> list[float | None]:
    return rerank("nvidia_nim/micro")


@row("litellm", "rerank nvidia_nim/ranking/micro", raw=True)
def _() -> list[float | None]:
    return rerank("nvidia_nim/ranking/micro")


@row("litellm", "rerank bedrock/arn")
def _() -> list[float | None]:
    arn = "arn:aws:bedrock:eu-west-1::foundation-model/cohere.rerank-v3-5:0"
    return rerank(f"bedrock/{arn}", api_key=None, api_base=None, aws_bedrock_runtime_endpoint=URL)


@row("litellm", "arerank hosted_vllm/micro", top=3)
async def _() -> list[float | None]:
    import litellm

    given = {"query": QUERY, "documents": DOCUMENTS, "api_key": KEY, "api_base": URL, "top_n": 3}
    return ordered((await litellm.arerank(model="hosted_vllm/micro", **given)).results)
