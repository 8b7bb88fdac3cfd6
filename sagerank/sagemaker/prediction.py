"""Requests to an SDK Endpoint: its serializer protocol with our JSON, and our client over its `invoke`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from sagemaker.core.deserializers import BaseDeserializer
from sagemaker.core.resources import Endpoint
from sagemaker.core.serializers import BaseSerializer

from sagerank.client import Ranked, RerankClient, Reranking
from sagerank.errors import AccessDenied, BadAnswer, InvalidRequest, RerankError, Unavailable
from sagerank.transport import error_from_aws

_JSON = "application/json"


class RerankSerializer(BaseSerializer):  # type: ignore[misc]
    """A mapping with query, documents and top_n as the body of a request; docs/api.md has what else it may hold."""

    CONTENT_TYPE = _JSON

    def serialize(self, data: Any) -> bytes:
        """Raises InvalidRequest for what is no such mapping."""
        if not isinstance(data, dict) or not {"query", "documents"} <= data.keys():
            raise InvalidRequest(
                'The body has no query or no documents: give {"query": ..., "documents": [...]}.'
            )
        return json.dumps(data).encode()


class RerankDeserializer(BaseDeserializer):  # type: ignore[misc]
    """The answer as a Reranking, as sagerank's own client gives it."""

    ACCEPT = _JSON

    def deserialize(self, stream: Any, content_type: str) -> Reranking:  # noqa: ARG002, the protocol has it
        """Raises BadAnswer where it is not that of a reranker."""
        try:
            answer = json.loads(stream.read())
            results = tuple(
                Ranked(item["index"], item["relevance_score"], item["document"]) for item in answer["results"]
            )
            return Reranking(results, answer["usage"]["total_tokens"], answer["model"], requests=1)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadAnswer("The answer is not that of a reranker: check the endpoint.") from None
        finally:
            stream.close()


class EndpointTransport:
    """The transport of sagerank's client that invokes through the SDK's Endpoint: its session, its retries, its user agent."""

    def __init__(self, endpoint: Endpoint) -> None:
        # The client has bytes, and wants bytes.
        self._endpoint = endpoint.model_copy(update={"serializer": None, "deserializer": None})

    async def __call__(self, body: bytes) -> bytes:
        return await asyncio.to_thread(self._invoke, body)

    def _invoke(self, body: bytes) -> bytes:
        try:
            answer = self._endpoint.invoke(body=body, content_type=_JSON, accept=_JSON)
            read: bytes = answer.body.read()
            return read
        except ClientError as error:
            raise _error(error, self._endpoint) from None
        except NoCredentialsError:
            raise AccessDenied(
                "No AWS credentials were found: run `aws configure`, or give this process a role."
            ) from None
        except BotoCoreError as error:
            raise Unavailable(f"The endpoint could not be reached ({type(error).__name__}).") from None

    async def close(self) -> None:
        """The connections are the SDK's, which shares and keeps them."""


def _error(error: ClientError, endpoint: Endpoint) -> RerankError:
    response: Any = error.response
    details, status = response["Error"], response["ResponseMetadata"]["HTTPStatusCode"]
    content = {**response, "message": details.get("Message", "")}
    where = endpoint.endpoint_arn.split(":")[3]
    return error_from_aws(
        details.get("Code", ""), status, content, endpoint=endpoint.endpoint_name, region=where
    )


def predictor(
    endpoint: Endpoint | str, *, session: boto3.Session | None = None, region: str | None = None
) -> RerankClient:
    """The client of an Endpoint, or of one by name: `rerank(query, documents, top_n=3)`.

    It splits what exceeds SageMaker's limits, tries again where that helps, and merges the exact ranking. A deadline ends
    the wait for an answer, and not the SDK's request.
    """
    if isinstance(endpoint, str):
        endpoint = Endpoint.get(endpoint_name=endpoint, session=session, region=region)
    return RerankClient(EndpointTransport(endpoint))
