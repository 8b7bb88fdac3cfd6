"""`sagerank demo`: the container's server on loopback, called as a SageMaker endpoint through boto3."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSAGES = Path(__file__).with_name("demo.json")


@dataclass(frozen=True, slots=True)
class Demonstration:
    query: str
    passages: list[str]
    order: list[int]  # of the passages, best first
    scores: list[float]  # in that order
    relevant: set[int]  # passages that answer the query
    start_seconds: float  # of the server, process start to ready
    seconds: float  # of one warm call, median
    documents_per_50_ms: float


@contextmanager
def serving(model_dir: Path, environment: Mapping[str, str] | None = None) -> Iterator[tuple[str, float]]:
    """A server process for an artefact on a free loopback port: its URL, and seconds from its start until it
    was ready. environment: further settings, SAGERANK_*.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "SAGERANK_MODEL_DIR": str(model_dir),
        "SAGERANK_HOST": "127.0.0.1",
        "SAGERANK_PORT": str(port),
    }
    began = time.monotonic()
    server = subprocess.Popen(
        [sys.executable, "-m", "inference.server"],
        env={**os.environ, **(environment or {}), **settings},
        stdout=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while not ready(url):
            if server.poll() is not None or time.monotonic() - began > 60:
                server.kill()
                raise RuntimeError(f"The server did not start: {(server.communicate()[0] or '').strip()}")
            time.sleep(0.02)
        yield url, time.monotonic() - began
    finally:
        server.terminate()
        server.communicate(timeout=30)


def ready(url: str) -> bool:
    """Whether the server's /ping is 200."""
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def demonstrate(model_dir: Path, calls: int = 7) -> Demonstration:
    """Rerank the enclosed passages for the enclosed query; the time is the median of `calls` warm calls."""
    import boto3
    from botocore.config import Config

    sample: dict[str, Any] = json.loads(PASSAGES.read_text(encoding="utf-8"))
    passages = [passage["text"] for passage in sample["passages"]]
    body = json.dumps({"query": sample["query"], "documents": passages, "return_documents": False}).encode()
    with serving(model_dir) as (url, start_seconds):
        runtime = boto3.client(
            "sagemaker-runtime",
            endpoint_url=url,
            region_name="us-east-1",
            # Any credentials will do: the request is signed, and this server does not check.
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(retries={"total_max_attempts": 1}),
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
        start_seconds=start_seconds,
        seconds=seconds,
        documents_per_50_ms=len(passages) * 0.05 / seconds,
    )
