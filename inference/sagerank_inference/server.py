"""The HTTP door: /ping and /invocations as SageMaker calls them, their public twins, and /metrics.

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
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import runtime_api
from .contract import InternalError, Limits, Overloaded, PayloadTooLarge, RerankError, Scores, status
from .dialects import JSON, parse, render, render_error
from .metrics import Metrics
from .service import Service
from .settings import Settings, SettingsError

_RERANK_PATHS = ("/invocations", "/rerank", "/v1/rerank", "/v2/rerank")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_LEFT = 499

log = logging.getLogger("sagerank")


def create_app(settings: Settings, on_failure: Callable[[], None] = lambda: None) -> Starlette:
    """The ASGI application. `on_failure` is called when the model cannot be loaded, after that was logged."""
    metrics = Metrics()
    service = Service(settings, metrics)
    limits = Limits(max_documents=settings.max_documents, max_body_bytes=settings.max_body_bytes)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        # In the background: /ping has to answer 503 while the model loads.
        running = asyncio.create_task(service.run(on_failure))
        yield
        running.cancel()
        await asyncio.wait([running])

    async def ping(request: Request) -> Response:
        body = {"status": service.state, "model": service.model}
        return JSONResponse(body, 200 if service.state == "ready" else 503)

    async def show_metrics(request: Request) -> Response:
        metrics.queued.set(service.batcher.queued_tokens)
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def rerank(request: Request) -> Response:
        began = time.monotonic()
        given = request.headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        path, headers, dialect = request.url.path, {"X-Request-Id": request_id}, "unknown"
        facts: dict[str, object] = {}
        try:
            body = await _read(request, limits)
            call = parse(body, request.headers.get("content-type"), path=path, limits=limits)
            dialect = call.requests[0].dialect
            work = asyncio.gather(*(service.score(one) for one in call.requests))
            scores = await _unless_disconnected(request, work)
            answer, media_type = render(call, scores, model=service.model, request_id=request_id)
            facts = _facts(scores)
            headers["Server-Timing"] = ", ".join(
                f"{name};dur={facts[name]}" for name in ("tokenise", "queue", "forward")
            )
            response = Response(answer, 200, headers, media_type)
            metrics.documents.inc(facts["documents"])  # type: ignore[arg-type]
            for stage in ("tokenise", "queue", "forward"):
                metrics.latency.labels(stage).observe(facts[stage] / 1e3)  # type: ignore[operator]
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_LEFT)
        except RerankError as error:
            dialect = error.dialect or dialect
            response = _error_response(error, path, request_id, headers)
        except Exception as error:
            # The type is enough to find it by; a message could quote what the caller sent.
            facts = {"exception": type(error).__name__}
            response = _error_response(
                InternalError("The server failed on this request; its log has the id."),
                path,
                request_id,
                headers,
            )
        seconds = time.monotonic() - began
        metrics.requests.labels(dialect, str(response.status_code)).inc()
        metrics.latency.labels("total").observe(seconds)
        entry = {
            "event": "request",
            "request_id": request_id,
            "path": path,
            "dialect": dialect,
            "status": response.status_code,
        }
        log.info(json.dumps(entry | {"total": round(1e3 * seconds, 2)} | facts))
        return response

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        paths = ", ".join(("GET /ping", "GET /metrics", *(f"POST {path}" for path in _RERANK_PATHS)))
        message = f"There is no {request.method} {request.url.path[:80]} here: known are {paths}."
        return JSONResponse({"detail": {"message": message}}, error.status_code, error.headers)

    routes = [Route("/ping", ping), Route("/metrics", show_metrics)]
    routes += [Route(path, rerank, methods=["POST"]) for path in _RERANK_PATHS]
    routes.append(runtime_api.route(rerank))
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: http_error})


async def _read(request: Request, limits: Limits) -> bytes:
    """The body, refused as soon as it is known to be too large."""
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
    """The result of `work`, or ClientDisconnect with the work cancelled when nobody is left to read it."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    watcher = asyncio.ensure_future(left())
    try:
        either: set[asyncio.Future[Any]] = {work, watcher}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        watcher.cancel()
        work.cancel()


def _facts(scores: list[list[Scores]]) -> dict[str, object]:
    """What is logged of an answer: sizes, and milliseconds of the slowest group."""
    groups = [group for request in scores for group in request]
    longest = max(groups, key=lambda group: group.timings.queue + group.timings.forward).timings
    times = {name: round(1e3 * getattr(longest, name), 2) for name in ("tokenise", "queue", "forward")}
    sizes = {
        "documents": sum(len(group.values) for group in groups),
        "tokens": sum(group.total_tokens for group in groups),
        # With the query before each document, as the model sees them; and what a rectangle round them would hold.
        "computed": sum(len(g.values) * g.query_tokens + sum(g.document_tokens) for g in groups),
        "padded": sum(len(g.values) * (g.query_tokens + max(g.document_tokens, default=0)) for g in groups),
    }
    # Of a cascade's models, each.
    stages = {"stages": [round(1e3 * part, 2) for part in longest.stages]} if longest.stages else {}
    return {**sizes, **times, **stages}


def _error_response(error: RerankError, path: str, request_id: str, headers: dict[str, str]) -> Response:
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    return Response(render_error(error, path=path, request_id=request_id), status(error), headers, JSON)


class _JsonLines(logging.Formatter):
    """One JSON object a line; our own messages are objects already."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        fields = (
            json.loads(message) if record.name == "sagerank" else {"event": record.name, "message": message}
        )
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = record.exc_info[0].__name__
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z"
        return json.dumps({"time": stamp, "level": record.levelname.lower(), **fields})


def main(environment: dict[str, str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, finishing what is under way. Returns 1 when the model could not be
    loaded.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        settings = Settings.from_env(environment)
    except SettingsError as error:
        log.error(json.dumps({"event": "failed", "reason": str(error)}))
        return 1
    failed = False

    def stop() -> None:
        nonlocal failed
        failed, server.should_exit = True, True

    config = uvicorn.Config(
        create_app(settings, on_failure=stop),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
        # SageMaker keeps connections open between invocations; a close in between is an error for its client.
        timeout_keep_alive=75,
    )
    server = uvicorn.Server(config)
    # uvicorn drains, then raises the signal again; a drained server has done what it was asked, with exit
    # code 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
