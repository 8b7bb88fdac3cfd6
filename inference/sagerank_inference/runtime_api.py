"""The SageMaker runtime's own routes: boto3's invoke_endpoint works with this server as its `endpoint_url`.

On AWS the service takes /endpoints/NAME/invocations, calls the container's /invocations, and wraps the
container's errors; here the same server does both. Any endpoint name is answered. Frames of a stream:
https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import json
import struct
from collections.abc import Awaitable, Callable
from zlib import crc32

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Handler = Callable[[Request], Awaitable[Response]]
_VARIANT = "x-Amzn-Invoked-Production-Variant"
_STRING = 7  # the type of a header's value
_MOST = 512 * 1024  # bytes of a part


def routes(invoke: Handler) -> list[Route]:
    """Put the runtime's routes before a handler of /invocations."""

    async def invoke_endpoint(request: Request) -> Response:
        answer = await invoke(request)
        if answer.status_code != 200:
            return _model_error(answer)
        answer.headers[_VARIANT] = "AllTraffic"
        return answer

    async def invoke_stream(request: Request) -> Response:
        answer = await invoke(request)
        if answer.status_code != 200:
            return _model_error(answer)
        body = bytes(answer.body)
        # The same answer, for it holds what its request took until it is sent.
        answer.body = b"".join(_frame(body[at : at + _MOST]) for at in range(0, len(body), _MOST))
        answer.headers["X-Amzn-SageMaker-Content-Type"] = answer.headers["content-type"]
        answer.headers["content-type"] = "application/vnd.amazon.eventstream"
        answer.headers["content-length"] = str(len(answer.body))
        answer.headers[_VARIANT] = "AllTraffic"
        return answer

    async def invoke_async(_request: Request) -> Response:
        return error(
            "ValidationError",
            "An asynchronous invocation reads its input from S3, which a single server does not: invoke an endpoint, or post to /invocations.",
        )

    handlers = {
        "invocations": invoke_endpoint,
        "invocations-response-stream": invoke_stream,
        "async-invocations": invoke_async,
    }
    return [
        Route(f"/endpoints/{{name}}/{path}", handler, methods=["POST"]) for path, handler in handlers.items()
    ]


def error(code: str, message: str, status: int = 400) -> Response:
    """Return an error of the service itself."""
    body = json.dumps({"Message": message})
    return Response(body, status, {"x-amzn-errortype": code}, "application/json")


def _model_error(answer: Response) -> Response:
    """Wrap an error as the service does: whatever the container says is a ModelError, with the original inside."""
    message = bytes(answer.body).decode()
    kind = "client" if answer.status_code < 500 else "server"
    wrapped = {
        "Message": f"Received {kind} error ({answer.status_code}) from primary with message {message!r}.",
        "OriginalMessage": message,
        "OriginalStatusCode": answer.status_code,
        "LogStreamArn": "",
    }
    headers = {"x-amzn-errortype": "ModelError", "X-Request-Id": answer.headers.get("x-request-id", "")}
    return Response(json.dumps(wrapped), 424, headers, "application/json")


def _frame(payload: bytes) -> bytes:
    """Return a part of a stream's body."""
    event = {
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
    headers = b"".join(
        bytes([len(name)]) + name.encode() + struct.pack("!BH", _STRING, len(value)) + value.encode()
        for name, value in event.items()
    )
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    checked = prelude + struct.pack("!I", crc32(prelude)) + headers + payload
    return checked + struct.pack("!I", crc32(checked))
