"""The SageMaker runtime's own route: boto3's invoke_endpoint works with this server as its `endpoint_url`.

On AWS the service takes /endpoints/NAME/invocations, calls the container's /invocations, and wraps the
container's errors; here the same server does both. Any endpoint name is answered.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Handler = Callable[[Request], Awaitable[Response]]


def route(invoke: Handler) -> Route:
    """Put /endpoints/{name}/invocations before a handler of /invocations."""

    async def invoke_endpoint(request: Request) -> Response:
        answer = await invoke(request)
        if answer.status_code == 200:
            answer.headers["x-Amzn-Invoked-Production-Variant"] = "AllTraffic"
            return answer
        # As the service does: whatever the container says is a ModelError, with the original inside.
        message = bytes(answer.body).decode()
        wrapped = {
            "Message": f"Received client error ({answer.status_code}) from primary with message {message!r}.",
            "OriginalMessage": message,
            "OriginalStatusCode": answer.status_code,
            "LogStreamArn": "",
        }
        headers = {"x-amzn-errortype": "ModelError", "X-Request-Id": answer.headers.get("x-request-id", "")}
        return Response(json.dumps(wrapped), 424, headers, "application/json")

    return Route("/endpoints/{name}/invocations", invoke_endpoint, methods=["POST"])
