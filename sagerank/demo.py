"""`sagerank demo`: the container's server on loopback, called as a SageMaker endpoint through boto3."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .evaluation import DEMO
from .models.local_server import serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    query: str
    passages: list[str]
    order: list[int]  # of the passages, best first
    scores: list[float]  # in that order
    relevant: set[int]  # passages that answer the query
    start_seconds: float  # of the server, process start to ready
    seconds: float  # of one warm call, median
    documents_per_50_ms: float


def demonstrate(model_dir: Path, calls: int = 7) -> Demonstration:
    """Rerank the enclosed passages for the enclosed query; the time is the median of `calls` warm calls."""
    import boto3
    from botocore.config import Config

    sample: dict[str, Any] = json.loads(DEMO.read_text(encoding="utf-8"))
    passages = [passage["text"] for passage in sample["passages"]]
    body = json.dumps({"query": sample["query"], "documents": passages, "return_documents": False}).encode()
    with serving(model_dir) as server:
        runtime = boto3.client(
            "sagemaker-runtime",
            endpoint_url=server.url,
            region_name="us-east-1",
            # Any credentials will do: the request is signed, and this server does not check.
            aws_access_key_id="local",
            aws_secret_access_key="local",
            # The server is on this machine, and not behind the proxy that the environment may name.
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )
        times = []
        for _ in range(calls + 1):
            began = time.perf_counter()
            answer = runtime.invoke_endpoint(
                EndpointName="reranker", ContentType="application/json", Body=body
            )
            results = json.loads(answer["Body"].read())["results"]
            times.append(time.perf_counter() - began)
        runtime.close()
    seconds = sorted(times[1:])[calls // 2]
    return Demonstration(
        query=sample["query"],
        passages=passages,
        order=[item["index"] for item in results],
        scores=[item["relevance_score"] for item in results],
        relevant={index for index, passage in enumerate(sample["passages"]) if passage["relevant"]},
        start_seconds=server.start_seconds,
        seconds=seconds,
        documents_per_50_ms=len(passages) * 0.05 / seconds,
    )
