"""SDKs of those who sell or run rerankers."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from rows import DOCUMENTS, KEY, MODEL, QUERY, URL, ordered, row, texts


@row("cohere", "ClientV2.rerank")
def _() -> list[float | None]:
    import cohere

    client = cohere.ClientV2(KEY, base_url=URL)
    return ordered(client.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS).results)


@row("cohere", "AsyncClientV2.rerank")
async def _() -> list[float | None]:
    import cohere

    async with cohere.AsyncClientV2(KEY, base_url=URL) as client:
        return ordered((await client.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS)).results)


@row("cohere", "ClientV2.rerank, top_n", top=2)
def _() -> list[float | None]:
    import cohere

    client = cohere.ClientV2(KEY, base_url=URL)
    return ordered(client.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS, top_n=2).results)


@row("cohere", "Client.rerank, return_documents")
def _() -> list[float | None]:
    import cohere

    client = cohere.Client(KEY, base_url=URL)
    results = client.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS, return_documents=True).results
    texts(results, lambda result: result.document.text)
    return ordered(results)
