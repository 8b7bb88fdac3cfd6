"""SDKs of those who sell or run rerankers, pointed at the address by the setting that each has for it."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from typing import Any

from rows import DOCUMENTS, KEY, MODEL, QUERY, URL, ordered, row, texts

GIVEN = {"query": QUERY, "documents": DOCUMENTS, "model": MODEL}


@row("cohere", "ClientV2.rerank")
def _() -> list[float | None]:
    import cohere

    return ordered(cohere.ClientV2(KEY, base_url=URL).rerank(**GIVEN).results)


@row("cohere", "ClientV2.rerank, top_n", top=2)
def _() -> list[float | None]:
    import cohere

    return ordered(cohere.ClientV2(KEY, base_url=URL).rerank(**GIVEN, top_n=2).results)


@row("cohere", "AsyncClientV2.rerank")
async def _() -> list[float | None]:
    import cohere

    async with cohere.AsyncClientV2(KEY, base_url=URL) as client:
        return ordered((await client.rerank(**GIVEN)).results)


@row("cohere", "Client.rerank")
def _() -> list[float | None]:
    import cohere

    return ordered(cohere.Client(KEY, base_url=URL).rerank(**GIVEN).results)


@row("cohere", "Client.rerank, return_documents")
def _() -> list[float | None]:
    import cohere

    results = cohere.Client(KEY, base_url=URL).rerank(**GIVEN, return_documents=True).results
    texts(results, lambda result: result.document.text)
    return ordered(results)


@row("voyageai", "Client.rerank")
def _() -> list[float | None]:
    import voyageai

    client = voyageai.Client(KEY, base_url=f"{URL}/v1")
    return ordered(client.rerank(QUERY, DOCUMENTS, "rerank-2.5").results)


@row("voyageai", "AsyncClient.rerank, top_k", top=2)
async def _() -> list[float | None]:
    import voyageai

    client = voyageai.AsyncClient(KEY, base_url=f"{URL}/v1")
    return ordered((await client.rerank(QUERY, DOCUMENTS, "rerank-2.5", top_k=2)).results)


@row("together", "Together.rerank.create")
def _() -> list[float | None]:
    from together import Together

    results = Together(api_key=KEY, base_url=URL).rerank.create(**GIVEN, return_documents=True).results
    texts(results, lambda result: result.document.text)
    return ordered(results)


@row("together", "AsyncTogether.rerank.create, top_n", top=2)
async def _() -> list[float | None]:
    from together import AsyncTogether

    async with AsyncTogether(api_key=KEY, base_url=URL) as client:
        return ordered((await client.rerank.create(**GIVEN, top_n=2)).results)


@row("contextual-client", "ContextualAI.rerank.create")
def _() -> list[float | None]:
    from contextual import ContextualAI

    return ordered(ContextualAI(api_key=KEY, base_url=f"{URL}/v1").rerank.create(**GIVEN).results)


@row("infinity_client", "rerank.sync")
def _() -> list[float | None]:
    from infinity_client import Client
    from infinity_client.api.default import rerank
    from infinity_client.models import RerankInput

    given = RerankInput(query=QUERY, documents=DOCUMENTS, model=MODEL)
    answer = rerank.sync(client=Client(base_url=URL), body=given)
    assert answer.usage.prompt_tokens >= 0
    return ordered(answer.results)


@row("infinity_client", "rerank.sync, raw_scores", raw=True)
def _() -> list[float | None]:
    from infinity_client import Client
    from infinity_client.api.default import rerank
    from infinity_client.models import RerankInput

    given = RerankInput(query=QUERY, documents=DOCUMENTS, model=MODEL, raw_scores=True)
    return ordered(rerank.sync(client=Client(base_url=URL), body=given).results)


@row("xinference-client", "get_model().rerank")
def _() -> list[float | None]:
    from xinference_client import RESTfulClient

    model = RESTfulClient(URL).get_model(MODEL)
    results = model.rerank(DOCUMENTS, QUERY, return_documents=True)["results"]
    texts(results, lambda result: result["document"]["text"])
    return ordered(results)


@row("huggingface_hub", "InferenceClient.text_classification, pairs")
def _() -> list[float | None]:
    from huggingface_hub import InferenceClient

    client = InferenceClient(f"{URL}/predict")
    # What TEI takes of pairs and answers them with; the client is annotated with a text and a list.
    pairs: Any = [[QUERY, document] for document in DOCUMENTS]
    return [client.text_classification(pair).score for pair in pairs]  # type: ignore[attr-defined]


@row("huggingface_hub", "InferenceClient.sentence_similarity")
def _() -> list[float | None]:
    from huggingface_hub import InferenceClient

    return list(InferenceClient(URL).sentence_similarity(QUERY, other_sentences=DOCUMENTS))


@row("mixedbread", "Mixedbread.rerank")
def _() -> list[float | None]:
    from mixedbread import Mixedbread

    client = Mixedbread(api_key=KEY, base_url=URL)
    results = client.rerank(model=MODEL, query=QUERY, input=DOCUMENTS, return_input=True).data
    texts(results, lambda result: result.input)
    return ordered(results, score="score")


@row("mixedbread", "AsyncMixedbread.rerank, top_k", top=2)
async def _() -> list[float | None]:
    from mixedbread import AsyncMixedbread

    async with AsyncMixedbread(api_key=KEY, base_url=URL) as client:
        answer = await client.rerank(model=MODEL, query=QUERY, input=DOCUMENTS, top_k=2)
    return ordered(answer.data, score="score")


@row("mixedbread-ai", "MixedbreadAI.reranking")
def _() -> list[float | None]:
    from mixedbread_ai.client import MixedbreadAI

    client = MixedbreadAI(api_key=KEY, base_url=URL)
    return ordered(client.reranking(model=MODEL, query=QUERY, input=DOCUMENTS).data, score="score")


@row("pinecone", "Pinecone.inference.rerank")
def _() -> list[float | None]:
    from pinecone import Pinecone

    results = Pinecone(KEY, host=URL).inference.rerank(**GIVEN).data
    texts(results, lambda result: result.document["text"])
    return ordered(results, score="score")


@row("pinecone", "Pinecone.inference.rerank, rank_fields", top=2)
def _() -> list[float | None]:
    from pinecone import Pinecone

    documents = [{"id": str(at), "body": text} for at, text in enumerate(DOCUMENTS)]
    given = {"documents": documents, "rank_fields": ["body"], "top_n": 2}
    results = Pinecone(KEY, host=URL).inference.rerank(**GIVEN | given).data
    texts(results, lambda result: result.document["body"])
    return ordered(results, score="score")


@row("dashscope", "TextReRank.call")
def _() -> list[float | None]:
    import dashscope

    dashscope.base_http_api_url = f"{URL}/api/v1"
    answer = dashscope.TextReRank.call(**GIVEN, api_key=KEY, return_documents=True)
    assert answer.status_code == 200, f"{answer.status_code} {answer.code}: {answer.message}"
    texts(answer.output.results, lambda result: result["document"]["text"])
    return ordered(answer.output.results)


@row("openai", "OpenAI.models.list, post /rerank")
def _() -> list[float | None]:
    from openai import OpenAI

    client = OpenAI(api_key=KEY, base_url=f"{URL}/v1")
    models = [model.id for model in client.models.list()]
    assert models, "no models"
    answer = client.post("/rerank", body=GIVEN | {"model": models[0]}, cast_to=object)
    return ordered(answer["results"])


PROVIDERS = {
    "cohere": "/v1/rerank",
    "jina": "/v1/rerank",
    "mixedbread.ai": "/v1/reranking",
    "pinecone": "/rerank",
    "text-embeddings-inference": "/rerank",
    "voyage": "/v1/rerank",
}


def ranked(provider: str) -> list[float | None]:
    from rerankers import Reranker

    model = "rerank-2.5" if provider == "voyage" else MODEL
    ranker = Reranker(
        model,
        model_type="APIRanker",
        api_provider=provider,
        api_key=KEY,
        url=URL + PROVIDERS[provider],
        verbose=0,
    )
    results = ranker.rank(QUERY, DOCUMENTS, doc_ids=list(range(len(DOCUMENTS)))).results
    return ordered([{"index": each.doc_id, "relevance_score": each.score} for each in results])


for name in PROVIDERS:
    row("rerankers", f"APIRanker.rank, {name}")(lambda name=name: ranked(name))
