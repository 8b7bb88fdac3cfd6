"""How a request reaches a reranker: a SageMaker endpoint, an HTTP server, or an engine in this process.

A transport is awaited with a JSON body and returns the answer's bytes, or raises an error of `sagerank.errors`. It knows
no deadline: who awaits it cancels it, and that closes the request's connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from . import aws
from .errors import (
    AccessDenied,
    BadAnswer,
    DeadlineExceeded,
    EndpointNotFound,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    RerankError,
    Unavailable,
)

if TYPE_CHECKING:
    import httpx2

    from sagerank_inference.engine import Engine

REAL_TIME_BYTES = 6_291_456  # of one InvokeEndpoint body
SERVERLESS_BYTES = 4 * 1024 * 1024
RETRYABLE = (Overloaded, Unavailable, DeadlineExceeded)  # what may be gone at the next try

_LONGEST_ANSWER = 64 * 1024 * 1024  # bytes; 10,000 documents have less than one million
_LONGEST_SENTENCE = 500  # characters of another server's message


class Transport(Protocol):
    """One body to a reranker and its answer's bytes."""

    async def __call__(self, body: bytes) -> bytes: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes


class _Connections:
    """Kept-alive connections to a URL, at most `limit`, of the event loop that runs."""

    def __init__(
        self,
        url: str,
        limit: int,
        *,
        verify: ssl.SSLContext | bool = True,
        read_seconds: float | None = None,
        check: str = "is the server running?",
    ) -> None:
        """check: what to look at where nothing answers. Raises InvalidRequest for what is no HTTP URL."""
        import httpx2

        try:
            self.url = httpx2.URL(url)
            if self.url.scheme not in ("http", "https") or not self.url.host or (self.url.port or 1) > 65_535:
                raise httpx2.InvalidURL("")
        except httpx2.InvalidURL:  # not quoted, for it may hold a password
            raise InvalidRequest("That is not an HTTP URL: give one such as http://localhost:8080.") from None
        self._limit, self._verify, self._read_seconds, self._check = limit, verify, read_seconds, check
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx2.AsyncClient
        logging.getLogger("httpx2").addFilter(_redact)

    async def post(self, body: bytes, headers: dict[str, str]) -> _Answer:
        """Raises Unavailable where no answer comes, and BadAnswer for one without end."""
        import httpx2

        if self._loop is not asyncio.get_running_loop():  # connections belong to the loop that made them
            self._open()
        # Uncompressed: a few bytes must not become many.
        wanted, content = {"Accept-Encoding": "identity", **headers}, bytearray()
        try:
            async with self._client.stream("POST", self.url, content=body, headers=wanted) as answer:
                async for part in answer.aiter_raw():
                    content += part
                    if len(content) > _LONGEST_ANSWER:
                        raise BadAnswer("The answer does not end: check the endpoint or URL.")
                return _Answer(answer.status_code, answer.headers, bytes(content))
        except httpx2.HTTPError as error:
            raise Unavailable(
                f"{_shown(self.url)} could not be reached ({type(error).__name__}): {self._check}"
            ) from None

    def _open(self) -> None:
        import httpx2

        try:
            self._client = httpx2.AsyncClient(
                verify=self._verify,
                limits=httpx2.Limits(max_connections=self._limit, max_keepalive_connections=self._limit),
                timeout=httpx2.Timeout(None, connect=5.0, read=self._read_seconds),
                # What listens on this machine is not behind the proxy that the environment names.
                trust_env=not _is_loopback(self.url.host),
            )
        except (ImportError, ValueError):
            raise InvalidRequest(
                "The proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names cannot be used: give an HTTP proxy, or pip install 'httpx2[socks]'."
            ) from None
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        if self._loop is asyncio.get_running_loop():
            await self._client.aclose()
        self._loop = None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(url: httpx2.URL) -> str:
    """The URL without what may be secret."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def _redact(record: logging.LogRecord) -> bool:
    """Keep the secrets of URLs out of httpx2's log."""
    if isinstance(record.args, tuple):
        values: tuple[Any, ...] = record.args
        record.args = tuple(_shown(value) if type(value).__name__ == "URL" else value for value in values)
    return True


class HttpTransport:
    """POST to a URL of a server that speaks Jina's /v1/rerank."""

    def __init__(self, url: str, *, headers: dict[str, str] | None = None, connections: int = 8) -> None:
        """url: a bare host means /v1/rerank there; a path is taken as it is. Raises InvalidRequest."""
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        if not all(text.isascii() and text.isprintable() for text in self._headers.values()):
            raise InvalidRequest("A header holds characters that HTTP does not carry: take them out.")
        self._connections = _Connections(url, connections)
        if self._connections.url.path in ("", "/"):
            self._connections.url = self._connections.url.copy_with(path="/v1/rerank")

    async def __call__(self, body: bytes) -> bytes:
        answer = await self._connections.post(body, self._headers)
        if answer.status != 200:
            raise error_from_status(answer.status, answer.content, answer.headers.get("Retry-After"))
        return answer.content

    async def close(self) -> None:
        await self._connections.close()


class SageMakerTransport:
    """InvokeEndpoint, with credentials, region, address and signature from botocore.

    botocore's own client is not asked to send: it blocks, and cannot be told to give up before its 60 seconds.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        region: str | None = None,
        profile: str | None = None,
        inference_component: str | None = None,
        target_variant: str | None = None,
        endpoint_url: str | None = None,
        connections: int = 8,
    ) -> None:
        """region, profile: see sagerank.aws. endpoint_url: where the API is, if not at AWS. Raises InvalidRequest."""
        from botocore.exceptions import BotoCoreError

        self._session = aws.session(region, profile)
        try:
            client = self._session.create_client(
                "sagemaker-runtime",
                endpoint_url=endpoint_url,
                # Not the caller's: to look for those can take long, and belongs under a call's deadline.
                aws_access_key_id="none",
                aws_secret_access_key="none",
            )
        except BotoCoreError as error:
            raise InvalidRequest(f"The AWS configuration cannot be used: {error}") from None
        except ValueError:
            raise InvalidRequest(aws.MALFORMED) from None
        self._service, self._region = client.meta.service_model.signing_name, client.meta.region_name
        self._endpoint = endpoint
        url = f"{client.meta.endpoint_url.rstrip('/')}/endpoints/{quote(endpoint, safe='')}/invocations"
        client.close()
        given = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "X-Amzn-SageMaker-Inference-Component": inference_component,
            "X-Amzn-SageMaker-Target-Variant": target_variant,
        }
        self._headers = {name: value for name, value in given.items() if value}
        bundle = self._session.get_config_variable("ca_bundle")
        # SageMaker itself gives up after 60 s; a little more lets its own error come through.
        trusted = ssl.create_default_context(cafile=bundle) if bundle else True
        check = "check network, proxy and region."
        self._connections = _Connections(url, connections, verify=trusted, read_seconds=65, check=check)

    async def __call__(self, body: bytes) -> bytes:
        # In a thread: credentials may have to be fetched, and six megabytes to be hashed.
        headers = await asyncio.to_thread(self._sign, body)
        answer = await self._connections.post(body, headers)
        if answer.status != 200:
            raise self._error(answer)
        return answer.content

    def _sign(self, body: bytes) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        try:
            credentials = self._session.get_credentials()
            if credentials is None:
                raise AccessDenied(f"No AWS credentials were found: {aws.SIGN_IN}.")
            request = AWSRequest("POST", str(self._connections.url), headers=self._headers, data=body)
            SigV4Auth(credentials.get_frozen_credentials(), self._service, self._region).add_auth(request)
        except (BotoCoreError, ValueError) as error:
            raise AccessDenied(
                f"The AWS credentials could not be read ({type(error).__name__}): {aws.SIGN_IN}."
            ) from None
        return dict(request.headers.items())

    def _error(self, answer: _Answer) -> RerankError:
        """The error that an answer of AWS's API stands for."""
        content = _object(answer.content)
        code = answer.headers.get("x-amzn-errortype", str(content.get("__type", "")))
        code = code.partition(":")[0].rpartition("#")[2]
        if not code:  # something between us and AWS
            return error_from_status(answer.status, answer.content, answer.headers.get("Retry-After"))
        return error_from_aws(code, answer.status, content, endpoint=self._endpoint, region=self._region)

    async def close(self) -> None:
        await self._connections.close()


class EngineTransport:
    """An engine in this process, behind the same bytes: local scripts and the command line need no server."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, "engine")  # a request has all cores to itself

    async def __call__(self, body: bytes) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, body)

    def _answer(self, body: bytes) -> bytes:
        from sagerank_inference.dialects import parse

        return self._engine.answer(parse(body, None), request_id="local")[0]

    async def close(self) -> None:
        self._thread.shutdown(wait=False)


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


def error_from_aws(
    code: str, status: int, content: Mapping[str, Any], *, endpoint: str, region: str
) -> RerankError:
    """The error that InvokeEndpoint's own error of this code stands for; content: its members."""
    message = str(content.get("message", content.get("Message", "")))
    if code == "ModelError":  # the container answered with an error of its own
        original, answered = str(content.get("OriginalMessage", "")), content.get("OriginalStatusCode")
        return error_from_status(answered if type(answered) is int else 500, original.encode())
    if code in ("ThrottlingException", "Throttling", "TooManyRequestsException"):
        return Overloaded(
            f"The endpoint {endpoint} is throttled: send less, or add instances.", retry_after=1.0
        )
    if "AccessDenied" in code or code in (
        "UnrecognizedClientException",
        "ExpiredTokenException",
        "InvalidSignatureException",
    ):
        return AccessDenied(
            f"AWS refused the call ({code}): the caller needs sagemaker:InvokeEndpoint on endpoint/{endpoint} in {region}."
        )
    if code.startswith("ValidationE") and "not found" in message.lower():
        return EndpointNotFound(
            f"There is no endpoint {endpoint} in {region}: see `aws sagemaker list-endpoints --region {region}`."
        )
    if status >= 500 or code in ("ModelNotReadyException", "InternalDependencyException"):
        return Unavailable(f"The endpoint {endpoint} is not answering ({code}).")
    return InvalidRequest(f"SageMaker refused the request ({code}): {message}")


def _sentence(body: bytes) -> str:
    """The message inside any of the dialects' error forms."""
    payload: Any = _object(body)
    for _ in range(2):
        if isinstance(payload, dict):
            payload = next((payload[key] for key in ("detail", "message", "error") if key in payload), "")
    # On one line, of a length to read: whoever answered may send anything.
    text = payload if isinstance(payload, str) else ""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_LONGEST_SENTENCE])


def _object(body: bytes) -> dict[str, Any]:
    """A JSON object, or an empty one where the bytes are something else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
