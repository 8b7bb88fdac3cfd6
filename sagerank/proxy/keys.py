"""Who may pass the proxy's door: whoever has one of its keys, or without keys this machine's own programs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sagerank_inference import runtime_api
from sagerank_inference.contract import Unauthorized
from sagerank_inference.dialects import JSON, dialect_of, render_error
from sagerank_inference.metrics import Metrics

from ..errors import InvalidRequest

VARIABLE = "SAGERANK_PROXY_KEY"
_KEY = re.compile(r"[A-Za-z0-9._~+=-]{16,512}")
_FORM = "give 16 to 512 letters, digits or ._~+=-, as `openssl rand -hex 32` prints them"
_OPEN = ("/ping", "/health", "/healthz")  # which tell nothing, and cost nothing
# Where SDKs put a key that is no bearer's: Elasticsearch, Azure, Pinecone.
_HEADERS = ("x-api-key", "api-key")
# AWS's SDKs sign: the key is then their access key id, which is sent as it is; what it signs with is not looked at.
_SIGNED = re.compile(r"AWS4-HMAC-SHA256 +Credential=([^/, ]+)/")
_LONGEST_PATH = 200  # in the log

log = logging.getLogger("sagerank")


def read_keys(file: Path | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the keys of the file, one a line, and of the environment; none where neither is given.

    Raises InvalidRequest for what is no key, without quoting it, and OSError for a file that cannot be read.
    """
    keys = []
    if VARIABLE in environ:
        keys.append((VARIABLE, environ[VARIABLE].strip()))
    if file:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [
            (f"{file}, line {number}", line.strip())
            for number, line in enumerate(lines, 1)
            if line.strip() and not line.lstrip().startswith("#")
        ]
        if not kept:
            raise InvalidRequest(f"{file} holds no key: write one a line.")
        keys += kept
    for where, key in keys:
        if not _KEY.fullmatch(key):
            raise InvalidRequest(f"{where} is no key: {_FORM}.")
    return tuple(key for _, key in keys)


def is_loopback(host: str) -> bool:
    """Say whether only programs of this machine reach the host."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guard:
    """The application behind it answers only who may pass; the others are told so in the form of their API."""

    def __init__(self, app: ASGIApp, *, keys: Iterable[str], metrics: Metrics) -> None:
        """keys: none for a door that only programs of this machine reach."""
        self._app, self._metrics = app, metrics
        self._digests = [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, path = Request(scope), scope["path"]
        # A browser asks by OPTIONS whether it may ask, without a key; what is behind answers no question to it.
        free = path in _OPEN or request.method == "OPTIONS"
        reason = "" if free else self._reason(request.headers)
        await (self._refusal(request, path, reason) if reason else self._app)(scope, receive, send)

    def _reason(self, headers: Mapping[str, str]) -> str:
        """Return why a request may not pass; empty where it may."""
        if not self._digests:
            return "" if _is_local(headers) else _FOREIGN
        given = list(_given(headers))
        if any(self._knows(key) for key in given):
            return ""
        return "This key is not known here: ask who runs this proxy for one." if given else _NO_KEY

    def _knows(self, given: str) -> bool:
        """Say whether it is a key, in a time that tells nothing about any."""
        digest, known = _digest(given), False
        for own in self._digests:
            known |= hmac.compare_digest(own, digest)
        return known

    def _refusal(self, request: Request, path: str, reason: str) -> Response:
        request_id = uuid.uuid4().hex
        dialect = dialect_of(path, request.headers)
        name = dialect.name if dialect else "unknown"
        if path.startswith("/endpoints/"):
            response = runtime_api.error("UnrecognizedClientException", reason, 403)
        else:
            error = Unauthorized(reason)
            refusal = render_error(error, path=path, headers=request.headers, request_id=request_id)
            response = Response(refusal.body, refusal.status, dict(refusal.headers), JSON)
            response.headers["WWW-Authenticate"] = 'Bearer realm="sagerank"'
        response.headers["X-Request-Id"] = request_id
        self._metrics.requests.labels(name, str(response.status_code)).inc()
        entry = {"event": "request", "request_id": request_id, "path": path[:_LONGEST_PATH]}
        log.info(json.dumps(entry | {"dialect": name, "status": response.status_code}))
        return response


_NO_KEY = "No key was sent: send one in the header Authorization, as `Bearer KEY`."
_FOREIGN = "This proxy has no key, and answers programs of its own machine alone: start it with a key."


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _given(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield what may be a key in a request."""
    yield from (value for name in _HEADERS if (value := headers.get(name)))
    authorization = headers.get("authorization", "").strip()
    scheme, _, value = authorization.partition(" ")
    if signed := _SIGNED.match(authorization):
        yield signed[1]
    elif scheme.lower() == "basic":  # the password of a URL, for clients that know nothing but one
        try:
            yield base64.b64decode(value.strip(), validate=True).decode().rpartition(":")[2]
        except ValueError:
            yield ""
    elif authorization:
        yield value.strip() or scheme


def _is_local(headers: Mapping[str, str]) -> bool:
    """Say whether a request is of a program on this machine, and not of a web page that its browser shows.

    A page's own name can be made to lead here; AWS's cannot, and some SDKs send it whatever address they call.
    """
    host, origin = _host(headers.get("host", "")), headers.get("origin")
    named = is_loopback(host) or host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    from_here = origin is None or is_loopback(_host(origin))
    return named and from_here and headers.get("sec-fetch-site", "none") != "cross-site"


def _host(address: str) -> str:
    """Return the name in a header's address, with or without a scheme; empty where there is none."""
    try:
        return urlsplit(address if "//" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""
