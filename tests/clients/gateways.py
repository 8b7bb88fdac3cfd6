"""Libraries and services in front of several rerankers, with each of their providers that can be sent to an address."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from typing import Any

from rows import DOCUMENTS, KEY, MODEL, QUERY, URL, ordered, row, texts

GIVEN = {"query": QUERY, "documents": DOCUMENTS, "model": MODEL, "api_key": KEY}

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

    given = GIVEN | {"model": model, "api_base": URL + path, "num_retries": 0} | options
    results = litellm.rerank(**given).results
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
    return rerank("deepinfra/micro", "/v1")


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

    given = GIVEN | {"model": "hosted_vllm/micro", "api_base": URL, "top_n": 3}
    return ordered((await litellm.arerank(**given)).results)


@row("any-llm-sdk", "rerank cohere:micro")
def _() -> list[float | None]:
    from any_llm import rerank

    given = GIVEN | {"model": "cohere:micro", "client_args": {"base_url": URL}}
    return ordered(rerank(**given).results)


@row("any-llm-sdk", "arerank voyage:rerank-2.5", top=2)
async def _() -> list[float | None]:
    from any_llm import arerank

    options = {"model": "voyage:rerank-2.5", "client_args": {"base_url": f"{URL}/v1"}, "top_n": 2}
    return ordered((await arerank(**GIVEN | options)).results)


@row("openrouter", "OpenRouter.rerank.rerank")
def _() -> list[float | None]:
    from openrouter import OpenRouter

    with OpenRouter(api_key=KEY, server_url=f"{URL}/v1") as client:
        results = client.rerank.rerank(query=QUERY, documents=DOCUMENTS, model=MODEL).results
    texts(results, lambda result: result.document.text)
    return ordered(results)


@row("lightrag-hku", "jina_rerank")
async def _() -> list[float | None]:
    from lightrag.rerank import jina_rerank

    return ordered(await jina_rerank(**GIVEN, base_url=f"{URL}/v1/rerank"))


@row("lightrag-hku", "cohere_rerank")
async def _() -> list[float | None]:
    from lightrag.rerank import cohere_rerank

    return ordered(await cohere_rerank(**GIVEN, base_url=f"{URL}/v2/rerank"))


@row("lightrag-hku", "ali_rerank", top=2)
async def _() -> list[float | None]:
    from lightrag.rerank import ali_rerank

    path = "/api/v1/services/rerank/text-rerank/text-rerank"
    return ordered(await ali_rerank(**GIVEN, base_url=URL + path, top_n=2))
