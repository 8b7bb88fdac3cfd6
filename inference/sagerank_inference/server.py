"""The HTTP server: /ping and /invocations as SageMaker calls them, their public twins, and /metrics.

Run by the container as `python -m sagerank_inference.server` (SageMaker adds the argument `serve`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import math
import os
import re
import signal
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from . import runtime_api
from .connections import DrainedResponse, Server, listen
from .contract import (
    InternalError,
    Overloaded,
    PayloadTooLarge,
    RequestTimeout,
    RerankError,
    UnsupportedMediaType,
    status,
)
from .dialects import JSON, render_error
from .log import start as start_log
from .metrics import Metrics
from .process import reap
from .service import Answer, Exchange, Service
from .settings import Settings, SettingsError

_RERANK_PATHS = ("/invocations", "/rerank", "/v1/rerank", "/v2/rerank")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_LEFT = 499
_LONGEST_PATH = 200  # in the log
_COLLECT_SECONDS = 30.0  # at the latest
_SWITCH_SECONDS = 0.0005
_STAGES = ("tokenise", "queue", "forward")
_FAILED_DRAIN_SECONDS = 2.0  # all have been told by then, and the platform waits to replace this server

log = logging.getLogger("sagerank")


def create_app(settings: Settings, on_failure: Callable[[], None] = lambda: None) -> Starlette:
    """Make the ASGI application. `on_failure` is called when the model cannot be loaded, after that was logged."""
    metrics = Metrics()
    service = Service(settings, metrics)
    routes = _Routes(service, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        # In the background: /ping has to answer 503 while the model loads.
        tasks = [asyncio.create_task(service.run(on_failure)), asyncio.create_task(_keep_house(service))]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    app = Starlette(
        routes=[
            Route("/ping", routes.ping),
            Route("/metrics", routes.metrics),
            *(Route(path, routes.rerank, methods=["POST"]) for path in _RERANK_PATHS),
            runtime_api.route(routes.rerank),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _no_such_route},
    )
    app.router.redirect_slashes = False  # to where the client's Host header says
    return app


async def _keep_house(service: Service) -> None:
    """Do now and then what would otherwise be done in the middle of a request, or by nobody."""
    collected, frozen = time.monotonic(), False
    while True:
        await asyncio.sleep(1)
        if not frozen and service.state == "ready":
            gc.collect()
            gc.freeze()  # what was loaded stays: it need not be looked through again
            frozen = True
        if os.getpid() == 1:
            reap(service.children)
        if service.batcher.idle or time.monotonic() - collected > _COLLECT_SECONDS:
            gc.collect()
            collected = time.monotonic()


class _Routes:
    def __init__(self, service: Service, metrics: Metrics) -> None:
        self._service, self._metrics = service, metrics
        self._bodies = _Bodies(service.limits.max_body_bytes)

    async def ping(self, request: Request) -> Response:
        state = "draining" if getattr(request.state, "draining", False) else self._service.state
        return JSONResponse({"status": state, "model": self._service.model}, 200 if state == "ready" else 503)

    async def metrics(self, _request: Request) -> Response:
        self._metrics.queued.set(self._service.batcher.queued_tokens)
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def rerank(self, request: Request) -> Response:
        began = time.monotonic()
        given = request.headers.get("x-request-id", "")
        exchange = Exchange(
            content_type=request.headers.get("content-type"),
            path=request.url.path,
            request_id=given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex,
            deadline=began + self._service.settings.request_seconds,
        )
        facts: dict[str, object] = {}
        response: Response
        sent = False
        held = _Held(self._bodies, self._service.limits.max_body_bytes)
        try:
            self._service.admit()
            encoding = request.headers.get("content-encoding", "identity")
            if encoding.strip().lower() not in ("", "identity"):
                raise UnsupportedMediaType(
                    f"Content-Encoding {encoding[:40]!r} is not read here: send the body uncompressed."
                )
            exchange.take(await held.read(request, exchange.left))
            answer = await _unless_disconnected(request, self._service.rerank(exchange))
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


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    posts = (f"POST {path}" for path in (*_RERANK_PATHS, "/endpoints/NAME/invocations"))
    paths = ", ".join(("GET /ping", "GET /metrics", *posts))
    message = f"There is no {request.method} {request.url.path[:80]} here: known are {paths}."
    return JSONResponse({"detail": {"message": message}}, error.status_code, error.headers)


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
        body = bytearray()
        try:
            async with asyncio.timeout(timeout):
                async for part in request.stream():
                    body += part
                    if len(body) > self._size:
                        self._hold(len(body))
        except TimeoutError:
            raise RequestTimeout("The body did not arrive in time: send it faster.") from None
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
    body = render_error(error, path=exchange.path, request_id=exchange.request_id, dialect=exchange.dialect)
    return Response(body, status(error), headers, JSON)


def main() -> int:
    """Serve as the environment's settings say. Returns the exit code, after the reason was logged.

    1 stands for a model that cannot be used or keeps dying; 2 for settings or an address that cannot.
    """
    start_log()
    try:
        settings = Settings.from_env()
        _open_model_dir(settings)
        sockets = listen(settings.host, settings.port)
    except (SettingsError, OSError) as error:
        hint = ": set SAGERANK_HOST or SAGERANK_PORT." if isinstance(error, OSError) else ""
        log.error(json.dumps({"event": "failed", "reason": f"{error}{hint}"}))
        return 2
    return serve(settings, sockets)


def _open_model_dir(settings: Settings) -> None:
    try:
        os.scandir(settings.model_dir).close()
    except OSError as error:
        raise SettingsError(
            f"SAGERANK_MODEL_DIR is {settings.model_dir}, which cannot be opened ({error.strerror}): "
            "give the folder of an unpacked artefact."
        ) from None


def serve(settings: Settings, sockets: list[socket.socket]) -> int:
    """Serve on sockets that listen until SIGTERM, SIGINT or SIGHUP, and finish what is under way. Logs to standard output.

    Returns the exit code: 1 where the model cannot be used or keeps dying, after the reason was logged. The process
    is to end then; one that a thread holds up is ended.
    """
    start_log()
    # The loop gets the interpreter from the reader's thread after so long, some ten times for an answer. And all objects are
    # looked through for garbage when nothing is under way: with those of 10,000 queries that takes 0.1 s.
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(*gc.get_threshold()[:2], 1_000_000)
    failed = False

    def fail() -> None:
        nonlocal failed
        failed = True
        server.stop(_FAILED_DRAIN_SECONDS, exit_code=1)

    server = Server(create_app(settings, on_failure=fail), drain_seconds=settings.drain_seconds)
    # uvicorn sets the same handler for SIGTERM and SIGINT when its loop runs, and what was there before when it has ended.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, server.handle_exit)
    server.run(sockets)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
