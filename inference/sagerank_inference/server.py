"""The HTTP server: /ping and /invocations as SageMaker calls them, their public twins, and /metrics.

Run by the container as `python -m sagerank_inference.server` (SageMaker adds the argument `serve`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import re
import signal
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import runtime_api
from .connections import Server
from .connections import listen as listen
from .contract import InternalError, Limits, Overloaded, PayloadTooLarge, RerankError, Scores, Timings, status
from .dialects import JSON, parse, render, render_error
from .metrics import Metrics
from .service import Service
from .settings import Settings, SettingsError

_RERANK_PATHS = ("/invocations", "/rerank", "/v1/rerank", "/v2/rerank")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_LEFT = 499
_STAGES = ("tokenise", "queue", "forward")

log = logging.getLogger("sagerank")


def create_app(settings: Settings, on_failure: Callable[[], None] = lambda: None) -> Starlette:
    """Make the ASGI application. `on_failure` is called when the model cannot be loaded, after that was logged."""
    metrics = Metrics()
    service = Service(settings, metrics)
    routes = _Routes(service, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        # In the background: /ping has to answer 503 while the model loads.
        running = asyncio.create_task(service.run(on_failure))
        yield
        running.cancel()
        await asyncio.wait([running])

    return Starlette(
        routes=[
            Route("/ping", routes.ping),
            Route("/metrics", routes.metrics),
            *(Route(path, routes.rerank, methods=["POST"]) for path in _RERANK_PATHS),
            runtime_api.route(routes.rerank),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _no_such_route},
    )


class _Routes:
    def __init__(self, service: Service, metrics: Metrics) -> None:
        self._service, self._metrics = service, metrics
        settings = service.settings
        self._limits = Limits(max_documents=settings.max_documents, max_body_bytes=settings.max_body_bytes)

    async def ping(self, _request: Request) -> Response:
        state = self._service.state
        return JSONResponse({"status": state, "model": self._service.model}, 200 if state == "ready" else 503)

    async def metrics(self, _request: Request) -> Response:
        self._metrics.queued.set(self._service.batcher.queued_tokens)
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def rerank(self, request: Request) -> Response:
        began = time.monotonic()
        given = request.headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        path, dialect = request.url.path, "unknown"
        facts: dict[str, object] = {}
        try:
            body = await _read(request, self._limits)
            call = parse(body, request.headers.get("content-type"), path=path, limits=self._limits)
            dialect = call.requests[0].dialect
            work = asyncio.gather(*(self._service.score(one) for one in call.requests))
            scores = await _unless_disconnected(request, work)
            answer, media_type = render(call, scores, model=self._service.model, request_id=request_id)
            sizes, timings = _sizes(scores), _slowest(scores)
            milliseconds = {name: _milliseconds(getattr(timings, name)) for name in _STAGES}
            facts = {**sizes, **milliseconds}
            if timings.stages:
                facts["stages"] = list(map(_milliseconds, timings.stages))
            timing = ", ".join(f"{name};dur={value}" for name, value in milliseconds.items())
            response = Response(answer, 200, {"Server-Timing": timing}, media_type)
            self._metrics.documents.inc(sizes["documents"])
            for stage, value in milliseconds.items():
                self._metrics.latency.labels(stage).observe(value / 1e3)
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_LEFT)
        except RerankError as error:
            dialect = error.dialect or dialect
            response = _error_response(error, path, request_id)
        except Exception as error:
            # The type is enough to find it by; a message could quote what the caller sent.
            facts = {"exception": type(error).__name__}
            failure = InternalError("The server failed on this request; its log has the id.")
            response = _error_response(failure, path, request_id)
        response.headers["X-Request-Id"] = request_id
        seconds = time.monotonic() - began
        self._metrics.requests.labels(dialect, str(response.status_code)).inc()
        self._metrics.latency.labels("total").observe(seconds)
        entry = {
            "event": "request",
            "request_id": request_id,
            "path": path,
            "dialect": dialect,
            "status": response.status_code,
            "total": _milliseconds(seconds),
        }
        log.info(json.dumps(entry | facts))
        return response


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    paths = ", ".join(("GET /ping", "GET /metrics", *(f"POST {path}" for path in _RERANK_PATHS)))
    message = f"There is no {request.method} {request.url.path[:80]} here: known are {paths}."
    return JSONResponse({"detail": {"message": message}}, error.status_code, error.headers)


async def _read(request: Request, limits: Limits) -> bytes:
    """Return the body. Raises PayloadTooLarge as soon as it is known to be."""
    announced = request.headers.get("content-length", "")
    size, parts = int(announced) if announced.isdecimal() else 0, []
    if size <= limits.max_body_bytes:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > limits.max_body_bytes:
                break
            parts.append(part)
        else:
            return b"".join(parts)
    raise PayloadTooLarge(
        f"The body has more than {limits.max_body_bytes} bytes: split the documents over several requests."
    )


async def _unless_disconnected(
    request: Request, work: asyncio.Future[list[list[Scores]]]
) -> list[list[Scores]]:
    """Return the result of `work`. Raises ClientDisconnect, and cancels it, when nobody is left to read it."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    watcher = asyncio.ensure_future(left())
    # Nobody may be left to take what becomes of the work.
    work.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        either: set[asyncio.Future[Any]] = {work, watcher}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        watcher.cancel()
        work.cancel()


def _slowest(scores: list[list[Scores]]) -> Timings:
    """Return the times of the group that took longest."""
    timings = (group.timings for request in scores for group in request)
    return max(timings, key=lambda timings: timings.queue + timings.forward)


def _milliseconds(seconds: float) -> float:
    return round(1e3 * seconds, 2)


def _sizes(scores: list[list[Scores]]) -> dict[str, int]:
    """Return the sizes of an answer for the log. `tokens` are as billed."""
    groups = [group for request in scores for group in request]
    return {
        "documents": sum(len(group.values) for group in groups),
        "tokens": sum(group.total_tokens for group in groups),
        # With the query before each document, as the model sees them; and what a rectangle round them would hold.
        "computed": sum(len(g.values) * g.query_tokens + sum(g.document_tokens) for g in groups),
        "padded": sum(len(g.values) * (g.query_tokens + max(g.document_tokens, default=0)) for g in groups),
    }


def _error_response(error: RerankError, path: str, request_id: str) -> Response:
    headers = {"Retry-After": str(math.ceil(error.retry_after))} if isinstance(error, Overloaded) else {}
    return Response(render_error(error, path=path, request_id=request_id), status(error), headers, JSON)


class _JsonLines(logging.Formatter):
    """Writes one JSON object a line; our own messages are objects already."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        fields = (
            json.loads(message) if record.name == "sagerank" else {"event": record.name, "message": message}
        )
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = record.exc_info[0].__name__
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z"
        return json.dumps({"time": stamp, "level": record.levelname.lower(), **fields})


def main() -> int:
    """Serve as the environment's settings say. Returns the exit code.

    1 stands for settings, an address or a model that cannot be used, after the reason was logged.
    """
    _log_lines()
    try:
        settings = Settings.from_env()
        sockets = listen(settings.host, settings.port)
    except (SettingsError, OSError) as error:
        hint = ": set SAGERANK_HOST or SAGERANK_PORT." if isinstance(error, OSError) else ""
        log.error(json.dumps({"event": "failed", "reason": f"{error}{hint}"}))
        return 1
    return serve(settings, sockets)


def _log_lines() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def serve(settings: Settings, sockets: list[socket.socket]) -> int:
    """Serve on sockets that listen until SIGTERM or SIGINT, and answer what was accepted. Logs to standard output.

    Returns the exit code: 1 where the model cannot be used, after the reason was logged.
    """
    _log_lines()
    failed = False

    def stop() -> None:
        nonlocal failed
        failed, server.should_exit = True, True

    server = Server(create_app(settings, on_failure=stop), drain_seconds=settings.drain_seconds)
    # uvicorn sets the same handler when its loop runs, and what was there before when the loop has ended.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run(sockets)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
