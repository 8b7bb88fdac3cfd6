"""The HTTP routes: /ping and /invocations as SageMaker calls them, the doors of other APIs, and /metrics."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import logging
import math
import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from . import runtime_api
from .backend import Answer, Backend, Exchange
from .connections import DrainedResponse
from .contract import (
    InternalError,
    Overloaded,
    PayloadTooLarge,
    RequestTimeout,
    RerankError,
)
from .dialects import JSON, ROUTES, render_error
from .discovery import Discovery
from .inflate import Inflated
from .metrics import Metrics
from .process import reap

_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NAMED_ID = re.compile(r"\brequest[_-]id=([^,;&\s]*)", re.IGNORECASE)
_CLIENT_LEFT = 499
_LONGEST_PATH = 200  # in the log
_COLLECT_SECONDS = 30.0  # at the latest
_STAGES = ("tokenise", "queue", "forward")

log = logging.getLogger("sagerank")


def create_app(
    backend: Backend,
    metrics: Metrics,
    on_failure: Callable[[], None] = lambda: None,
    *,
    inner: Sequence[Middleware] = (),
) -> Starlette:
    """Make the ASGI application. `on_failure` is called when the backend is of no more use, after that was logged.

    inner: what a request passes on its way to the routes, behind all that the routes have themselves.
    """
    routes = _Routes(backend, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        # In the background: /ping has to answer 503 while the model loads.
        tasks = [asyncio.create_task(backend.run(on_failure)), asyncio.create_task(_keep_house(backend))]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    every = [
        *Discovery(backend).routes(),
        Route("/metrics", routes.metrics),
        # An ARN has slashes, which arrive as such however they were sent.
        *(
            Route(path.replace("/model/{model}", "/model/{model:path}"), routes.rerank, methods=["POST"])
            for path in ROUTES
        ),
        *runtime_api.routes(routes.rerank),
    ]
    known = ", ".join(
        f"{'POST' if 'POST' in one.methods else 'GET'} {one.path}" for one in every if one.methods
    )
    origins = [origin.strip() for origin in backend.cors_origins.split(",") if origin.strip()]
    middleware = [Middleware(_WithoutSlash)]
    if origins != ["none"]:
        middleware.append(
            Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
        )
    app = Starlette(
        routes=every,
        lifespan=lifespan,
        middleware=[*middleware, *inner],
        exception_handlers={HTTPException: functools.partial(_no_such_route, known)},
    )
    app.router.redirect_slashes = False  # to where the client's Host header says
    return app


class _WithoutSlash:
    """Takes a path with a slash at its end for the one without."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/") and len(scope["path"]) > 1:
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self._app(scope, receive, send)


async def _keep_house(backend: Backend) -> None:
    """Do now and then what would otherwise be done in the middle of a request, or by nobody."""
    collected, frozen = time.monotonic(), False
    while True:
        await asyncio.sleep(1)
        if not frozen and backend.state == "ready":
            gc.collect()
            gc.freeze()  # what was loaded stays: it need not be looked through again
            frozen = True
        if os.getpid() == 1:
            reap(backend.children)
        if backend.idle or time.monotonic() - collected > _COLLECT_SECONDS:
            gc.collect()
            collected = time.monotonic()


class _Routes:
    def __init__(self, backend: Backend, metrics: Metrics) -> None:
        self._backend, self._metrics = backend, metrics
        self._bodies = _Bodies(backend.limits.max_body_bytes)

    async def metrics(self, _request: Request) -> Response:
        self._metrics.queued.set(self._backend.queued_tokens)
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def rerank(self, request: Request) -> Response:
        began = time.monotonic()
        exchange = Exchange(
            headers=request.headers,
            path=request.scope["path"],
            request_id=_request_id(request),
            deadline=began + self._backend.request_seconds,
        )
        facts: dict[str, object] = {}
        response: Response
        sent = False
        held = _Held(self._bodies, self._backend.limits.max_body_bytes)
        try:
            self._backend.admit()
            exchange.take(await held.read(request, exchange.left))
            answer = await _unless_disconnected(request, self._backend.rerank(exchange))
            timings = answer.timings
            milliseconds = {name: _milliseconds(getattr(timings, name)) for name in _STAGES}
            facts = {**answer.sizes, **milliseconds}
            if timings.stages:
                facts["stages"] = list(map(_milliseconds, timings.stages))
            timing = ", ".join(f"{name};dur={value}" for name, value in milliseconds.items())
            response = _HeldResponse(answer.body, 200, {"Server-Timing": timing}, answer.media_type)
            response.held = held
            sent = True
            self._metrics.documents.inc(answer.sizes["documents"])
            for stage, value in milliseconds.items():
                self._metrics.latency.labels(stage).observe(value / 1e3)
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_LEFT)
        except RerankError as error:
            exchange.dialect = exchange.dialect or error.dialect
            response = _error_response(error, exchange)
        except Exception as error:
            # The type is enough to find it by; a message could quote what the caller sent.
            facts = {"exception": type(error).__name__}
            failure = InternalError("The server failed on this request; its log has the id.")
            response = _error_response(failure, exchange)
        finally:
            if not sent:
                held.release()
        response.headers["X-Request-Id"] = exchange.request_id
        # The only header of a container that SageMaker hands on.
        response.headers[_ATTRIBUTES] = f"request_id={exchange.request_id}"
        seconds = time.monotonic() - began
        dialect = exchange.dialect or "unknown"
        self._metrics.requests.labels(dialect, str(response.status_code)).inc()
        self._metrics.latency.labels("total").observe(seconds)
        entry = {
            "event": "request",
            "request_id": exchange.request_id,
            "path": exchange.path[:_LONGEST_PATH],
            "dialect": dialect,
            "status": response.status_code,
            "total": _milliseconds(seconds),
        }
        log.info(json.dumps(entry | facts))
        return response


def _request_id(request: Request) -> str:
    """Return the caller's id: a header's, or on SageMaker the custom attributes', alone or as request_id=ID; else a new one."""
    attributes = request.headers.get(_ATTRIBUTES, "")
    named = _NAMED_ID.search(attributes)
    for given in (request.headers.get("x-request-id", ""), named[1] if named else attributes):
        if _REQUEST_ID.fullmatch(given):
            return given
    return uuid.uuid4().hex


async def _no_such_route(known: str, request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"There is no {request.method} {request.scope['path'][:80]} here: known are {known}."
    if request.scope["path"].startswith("/endpoints/"):
        return runtime_api.error("UnknownOperationException", message, error.status_code)
    body = {"detail": {"message": message}, "message": message, "error": message}
    return JSONResponse(body, error.status_code, error.headers)


class _Bodies:
    """How many bytes the requests under way may hold: their bodies, and then what is made of them.

    Small ones have a share of their own, so that large ones do not keep them out.
    """

    SMALL = 65_536
    _OF_SMALL = 16 * 1024 * 1024

    def __init__(self, largest: int) -> None:
        self._free = {True: self._OF_SMALL, False: 3 * largest}

    def hold(self, size: int, held: int) -> None:
        """Let a request that holds so many bytes hold `size` instead. Raises Overloaded where there is no room."""
        self._free[held <= self.SMALL] += held
        if size > self._free[size <= self.SMALL]:
            self._free[held <= self.SMALL] -= held
            raise Overloaded(
                "Too many bytes of other requests are under way: try again in 1 s, or add instances.",
                retry_after=1.0,
            )
        self._free[size <= self.SMALL] -= size


class _Held:
    """What one request holds of the bytes of all."""

    def __init__(self, bodies: _Bodies, largest: int) -> None:
        self._bodies, self._largest, self._size = bodies, largest, 0

    def _hold(self, size: int) -> None:
        if size > self._largest:
            raise PayloadTooLarge(
                f"The body has more than {self._largest} bytes: split the documents over several requests."
            )
        self._bodies.hold(size, self._size)
        self._size = size

    def release(self) -> None:
        self._hold(0)

    async def read(self, request: Request, timeout: float) -> bytes:
        """Return the body. Raises PayloadTooLarge, Overloaded and RequestTimeout as soon as that is known."""
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and (len(announced) > 20 or int(announced) > self._largest):
            self._hold(self._largest + 1)
        inflated = Inflated(request.headers.get("content-encoding", ""))
        body = bytearray()
        try:
            async with asyncio.timeout(timeout):
                async for part in request.stream():
                    for piece in inflated.pieces(part):
                        body += piece
                        if len(body) > self._size:
                            self._hold(len(body))
                        if piece is not part:
                            await asyncio.sleep(0)  # others take their turn between the pieces
        except TimeoutError:
            raise RequestTimeout("The body did not arrive in time: send it faster.") from None
        inflated.check()
        return bytes(body)


class _HeldResponse(DrainedResponse):
    """An answer whose request holds its bytes until it is sent."""

    held: _Held | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.held:
                self.held.release()


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Return the result of `work`. Raises ClientDisconnect, and cancels it, when nobody is left to read it."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(left())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        watching.cancel()
        working.cancel()
        # Nobody may be left to take what becomes of it.
        working.add_done_callback(lambda done: done.cancelled() or done.exception())


def _milliseconds(seconds: float) -> float:
    return round(1e3 * seconds, 2)


def _error_response(error: RerankError, exchange: Exchange) -> Response:
    headers = {"Retry-After": str(math.ceil(error.retry_after))} if isinstance(error, Overloaded) else {}
    # The error's own dialect is not set: several requests may share the error.
    refusal = render_error(
        error,
        path=exchange.path,
        headers=exchange.headers,
        request_id=exchange.request_id,
        dialect=exchange.dialect,
    )
    return Response(refusal.body, refusal.status, headers | dict(refusal.headers), JSON)
