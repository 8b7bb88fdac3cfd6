"""How a request reaches a reranker: a SageMaker endpoint or an HTTP server. Both carry the same bytes.

A transport is called with a JSON body and the seconds it may take; it returns the answer's bytes or raises an
error of `sagerank_inference.contract` (or one below). `Retryable` marks what may be gone at the next try.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from sagerank_inference.contract import (
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    RerankError,
    Unavailable,
)

if TYPE_CHECKING:
    from sagerank_inference.engine import Engine

REAL_TIME_BYTES = 6_291_456  # of one InvokeEndpoint body; botocore checks it too
SERVERLESS_BYTES = 4 * 1024 * 1024


class EndpointNotFound(RerankError):
    pass


class AccessDenied(RerankError):
    pass


class BadAnswer(RerankError):
    """The other side answered, but not as a reranker."""


RETRYABLE = (Overloaded, Unavailable, DeadlineExceeded)


class Transport(Protocol):
    def __call__(self, body: bytes, timeout: float) -> bytes: ...

    def close(self) -> None: ...


def error_from_status(status: int, body: bytes, retry_after: str | None = None) -> RerankError:
    """The error that an HTTP answer of a reranker stands for, with the server's own sentence."""
    sentence = _sentence(body) or f"The server answered with status {status}."
    if status == 413:
        return PayloadTooLarge(sentence)
    if status == 429:
        try:
            seconds = float(retry_after or 1)
        except ValueError:  # the header may hold a date; a second is a fair guess
            seconds = 1.0
        return Overloaded(sentence, retry_after=seconds)
    if status in (401, 403):
        return AccessDenied(f"{sentence} Check the credentials of this client.")
    if status == 404:
        return EndpointNotFound(f"{sentence} Check the URL.")
    if status >= 500:
        return Unavailable(sentence)
    return InvalidRequest(sentence)


def _sentence(body: bytes) -> str:
    """The message inside any of the dialects' error forms."""
    try:
        payload: Any = json.loads(body)
    except ValueError:
        return ""
    for _ in range(2):
        if isinstance(payload, dict):
            payload = next((payload[key] for key in ("detail", "message", "error") if key in payload), "")
    return payload if isinstance(payload, str) else ""


class SageMakerTransport:
    """boto3's InvokeEndpoint. Retries are the client's: botocore's own are off, so that one deadline covers
    all tries.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        region: str | None = None,
        inference_component: str | None = None,
        target_variant: str | None = None,
        endpoint_url: str | None = None,
        connections: int = 8,
    ) -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import NoRegionError

        config = Config(
            # SageMaker itself gives up after 60 s; a little more lets its own error come through.
            retries={"total_max_attempts": 1},
            read_timeout=65,
            connect_timeout=5,
            max_pool_connections=connections,
        )
        try:
            # A session of its own: the default one is shared by the process and keeps the first credentials
            # it saw.
            session = boto3.Session(region_name=region)
            self._client = session.client("sagemaker-runtime", endpoint_url=endpoint_url, config=config)
        except NoRegionError:
            raise InvalidRequest("No AWS region is set: give region=, or set AWS_REGION.") from None
        self._endpoint = endpoint
        self._arguments = {
            "EndpointName": endpoint,
            "ContentType": "application/json",
            "Accept": "application/json",
            **({"InferenceComponentName": inference_component} if inference_component else {}),
            **({"TargetVariant": target_variant} if target_variant else {}),
        }

    def __call__(self, body: bytes, timeout: float) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            answer: bytes = self._client.invoke_endpoint(Body=body, **self._arguments)["Body"].read()
        except NoCredentialsError:
            raise AccessDenied(
                "No AWS credentials were found: run `aws configure`, or give this process a role."
            ) from None
        except ClientError as error:
            raise self._translate(error.response) from None
        except BotoCoreError as error:
            raise Unavailable(
                f"The endpoint {self._endpoint} could not be reached ({type(error).__name__})."
            ) from None
        return answer

    def _translate(self, response: Any) -> RerankError:
        code = response["Error"].get("Code", "")
        message = response["Error"].get("Message", "")
        region = self._client.meta.region_name
        if code == "ModelError":  # the container answered with an error of its own
            return error_from_status(
                response.get("OriginalStatusCode", 500), response.get("OriginalMessage", "").encode()
            )
        if code in ("ThrottlingException", "Throttling", "TooManyRequestsException"):
            return Overloaded(
                f"The endpoint {self._endpoint} is throttled: send less, or add instances.", retry_after=1.0
            )
        if "AccessDenied" in code or code in (
            "UnrecognizedClientException",
            "ExpiredTokenException",
            "InvalidSignatureException",
        ):
            return AccessDenied(
                f"AWS refused the call ({code}): the caller needs sagemaker:InvokeEndpoint on endpoint/{self._endpoint} in {region}."
            )
        if code.startswith("ValidationE") and "not found" in message.lower():
            return EndpointNotFound(
                f"There is no endpoint {self._endpoint} in {region}: see `aws sagemaker list-endpoints --region {region}`."
            )
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        if status >= 500 or code in ("ModelNotReadyException", "InternalDependencyException"):
            return Unavailable(f"The endpoint {self._endpoint} is not answering ({code}).")
        return InvalidRequest(f"SageMaker refused the request ({code}): {message}")

    def close(self) -> None:
        self._client.close()


class HttpTransport:
    """POST to a URL, over connections that are kept open."""

    def __init__(self, url: str, *, headers: dict[str, str] | None = None, connections: int = 8) -> None:
        import urllib3

        if not url.startswith(("http://", "https://")):
            raise InvalidRequest(f"{url!r} is not an HTTP URL: give one such as http://localhost:8080.")
        # A bare host means our own server's route; a path is taken as it is.
        self._url = (
            url if urllib3.util.parse_url(url).path not in (None, "", "/") else url.rstrip("/") + "/v1/rerank"
        )
        self._pool = urllib3.PoolManager(maxsize=connections, block=True, retries=False)
        self._headers = {"Content-Type": "application/json", **(headers or {})}

    def __call__(self, body: bytes, timeout: float) -> bytes:
        import urllib3

        try:
            answer = self._pool.request(
                "POST", self._url, body=body, headers=self._headers, timeout=max(timeout, 0.001)
            )
        except (urllib3.exceptions.ReadTimeoutError, TimeoutError):
            raise DeadlineExceeded(f"{self._url} did not answer in time.") from None
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(
                f"{self._url} could not be reached ({type(error).__name__}): is the server running?"
            ) from None
        if answer.status != 200:
            raise error_from_status(answer.status, answer.data, answer.headers.get("Retry-After"))
        return answer.data

    def close(self) -> None:
        self._pool.clear()


class EngineTransport:
    """An engine in this process, behind the same bytes: local scripts and the command line need no server."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, body: bytes, timeout: float) -> bytes:
        from sagerank_inference.dialects import parse

        return self._engine.answer(parse(body, None), request_id="local")[0]

    def close(self) -> None:
        pass
