"""InvokeEndpoint and InvokeEndpointAsync reach the endpoint's container; every call is counted in CloudWatch as SageMaker does:
under the component where one answers, asynchronous ones without Invocations, and those that find no capacity too.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from typing import Any

from moto.cloudwatch.models import cloudwatch_backends
from moto.core.utils import utcnow
from moto.sagemaker.models import sagemaker_backends
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from .container import Answer, Container
from .endpoints import RUNNING
from .resources import client
from .rights import role_may

_Response = tuple[int, dict[str, Any], str | bytes]
# Of a component that was scaled to nothing.
_NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress (if configured) "
    "or try to increase the capacity by invoking UpdateInferenceComponentRuntimeConfig API."
)
_BODY_BYTES = {"realtime": 6_291_456, "serverless": 4_194_304}


def _error(kind: str, status: int, **body: Any) -> _Response:
    return (
        status,
        {"status": status, "x-amzn-errortype": kind, "Content-Type": "application/json"},
        json.dumps(body),
    )


def _find(self: Any, name: str) -> tuple[Any, _Response | None]:
    """The endpoint in service, or the answer that says why not."""
    backend = sagemaker_backends[self.current_account][self.region]
    endpoint = backend.endpoints.get(name)
    if endpoint is None or endpoint.endpoint_status not in ("InService", "Updating", "SystemUpdating"):
        return None, _error(
            "ValidationError", 400, message=f"Endpoint {name} of account {self.current_account} not found."
        )
    return backend.endpoint_configs[endpoint.endpoint_config_name], None


def _choose(self: Any, name: str) -> tuple[str, Container] | _Response:
    """A container of the variant or component that is asked for, or the answer that says why there is none."""
    running = RUNNING.get((self.region, name), {})
    asked = self.headers.get("X-Amzn-SageMaker-Inference-Component") or self.headers.get(
        "X-Amzn-SageMaker-Target-Variant"
    )
    found = next((each for each in running if asked in (None, each)), None)
    if found is None:
        return _error(
            "ValidationError",
            400,
            message=f"Inference Component Name or Target Variant is required or unknown for endpoint {name}.",
        )
    if not running[found]:
        _put(self, {"InferenceComponentName": found}, {"NoCapacityInvocationFailures": 1})
        return _error("ValidationError", 400, message=_NO_CAPACITY)
    return found, random.choice(running[found])


def _count(self: Any, name: str, config: Any, part: str, status: int, began: float) -> None:
    """Count an invocation of a variant or component, with its latency in microseconds."""
    of_variant = any(each["VariantName"] == part for each in config.production_variants)
    counts = {
        "Invocation4XXErrors": int(400 <= status < 500),
        "Invocation5XXErrors": int(status >= 500),
        "ModelLatency": int(1e6 * (time.monotonic() - began)),
    }
    where = {"EndpointName": name, "VariantName": part} if of_variant else {"InferenceComponentName": part}
    _put(self, where, counts if config.async_inference_config else counts | {"Invocations": 1})


def _put(self: Any, where: dict[str, str], metrics: dict[str, int]) -> None:
    cloudwatch_backends[self.current_account][self.region].put_metric_data(
        "AWS/SageMaker",
        [
            {
                "MetricName": metric,
                "Dimensions": [{"Name": key, "Value": text} for key, text in where.items()],
                "Value": value,
                "Unit": "Microseconds" if metric == "ModelLatency" else "Count",
                "Timestamp": utcnow(),
            }
            for metric, value in metrics.items()
        ],
    )


def invoke_endpoint(self: Any) -> _Response:
    name = self.path.split("/")[2]
    config, missing = _find(self, name)
    if missing:
        return missing
    if config.async_inference_config:
        return _error(
            "ValidationError", 400, message=f"Endpoint {name} is asynchronous: use InvokeEndpointAsync."
        )
    body = self.body if isinstance(self.body, bytes) else self.body.encode()
    most = _BODY_BYTES["serverless" if "ServerlessConfig" in config.production_variants[0] else "realtime"]
    if len(body) > most:
        return _error("ValidationError", 400, message=f"Payload of {len(body)} bytes is larger than {most}.")
    chosen = _choose(self, name)
    if len(chosen) == 3:
        return chosen
    variant, container = chosen
    began = time.monotonic()
    answer = container.invoke(body, self.headers.get("Content-Type", ""), self.headers.get("Accept", ""))
    _count(self, name, config, variant, answer.status, began)
    if answer.status != 200:
        text = answer.body.decode(errors="replace")
        return _error(
            "ModelError",
            424,
            Message=f'Received error ({answer.status}) from primary with message "{text}".',
            OriginalMessage=text,
            OriginalStatusCode=answer.status,
            LogStreamArn=f"arn:local:{name}",
        )
    return (
        200,
        {"Content-Type": answer.content_type, "x-Amzn-Invoked-Production-Variant": variant},
        answer.body,
    )


def invoke_endpoint_async(self: Any) -> _Response:
    name = self.path.split("/")[2]
    config, missing = _find(self, name)
    if missing:
        return missing
    if not config.async_inference_config:
        return _error("ValidationError", 400, message=f"Endpoint {name} is not asynchronous.")
    chosen = _choose(self, name)
    if len(chosen) == 3:
        return chosen
    variant, container = chosen
    output, number = config.async_inference_config["OutputConfig"], str(uuid.uuid4())
    good = f"{output['S3OutputPath'].rstrip('/')}/{number}.out"
    bad = f"{output.get('S3FailurePath', output['S3OutputPath']).rstrip('/')}/{number}-error.out"
    kind = self.headers.get("X-Amzn-SageMaker-Content-Type", "application/json")
    where, inline = self.headers.get("X-Amzn-SageMaker-InputLocation"), self.body

    models = sagemaker_backends[self.current_account][self.region]._models
    role = models[config.production_variants[0]["ModelName"]].execution_role_arn

    def serve() -> None:
        began = time.monotonic()
        answer: Answer
        if where and not role_may(role, "s3:GetObject", f"arn:aws:s3:::{where.removeprefix('s3://')}"):
            answer = Answer(403, "text/plain", f"Access denied: {role} may not read {where}".encode())
        else:
            inlined = inline if isinstance(inline, bytes) else inline.encode()
            body = _read(self.region, where) if where else inlined
            answer = container.invoke(body, kind, seconds=900)
        _count(self, name, config, variant, answer.status, began)
        bucket, _, key = (good if answer.status == 200 else bad).removeprefix("s3://").partition("/")
        client("s3", self.region).put_object(Bucket=bucket, Key=key, Body=answer.body)

    threading.Thread(target=serve, daemon=True).start()
    headers = {
        "status": 202,
        "X-Amzn-SageMaker-OutputLocation": good,
        "X-Amzn-SageMaker-FailureLocation": bad,
    }
    return (
        202,
        headers,
        json.dumps({"InferenceId": self.headers.get("X-Amzn-SageMaker-Inference-Id", number)}),
    )


def _read(region: str, address: str) -> bytes:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    body: bytes = client("s3", region).get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def install() -> None:
    SageMakerRuntimeResponse.invoke_endpoint = invoke_endpoint
    SageMakerRuntimeResponse.invoke_endpoint_async = invoke_endpoint_async
