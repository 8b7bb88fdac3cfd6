"""SDKs for SageMaker and Bedrock: at the address as AWS_ENDPOINT_URL_… gives it, or through a proxy where that is fixed."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from rows import DOCUMENTS, QUERY, URL, ordered, row
from tls_door import tls_door

NAME = "reranker"
os.environ |= {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": URL, "AWS_ENDPOINT_URL_BEDROCK_AGENT_RUNTIME": URL}
os.environ |= {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": URL}


def invoked(body: str, content_type: str) -> str:
    client = boto3.client("sagemaker-runtime")
    answer = client.invoke_endpoint(EndpointName=NAME, Body=body.encode(), ContentType=content_type)
    return str(answer["Body"].read().decode())


def bedrock(**options: int) -> dict[str, list[dict[str, float]]]:
    sources = [
        {"type": "INLINE", "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": text}}}
        for text in DOCUMENTS
    ]
    arn = "arn:aws:bedrock:eu-west-1::foundation-model/amazon.rerank-v1:0"
    configuration = {"modelConfiguration": {"modelArn": arn}, **options}
    answer: dict[str, list[dict[str, float]]] = boto3.client("bedrock-agent-runtime").rerank(
        queries=[{"type": "TEXT", "textQuery": {"text": QUERY}}],
        sources=sources,
        rerankingConfiguration={
            "type": "BEDROCK_RERANKING_MODEL",
            "bedrockRerankingConfiguration": configuration,
        },
    )
    return answer


def session() -> Any:
    from sagemaker import Session

    return Session(boto3.Session())


def predicted(serializer: Any, deserializer: Any, data: Any) -> Any:
    from sagemaker.predictor import Predictor

    return Predictor(NAME, session(), serializer, deserializer).predict(data)


@contextmanager
def endpoint_exists() -> Iterator[None]:
    """Within, SageMaker's other API says that the endpoint is there, for a client that asks it before its first call."""
    from moto.server import ThreadedMotoServer

    control = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    control.start()
    try:
        host, port = control.get_host_and_port()
        os.environ["AWS_ENDPOINT_URL_SAGEMAKER"] = f"http://{host}:{port}"
        client = boto3.client("sagemaker")
        role = "arn:aws:iam::123456789012:role/nobody"
        client.create_model(ModelName=NAME, ExecutionRoleArn=role, PrimaryContainer={"Image": "sagerank"})
        variant = {"VariantName": "AllTraffic", "ModelName": NAME, "InstanceType": "ml.m5.large"}
        client.create_endpoint_config(
            EndpointConfigName=NAME, ProductionVariants=[variant | {"InitialInstanceCount": 1}]
        )
        client.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
        yield
    finally:
        control.stop()


@row("boto3", "sagemaker-runtime invoke_endpoint, JSON")
def _() -> list[float | None]:
    body = json.dumps({"query": QUERY, "documents": DOCUMENTS})
    return ordered(json.loads(invoked(body, "application/json"))["results"])


@row("boto3", "sagemaker-runtime invoke_endpoint, JSON Lines")
def _() -> list[float | None]:
    lines = [json.dumps({"query": QUERY, "documents": [text]}, ensure_ascii=False) for text in DOCUMENTS]
    answers = invoked("\n".join(lines), "application/jsonlines").split("\n")[:-1]
    return [json.loads(answer)["results"][0]["relevance_score"] for answer in answers]


@row("boto3", "sagemaker-runtime invoke_endpoint, CSV of pairs")
def _() -> list[float | None]:
    table = io.StringIO()
    csv.writer(table).writerows([QUERY, text] for text in DOCUMENTS)
    return list(map(float, invoked(table.getvalue(), "text/csv").split()))


@row("boto3", "bedrock-agent-runtime rerank")
def _() -> list[float | None]:
    return ordered(bedrock()["results"], score="relevanceScore")


@row("boto3", "bedrock-agent-runtime rerank, numberOfResults", top=2)
def _() -> list[float | None]:
    return ordered(bedrock(numberOfResults=2)["results"], score="relevanceScore")


@row("boto3", "bedrock-runtime invoke_model")
def _() -> list[float | None]:
    client = boto3.client("bedrock-runtime")
    body = json.dumps({"query": QUERY, "documents": DOCUMENTS, "api_version": 2})
    answer = client.invoke_model(modelId="cohere.rerank-v3-5:0", body=body)
    return ordered(json.loads(answer["body"].read())["results"])


@row("cohere", "SagemakerClient.rerank")
def _() -> list[float | None]:
    import cohere

    with tls_door(URL):
        client = cohere.SagemakerClient(aws_region="eu-west-1")
        return ordered(client.rerank(query=QUERY, documents=DOCUMENTS, model=NAME).results)


@row("cohere", "SagemakerClientV2.rerank, top_n", top=2)
def _() -> list[float | None]:
    import cohere

    with tls_door(URL):
        client = cohere.SagemakerClientV2(aws_region="eu-west-1")
        return ordered(client.rerank(query=QUERY, documents=DOCUMENTS, model=NAME, top_n=2).results)


@row("cohere", "BedrockClientV2.rerank")
def _() -> list[float | None]:
    import cohere

    with tls_door(URL):
        client = cohere.BedrockClientV2(aws_region="eu-west-1")
        return ordered(client.rerank(query=QUERY, documents=DOCUMENTS, model="cohere.rerank-v3-5:0").results)


@row("cohere-aws", "Client.rerank")
def _() -> list[float | None]:
    from cohere_aws import Client

    return ordered(Client(NAME).rerank(QUERY, DOCUMENTS).results)


@row("jina-sagemaker", "Client.rerank")
def _() -> list[float | None]:
    from jina_sagemaker import Client

    with endpoint_exists():
        client = Client(region_name="eu-west-1")
        client.connect_to_endpoint(
            NAME, "arn:aws:sagemaker:eu-west-1:1:model-package/jina-reranker-v1-turbo-en"
        )
        (answer,) = client.rerank(DOCUMENTS, QUERY)
    return ordered(answer["results"])


@row("sagemaker", "Predictor.predict, JSON")
def _() -> list[float | None]:
    from sagemaker.deserializers import JSONDeserializer
    from sagemaker.serializers import JSONSerializer

    answer = predicted(JSONSerializer(), JSONDeserializer(), {"query": QUERY, "documents": DOCUMENTS})
    return ordered(answer["results"])


@row("sagemaker", "Predictor.predict, CSV of pairs")
def _() -> list[float | None]:
    from sagemaker.deserializers import CSVDeserializer
    from sagemaker.serializers import CSVSerializer

    answer = predicted(CSVSerializer(), CSVDeserializer(), [[QUERY, text] for text in DOCUMENTS])
    return [float(cell) for (cell,) in answer]


@row("sagemaker", "HuggingFacePredictor.predict")
def _() -> list[float | None]:
    from sagemaker.huggingface import HuggingFacePredictor

    predictor = HuggingFacePredictor(NAME, sagemaker_session=session())
    pairs = [{"text": QUERY, "text_pair": text} for text in DOCUMENTS]
    return [each["score"] for each in predictor.predict({"inputs": pairs})]
