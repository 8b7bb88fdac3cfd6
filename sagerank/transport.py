"""How a request reaches a reranker: a SageMaker endpoint, an HTTP server, or an engine in this process.

A transport is awaited with a JSON body and returns the answer's bytes, or raises an error of `sagerank.errors`. It knows
no deadline: who awaits it cancels it, and that closes the request's connection.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.cookiejar
import ipaddress
import json
import logging
import math
import os
import re
import ssl
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote_plus

from . import aws
from .errors import (
    AccessDenied,
    BadAnswer,
    DeadlineExceeded,
    EndpointNotFound,
    InvalidRequest,
    NoCapacity,
    Overloaded,
    PayloadTooLarge,
    RerankError,
    TokenLimitExceeded,
    Unavailable,
)

if TYPE_CHECKING:
    import httpx2
    from botocore.credentials import ReadOnlyCredentials

    from sagerank_inference.engine import Engine

REAL_TIME_BYTES = 6_291_456  # of one InvokeEndpoint body
SERVERLESS_BYTES = 4 * 1024 * 1024
RETRYABLE = (Overloaded, Unavailable, DeadlineExceeded)  # what may be gone at the next try

CONNECTIONS = 32  # of one client, over all its calls

_LONGEST_SENTENCE = 500  # characters of another server's message
_PUBLIC = re.compile(r"content-type|accept|user-agent|host|x-amz-date|x-amzn-sagemaker-.*", re.IGNORECASE)
# AWS's words for credentials that were good once.
_STALE = re.compile(r"ExpiredToken|UnrecognizedClient|InvalidClientToken|InvalidAccessKeyId")
_SHORTEST_SECRET = 4  # letters; what is shorter is found in any sentence

# Of the request under way, for httpx2 and httpcore2 log in its context.
_SECRETS: ContextVar[tuple[str, ...]] = ContextVar("secrets", default=())
_LOGGERS = ("httpx2", *(f"httpcore2.{part}" for part in ("connection", "http11", "proxy", "socks")))


class Transport(Protocol):
    """One body to a reranker and its answer's bytes."""

    async def __call__(self, body: bytes) -> bytes: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes  # of an error without the request's secrets, should the server repeat them
    location: str = ""  # where a redirect points, likewise


class _Connections:
    """Kept-alive connections to a URL, at most `limit`, of the event loop that runs."""

    def __init__(
        self,
        url: str,
        limit: int,
        *,
        bundle: str | None = None,
        read_seconds: float | None = None,
        check: str = "is the server running?",
    ) -> None:
        """bundle: file or folder of trusted certificates, before the environment's. check: what to look at where nothing answers.

        Raises InvalidRequest for what is no HTTP URL, or certificates that cannot be read.
        """
        if limit < 1:
            raise InvalidRequest(f"connections is {limit}: give at least 1.")
        given = _parsed(url)
        if given and ":" in given.host and "%" in given.host:
            raise InvalidRequest("An IPv6 address with a zone is not supported: give one without, or a name.")
        if given is None or "%" in given.host:  # not quoted, for it may hold a password
            raise InvalidRequest("That is not an HTTP URL: give one such as http://localhost:8080.")
        # The password travels in a header, and is in no URL that anybody shows.
        self.url = given.copy_with(userinfo=b"", fragment=None)
        login = f"{given.username}:{given.password}"
        self._basic = "Basic " + base64.b64encode(login.encode()).decode() if given.userinfo else ""
        query = given.query.decode()
        values = [pair.partition("=")[2] or pair for pair in query.split("&")]
        self._secrets = (given.password or given.username, query, *values, *map(unquote_plus, values))
        # Without TLS none: certificates take a while to read.
        self._verify = (
            _trusted(bundle) if given.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )
        self._limit, self._read_seconds, self._check = limit, read_seconds, check
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx2.AsyncClient
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(_redact)

    async def post(self, body: bytes, headers: Mapping[str, str]) -> _Answer:
        """Raises Unavailable where no answer comes, and BadAnswer for one without end, compressed, or not in HTTP."""
        import httpx2

        if self._loop is not asyncio.get_running_loop():  # connections belong to the loop that made them
            self._open()
        sent = httpx2.Headers({"Authorization": self._basic} if self._basic else None)
        sent.update(headers)
        sent["Accept-Encoding"] = "identity"  # a few bytes must not become many
        secrets = self._among(headers)
        before = _SECRETS.set(secrets)
        failure: RerankError | None = None
        opening = _Opening()
        try:
            async with self._client.stream(
                "POST", self.url, content=body, headers=sent, extensions={"trace": opening.trace}
            ) as answer:
                content = await _read(answer, _longest_answer(body))
        except asyncio.CancelledError:
            await opening.close()
            raise
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            # Raised below, for inside it would keep this error, whose text may repeat what was sent, as its context.
            failure = self._failure(type(error).__name__, str(error))
        finally:
            _SECRETS.reset(before)
        if failure:
            raise failure
        if answer.status_code == 200:
            return _Answer(200, answer.headers, content)
        for secret in secrets:
            content = content.replace(secret.encode(), b"***")
        return _Answer(answer.status_code, answer.headers, content, self._location(answer, secrets))

    def _among(self, headers: Mapping[str, str]) -> tuple[str, ...]:
        """What nobody may read of a request: credentials of URL and headers, longest first."""
        values = [value for name, value in headers.items() if not _PUBLIC.fullmatch(name)] + [self._basic]
        words = {*self._secrets, *values, *(value.partition(" ")[2] for value in values)}
        return tuple(sorted((word for word in words if len(word) >= _SHORTEST_SECRET), key=len, reverse=True))

    def _location(self, answer: httpx2.Response, secrets: Iterable[str]) -> str:
        target = _parsed(str(answer.headers.get("Location", "")), self.url)
        return _line(_hidden(_shown(target), secrets)) if target else ""

    def _failure(self, kind: str, reason: str) -> RerankError:
        """The error to raise for one of httpx2, whose text may repeat what was sent and is not passed on."""
        where = _shown(self.url)
        if kind == "ProxyError" and reason.startswith("407"):
            return AccessDenied(_PROXY_LOGIN)
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return Unavailable(
                f"{where} shows a certificate that is not trusted: name your authority's file in SSL_CERT_FILE."
            )
        lost = "disconnected" in reason or "closed connection" in reason
        if kind == "RemoteProtocolError" and not lost:
            return BadAnswer(f"What answers at {where} is not HTTP: check scheme and port.")
        return Unavailable(f"{where} could not be reached ({kind}): {self._check}")

    def _open(self) -> None:
        import httpx2

        # No cookies: they would be kept without limit.
        jar = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        with contextlib.suppress(ImportError, ValueError, httpx2.InvalidURL):
            self._client = httpx2.AsyncClient(
                verify=self._verify,
                cookies=jar,
                limits=httpx2.Limits(max_connections=self._limit, max_keepalive_connections=self._limit),
                timeout=httpx2.Timeout(None, connect=5.0, read=self._read_seconds),
                # What listens on this machine is not behind the proxy that the environment names.
                trust_env=not _is_loopback(self.url.host),
            )
            self._loop = asyncio.get_running_loop()
            return
        raise InvalidRequest(
            "The proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names cannot be used: give an HTTP proxy, or pip install 'httpx2[socks]'."
        )

    async def close(self) -> None:
        if self._loop is asyncio.get_running_loop():
            await self._client.aclose()
        self._loop = None


class _Opening:
    """The connection that a request opens, to be closed where the request is cancelled during its TLS handshake.

    httpcore2 leaves it open then, until its memory is reclaimed.
    """

    def __init__(self) -> None:
        self._plain: Any = None
        self._shaking_hands = False

    async def trace(self, event: str, details: Mapping[str, Any]) -> None:
        """What httpcore2 calls at each step."""
        if event.endswith("connect_tcp.complete"):
            self._plain = details["return_value"]
        elif event.endswith("start_tls.started"):
            self._shaking_hands = True
        elif event.endswith("start_tls.complete"):
            self._shaking_hands = False

    async def close(self) -> None:
        if self._shaking_hands:
            await self._plain.aclose()


def _parsed(url: str, base: httpx2.URL | None = None) -> httpx2.URL | None:
    """An HTTP URL, or None for what is no such; base: what a relative one is relative to."""
    import httpx2

    try:
        parsed = base.join(url) if base and url else httpx2.URL(url)
        good = parsed.scheme in ("http", "https") and parsed.host and (parsed.port or 1) <= 65_535
    except (httpx2.InvalidURL, TypeError, ValueError):
        return None
    return parsed if good else None


def _trusted(bundle: str | None) -> ssl.SSLContext:
    """Which certificates are trusted: the bundle's, else the environment's, else the system's. Raises InvalidRequest."""
    import httpx2

    chosen = bundle or os.environ.get("REQUESTS_CA_BUNDLE")
    with contextlib.suppress(OSError):
        if not chosen:
            return httpx2.create_ssl_context()  # which reads SSL_CERT_FILE and SSL_CERT_DIR
        if os.path.isdir(chosen):
            return ssl.create_default_context(capath=chosen)
        return ssl.create_default_context(cafile=chosen)
    raise InvalidRequest(
        "The trusted certificates cannot be read: AWS_CA_BUNDLE (or ca_bundle of the AWS profile), REQUESTS_CA_BUNDLE and SSL_CERT_FILE each name a file in PEM."
    )


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified  # 0.0.0.0, as a server writes where it listens


async def _read(answer: httpx2.Response, longest: int) -> bytes:
    """The body of an answer; of an error, whose end says little, its start."""
    content = bytearray()
    async with contextlib.aclosing(answer.aiter_raw()) as parts:
        async for part in parts:
            content += part
            if len(content) > longest:
                break
    if answer.status_code == 200 and len(content) > longest:
        raise BadAnswer("The answer does not end: check the endpoint or URL.")
    if answer.status_code == 200 and answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise BadAnswer("The answer is compressed, which was not asked for: check the endpoint or URL.")
    return bytes(content)


def _longest_answer(body: bytes) -> int:
    """Bytes that the answer to a body of ours may have: a result for each document, and the texts once more, escaped."""
    return 2 * 1024 * 1024 + 256 * body.count(b'","') + 4 * len(body)


def _shown(url: httpx2.URL) -> str:
    """The URL without what may be secret."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def _hidden(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _redact(record: logging.LogRecord) -> bool:
    """Keep a request's secrets out of what httpx2 and httpcore2 log: its URL, and headers in which a server repeats it."""
    if secrets := _SECRETS.get():
        record.msg, record.args = _hidden(record.getMessage(), secrets), None
    return True


class HttpTransport:
    """POST to a URL of a server that speaks Jina's /v1/rerank."""

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None = None, connections: int = CONNECTIONS
    ) -> None:
        """url: a host, or a path that ends in /, means v1/rerank there; any other path is taken as it is.

        connections: how many at most are open at once. Raises InvalidRequest.
        """
        self._connections = _Connections(url, connections)
        path, mark, query = self._connections.url.raw_path.partition(b"?")
        if path.endswith(b"/"):
            whole = path + b"v1/rerank" + mark + query
            self._connections.url = self._connections.url.copy_with(raw_path=whole)
        self._headers = _checked(headers or {})

    async def __call__(self, body: bytes) -> bytes:
        answer = await self._connections.post(body, self._headers)
        if answer.status != 200:
            raise _error(answer)
        return answer.content

    async def close(self) -> None:
        await self._connections.close()


def _checked(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Headers that HTTP carries, and that we send JSON. Raises InvalidRequest, which quotes none: they may hold a token."""
    import httpx2

    for name, value in headers.items():
        if not isinstance(name, str) or not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII):
            raise InvalidRequest("A header has a name that HTTP does not carry: give letters, digits and -.")
        if name.lower() in ("content-length", "transfer-encoding"):
            raise InvalidRequest(f"{name} is not yours to give: HTTP sets it from the body.")
        printable = isinstance(value, str) and value.isascii() and value.isprintable()
        if not printable or value != value.strip():
            raise InvalidRequest(
                f"A header holds characters that HTTP does not carry: take them out of {name}, and spaces off its ends."
            )
    given = httpx2.Headers({"Content-Type": "application/json"})
    given.update(headers)
    return given


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
        connections: int = CONNECTIONS,
    ) -> None:
        """region, profile: see sagerank.aws. endpoint_url: where the API is, if not at AWS.

        connections: how many at most are open at once. Raises InvalidRequest.
        """
        from botocore.exceptions import BotoCoreError

        self._chosen = region, profile
        self._session = aws.session(region, profile)
        client = None
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
        except ValueError:  # which quotes the address
            pass
        if client is None or "?" in client.meta.endpoint_url or "#" in client.meta.endpoint_url:
            raise InvalidRequest(aws.MALFORMED)
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
        check = "check network, proxy and region."
        self._connections = _Connections(url, connections, bundle=bundle, read_seconds=65, check=check)
        self._lookup: Future[ReadOnlyCredentials] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # in which the lookup was started

    async def __call__(self, body: bytes) -> bytes:
        credentials = await self._credentials()
        answer = await self._post(body, credentials)
        if answer.status != 200 and _STALE.match(_code(answer)):
            # A session reads each file once, and somebody may have signed in since.
            self._session = await asyncio.to_thread(aws.session, *self._chosen)
            renewed = await self._credentials()
            if renewed != credentials:
                answer = await self._post(body, renewed)
        if answer.status != 200:
            raise self._error(answer)
        return answer.content

    async def _post(self, body: bytes, credentials: ReadOnlyCredentials) -> _Answer:
        # In a thread, for six megabytes may have to be hashed.
        headers = await asyncio.to_thread(self._sign, body, credentials)
        return await self._connections.post(body, headers)

    async def _credentials(self) -> ReadOnlyCredentials:
        """The credentials of now, which may have to be fetched. All who wait share one lookup.

        It has a thread of its own: one that hangs must hold up neither the event loop's threads nor the program's end.
        """
        loop = asyncio.get_running_loop()
        if self._lookup is None or self._lookup.done() or self._loop is not loop:
            self._lookup, self._loop = Future(), loop
            self._lookup.set_running_or_notify_cancel()  # who gives up does not cancel it for the others
            threading.Thread(
                target=self._look_up, args=(self._lookup,), name="credentials", daemon=True
            ).start()
        return await asyncio.wrap_future(self._lookup)

    def _look_up(self, lookup: Future[ReadOnlyCredentials]) -> None:
        failure = f"No AWS credentials were found: {aws.SIGN_IN}."
        try:
            if credentials := self._session.get_credentials():
                lookup.set_result(credentials.get_frozen_credentials())
                return
        # botocore's, or whatever a plug-in of its raises; its text may hold a secret.
        except Exception as error:
            failure = f"The AWS credentials could not be read ({type(error).__name__}): {aws.SIGN_IN}."
        lookup.set_exception(AccessDenied(failure))

    def _sign(self, body: bytes, credentials: ReadOnlyCredentials) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest("POST", str(self._connections.url), headers=self._headers, data=body)
        SigV4Auth(credentials, self._service, self._region).add_auth(request)
        return dict(request.headers.items())

    def _error(self, answer: _Answer) -> RerankError:
        """The error that an answer of AWS's API stands for."""
        code = _code(answer)
        if not code or answer.status < 400:  # something between us and AWS
            return _error(answer)
        content = _object(answer.content)
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

        call = parse(body, None, scale=self._engine.manifest.scale)
        return self._engine.answer(call, request_id="local")[0]

    async def close(self) -> None:
        self._thread.shutdown(wait=False)


def _code(answer: _Answer) -> str:
    """AWS's name of an error; empty for an answer that is not AWS's."""
    code = answer.headers.get("x-amzn-errortype", str(_object(answer.content).get("__type", "")))
    return code.partition(":")[0].rpartition("#")[2]


_PROXY_LOGIN = "The proxy asks for credentials: give them in HTTPS_PROXY or HTTP_PROXY, as http://user:password@host:port."


def _error(answer: _Answer) -> RerankError:
    """The error that an HTTP answer stands for."""
    if answer.location and 300 <= answer.status < 400:
        return EndpointNotFound(
            f"The server redirects to {answer.location}, and redirects are not followed: give the URL that answers."
        )
    if answer.status < 300:
        return BadAnswer(f"The server answered with status {answer.status}: check the endpoint or URL.")
    if answer.status == 407:
        return AccessDenied(_PROXY_LOGIN)
    return error_from_status(answer.status, answer.content, answer.headers.get("Retry-After"))


def error_from_status(status: int, body: bytes, retry_after: str | None = None) -> RerankError:
    """The error that an HTTP answer of a reranker stands for, with the server's own sentence."""
    sentence = _sentence(body) or f"The server answered with status {status}."
    if status == 413:
        return PayloadTooLarge(sentence)
    if status == 429:
        return Overloaded(sentence, retry_after=_seconds(retry_after))
    if status in (401, 403):
        return AccessDenied(f"{sentence} Check the credentials of this client.")
    if status == 404:
        return EndpointNotFound(f"{sentence} Check the URL: a path that does not end in / is taken as it is.")
    if status >= 500:
        return Unavailable(sentence)
    return (
        TokenLimitExceeded(sentence)
        if sentence.endswith(TokenLimitExceeded.REMEDY)
        else InvalidRequest(sentence)
    )


def _seconds(retry_after: str | None) -> float:
    """What a Retry-After header says; a second where it holds a date, or no number that one can wait for."""
    try:
        seconds = float(retry_after or 1)
    except ValueError:
        return 1.0
    return seconds if 0 <= seconds < math.inf else 1.0


def error_from_aws(
    code: str, status: int, content: Mapping[str, Any], *, endpoint: str, region: str
) -> RerankError:
    """The error that InvokeEndpoint's own error of this code stands for; content: its members."""
    message = _line(str(content.get("message", content.get("Message", ""))))
    code = _line(code)
    if code == "ModelError":  # the container answered with an error of its own
        original, answered = str(content.get("OriginalMessage", "")), content.get("OriginalStatusCode")
        if type(answered) is not int or not 400 <= answered < 600:
            answered = 500
        return error_from_status(answered, original.encode(errors="replace"))
    if code in ("ThrottlingException", "Throttling", "TooManyRequestsException"):
        return Overloaded(
            f"The endpoint {endpoint} is throttled: send less, or add instances.", retry_after=1.0
        )
    if code.startswith("ValidationE") and "no capacity" in message.lower():
        return NoCapacity(
            f"The endpoint {endpoint} has no instance now, and AWS needs minutes to start one: give a longer timeout, or keep one, "
            "with -c autoscaling.min=1 at `sagerank deploy`."
        )
    if error := _refused(code, endpoint, region) or _misnamed(code, message, endpoint, region):
        return error
    if status >= 500 or code in ("ModelNotReadyException", "InternalDependencyException"):
        return Unavailable(f"The endpoint {endpoint} is not answering ({code}).")
    return InvalidRequest(f"SageMaker refused the request ({code}): {message}")


def _refused(code: str, endpoint: str, region: str) -> AccessDenied | None:
    if code.startswith("ExpiredToken"):
        return AccessDenied(f"The AWS credentials have expired: {aws.SIGN_IN}.")
    # Of a signature that is wrong AWS's message repeats the request's headers.
    words = ("AccessDenied", "UnrecognizedClient", "Token", "Signature", "Credential")
    if any(word in code for word in words):
        return AccessDenied(
            f"AWS refused the call ({code}): the caller needs sagemaker:InvokeEndpoint on endpoint/{endpoint} in {region}."
        )
    return None


def _misnamed(code: str, message: str, endpoint: str, region: str) -> EndpointNotFound | None:
    if not code.startswith("ValidationE"):
        return None
    if "inference component" in message.lower():
        return EndpointNotFound(
            f"SageMaker refused the inference component ({message.rstrip('.')}): name one of {endpoint}'s "
            "(in Python inference_component=), or none where it has none."
        )
    if "not found" in message.lower():
        return EndpointNotFound(
            f"There is no endpoint {endpoint} in {region}: see `aws sagemaker list-endpoints --region {region}`."
        )
    return None


def _sentence(body: bytes) -> str:
    """The message inside any of the dialects' error forms."""
    payload: Any = _object(body)
    for _ in range(2):
        if isinstance(payload, dict):
            payload = next((payload[key] for key in ("detail", "message", "error") if key in payload), "")
    return _line(payload) if isinstance(payload, str) else ""


def _line(text: str) -> str:
    """Another's text on one line, of a length to read: whoever answered may send anything."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_LONGEST_SENTENCE])


def _object(body: bytes) -> dict[str, Any]:
    """A JSON object, or an empty one where the bytes are something else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
