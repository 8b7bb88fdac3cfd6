"""`sagerank cost measure`: time real requests to an endpoint, for throughput.csv."""

from __future__ import annotations

import datetime
import json
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

from . import CostError
from .throughput import Measurement

QUERY = "how do glaciers shape valleys"
# The tokens of the query and the special ones, which every pair has and a request is billed once for.
QUERY_TOKENS = 10
_TEXT = (
    "Alpine glaciers carve valleys as they move: ice plucks blocks from the bed, grinds what it carries against the "
    "walls, and leaves moraines of unsorted debris where it melts. "
)


def documents(count: int, words: int) -> list[str]:
    """Texts of that many words, no two alike."""
    pool = _TEXT.split()
    return [" ".join(pool[(start + offset) % len(pool)] for offset in range(words)) for start in range(count)]


def measure(
    endpoint: str,
    texts: Sequence[str],
    *,
    instance: str,
    model: str,
    precision: str,
    region: str | None = None,
    endpoint_url: str | None = None,
    repeats: int = 7,
) -> Measurement:
    """The median of whole calls through boto3's sagemaker-runtime, after one that warms up.

    region: by default AWS_REGION's, AWS_DEFAULT_REGION's or the profile's.
    Raises CostError where the endpoint does not answer as a reranker.
    """
    if not texts or repeats < 1:
        raise CostError("Give at least one document and one repetition.")
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    # boto3 by itself does not read AWS_REGION.
    where = region or os.environ.get("AWS_REGION") or boto3.Session().region_name
    if not where:
        raise CostError("No AWS region is set: give --region, or set AWS_REGION.")
    runtime = boto3.client(
        "sagemaker-runtime",
        region_name=where,
        endpoint_url=endpoint_url,
        config=Config(retries={"total_max_attempts": 1}),
    )
    body = json.dumps({"query": QUERY, "documents": list(texts), "return_documents": False}).encode()
    times = []
    try:
        for _ in range(repeats + 1):
            began = time.perf_counter()
            response = runtime.invoke_endpoint(
                EndpointName=endpoint, ContentType="application/json", Body=body
            )
            answer: Any = json.loads(response["Body"].read())
            times.append(time.perf_counter() - began)
        results, tokens = len(answer["results"]), int(answer["usage"]["total_tokens"])
    except (BotoCoreError, ClientError) as error:
        raise CostError(f"The endpoint {endpoint} did not answer: {error}.") from None
    except (ValueError, KeyError, TypeError):
        raise CostError(
            f"The endpoint {endpoint} did not answer with results and usage.total_tokens: is it a sagerank endpoint?"
        ) from None
    finally:
        runtime.close()
    if results != len(texts):
        raise CostError(f"The endpoint {endpoint} answered {results} results for {len(texts)} documents.")
    return Measurement(
        model=model,
        precision=precision,
        instance=instance,
        documents=len(texts),
        tokens=round(tokens / len(texts) + QUERY_TOKENS, 1),
        seconds=round(statistics.median(times[1:]), 5),
        kind="measured",
        source=f"median of {repeats} whole calls of one client through sagemaker-runtime",
        date=datetime.date.today().isoformat(),
    )
