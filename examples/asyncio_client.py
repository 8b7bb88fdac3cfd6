"""Many queries at once from asyncio, over one pool of connections.

    sagerank serve &
    python examples/asyncio_client.py

An argument is the server's address; `AsyncRerankClient.sagemaker("my-reranker")` calls an endpoint instead.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from sagerank import AsyncRerankClient
from sagerank.errors import RerankError

URL = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"
PASSAGES = (Path(__file__).parent / "passages.txt").read_text(encoding="utf-8").splitlines()
QUERIES = [
    "what causes rain",
    "how do glaciers shape valleys",
    "how does a cross-encoder differ from comparing vectors",
    "where do hurricanes get their energy",
]


async def main() -> None:
    """Ask all queries together; one that fails does not stop the others."""
    async with AsyncRerankClient.http(URL) as client:
        asked = [client.rerank(query, PASSAGES, top_n=1, timeout=30) for query in QUERIES]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    for query, answer in zip(QUERIES, answers, strict=True):
        if isinstance(answer, RerankError):
            print(f"{query}\n    {type(answer).__name__}: {answer}")
        elif isinstance(answer, BaseException):
            raise answer
        else:
            print(f"{query}\n    {answer.results[0].score:.2f}  {answer.results[0].document}")


asyncio.run(main())
