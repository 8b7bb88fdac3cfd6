"""LightRAG's three rerank functions, pointed at the address as RERANK_BINDING_HOST is."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from rows import DOCUMENTS, KEY, MODEL, QUERY, URL, ordered, row

GIVEN = {"query": QUERY, "documents": DOCUMENTS, "api_key": KEY, "model": MODEL}


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
