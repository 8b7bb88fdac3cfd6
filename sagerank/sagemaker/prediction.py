"""Requests to an SDK Endpoint: its serializer protocol with our JSON, and our client over its `invoke`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from sagemaker.core.deserializers import BaseDeserializer
from sagemaker.core.resources import Endpoint
from sagemaker.core.serializers import BaseSerializer

from sagerank import aws
from sagerank.client import Document, Ranked, RerankClient, Reranking, read_answer
from sagerank.errors import AccessDenied, BadAnswer, InvalidRequest, Unavailable
from sagerank.transport import error_from_aws
from sagerank_inference.dialects import DIALECTS

from .options import default_session

_JSON = "application/json"


class RerankSerializer(BaseSerializer):  # type: ignore[misc]
    """A mapping with query, documents and top_n, in Jina's dialect, as the body of a request."""

    CONTENT_TYPE = _JSON

    def serialize(self, data: Any) -> bytes:
        """Raises InvalidRequest for what is no such mapping, or what RerankDeserializer could not read the answer of."""
        if not isinstance(data, dict) or not {"query", "documents"} <= data.keys():
            raise InvalidRequest(
                'The body has no query or no documents: give {"query": ..., "documents": [...]}.'
            )
        dialect = next(each for each in DIALECTS.values() if each.recognises(data))
        if dialect.name != "jina" or not data.get("return_documents", True):
            raise InvalidRequest(
                "The answer would not be Jina's with its documents, which RerankDeserializer reads: leave out "
                "return_documents, and Cohere's api_version, priority, rank_fields and max_chunks_per_doc."
            )
        return json.dumps(data).encode()


class RerankDeserializer(BaseDeserializer):  # type: ignore[misc]
    """The answer as a Reranking, as sagerank's own client gives it."""

    ACCEPT = _JSON

    def deserialize(self, stream: Any, content_type: str) -> Reranking:  # noqa: ARG002, the protocol has it
        """Raises BadAnswer where it is not that of a reranker."""
        try:
            answered, tokens, model = read_answer(stream.read())
        finally:
            stream.close()
        if not all("document" in item for item in answered):
            raise BadAnswer("The answer holds no documents: ask for them, with return_documents.")
        results = (
            Ranked(item["index"], item["relevance_score"], _document(item["document"])) for item in answered
        )
        return Reranking(tuple(results), tokens, model, requests=1)


def _document(echoed: Any) -> Document:
    """What was sent: a string comes back as an object of its text alone."""
    sent: Document = echoed["text"] if isinstance(echoed, dict) and echoed.keys() == {"text"} else echoed
    return sent


class EndpointTransport:
    """The transport of sagerank's client that invokes through the SDK's Endpoint: its retries, its user agent."""

    def __init__(self, endpoint: Endpoint, *, region: str, session: boto3.Session | None = None) -> None:
        """session: instead of the Endpoint's own."""
        # The client has bytes, and wants bytes.
        self._endpoint = endpoint.model_copy(update={"serializer": None, "deserializer": None})
        self._region, self._session = region, session

    async def __call__(self, body: bytes) -> bytes:
        return await asyncio.to_thread(self._invoke, body)

    def _invoke(self, body: bytes) -> bytes:
        with _errors(self._endpoint.endpoint_name, self._region):
            answer = self._endpoint.invoke(
                body=body, content_type=_JSON, accept=_JSON, session=self._session, region=self._region
            )
            read: bytes = answer.body.read()
            return read

    async def close(self) -> None:
        """The connections are the SDK's, which shares and keeps them."""


@contextmanager
def _errors(name: str, region: str) -> Iterator[None]:
    """Turn what botocore raises inside into an error of sagerank's client."""
    try:
        yield
    except ClientError as error:
        response: Any = error.response
        details, status = response["Error"], response["ResponseMetadata"]["HTTPStatusCode"]
        content = {**response, "message": details.get("Message", "")}
        raise error_from_aws(details.get("Code", ""), status, content, endpoint=name, region=region) from None
    except NoCredentialsError:
        raise AccessDenied(f"No AWS credentials were found: {aws.SIGN_IN}.") from None
    except BotoCoreError as error:
        raise Unavailable(f"The endpoint could not be reached ({type(error).__name__}).") from None


def predictor(
    endpoint: Endpoint | str, *, session: boto3.Session | None = None, region: str | None = None
) -> RerankClient:
    """The client of an Endpoint, or of one by name: `rerank(query, documents, top_n=3)`.

    It splits what exceeds SageMaker's limits, tries again where that helps, and merges the exact ranking. A deadline ends
    the wait for an answer, and not the SDK's request. No call is made before the first ranking. session, region: instead
    of an Endpoint's own, or of those that environment and profile say.
    """
    if isinstance(endpoint, str):
        endpoint = Endpoint(endpoint_name=endpoint)
    if not region and endpoint.endpoint_arn:
        region = endpoint.endpoint_arn.split(":")[3]
    if not region:
        region = (session and session.region_name) or default_session().region_name
    return RerankClient(EndpointTransport(endpoint, region=region, session=session))
