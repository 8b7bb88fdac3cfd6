"""The client an application imports: one call reranks any number of documents.

with RerankClient.sagemaker("my-reranker") as client: ranking = client.rerank("how do glaciers move",
documents, top_n=10)

Large requests are split by bytes, documents and estimated tokens, sent concurrently, retried where that
helps, and merged into the exact ranking that one request would have given.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Self

from sagerank_inference.contract import (
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    RerankError,
    best_first,
)

from .transport import REAL_TIME_BYTES, RETRYABLE, BadAnswer, HttpTransport, SageMakerTransport, Transport

Document = str | Mapping[str, Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Ranked:
    index: int  # in the documents that were given
    score: float  # 0 to 1
    document: Document


@dataclass(frozen=True, slots=True)
class Reranking:
    """Results best first; tokens as the server billed them; how many requests it took."""

    results: tuple[Ranked, ...]
    total_tokens: int
    model: str
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What one request may carry. Tokens are estimated as characters / 4, English text's average."""

    max_bytes: int = REAL_TIME_BYTES
    max_documents: int = 1_000
    max_tokens: int = 300_000  # about what a small CPU instance scores within SageMaker's 60 s


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Full jitter: a wait between 0 and min(longest, first * 2^try) seconds, never past the deadline."""

    tries: int = 6
    first: float = 0.2
    longest: float = 8.0


class RerankClient:
    """Thread-safe. Close it, or use it as a context manager."""

    def __init__(
        self,
        transport: Transport,
        *,
        split: Split = Split(),
        retry: Retry = Retry(),
        concurrency: int = 4,
    ) -> None:
        self._transport, self._split, self._retry = transport, split, retry
        self._pool = ThreadPoolExecutor(concurrency, "rerank")

    @classmethod
    def sagemaker(
        cls, endpoint: str, *, region: str | None = None, endpoint_url: str | None = None, **options: Any
    ) -> Self:
        """For a SageMaker endpoint. `endpoint_url` points elsewhere than AWS; options are the constructor's.

        A serverless endpoint takes smaller bodies: give split=Split(max_bytes=SERVERLESS_BYTES).
        """
        connections = options.get("concurrency", 4)
        return cls(
            SageMakerTransport(endpoint, region=region, endpoint_url=endpoint_url, connections=connections),
            **options,
        )

    @classmethod
    def http(cls, url: str, *, headers: dict[str, str] | None = None, **options: Any) -> Self:
        """For any server that speaks Jina's /v1/rerank, such as `sagerank serve`."""
        return cls(HttpTransport(url, headers=headers, connections=options.get("concurrency", 4)), **options)

    def rerank(
        self,
        query: str,
        documents: Sequence[Document],
        *,
        top_n: int | None = None,
        truncate: bool = True,
        timeout: float = 120.0,
        progress: Progress = lambda done, total: None,
    ) -> Reranking:
        """Rank documents (strings, or objects with "text") for a query. `progress` is called with documents
        done and their number.

        Raises an error of sagerank_inference.contract or sagerank.transport that says what to change, at the latest
        after `timeout` seconds.
        """
        return self._rerank(
            query,
            documents,
            top_n=top_n,
            truncate=truncate,
            timeout=timeout,
            progress=progress,
            stop=threading.Event(),
        )

    async def arerank(self, query: str, documents: Sequence[Document], **options: Any) -> Reranking:
        """`rerank` for asyncio; cancelling it sends no further parts."""
        stop = threading.Event()
        defaults = {"top_n": None, "truncate": True, "timeout": 120.0, "progress": lambda done, total: None}
        unknown = options.keys() - defaults.keys()
        if unknown:
            raise TypeError(f"arerank has no argument {sorted(unknown)[0]!r}")
        arguments = {**defaults, **options}
        try:
            return await asyncio.to_thread(
                functools.partial(self._rerank, query, documents, stop=stop, **arguments)
            )
        finally:
            stop.set()

    def _rerank(
        self,
        query: str,
        documents: Sequence[Document],
        *,
        top_n: int | None,
        truncate: bool,
        timeout: float,
        progress: Progress,
        stop: threading.Event,
    ) -> Reranking:
        if not query.strip():
            raise InvalidRequest("query is blank: give the words to rank the documents for.")
        if not documents:
            raise InvalidRequest("documents is empty: give at least one.")
        if top_n is not None and top_n < 1:
            raise InvalidRequest(f"top_n is {top_n}: give at least 1, or None for all.")
        texts = [_text(document, index) for index, document in enumerate(documents)]
        deadline = time.monotonic() + timeout
        parts = list(self._parts(query, texts))
        scores = [0.0] * len(texts)
        answers: list[tuple[int, str]] = []
        done, lock = 0, threading.Lock()

        def send(part: range) -> None:
            nonlocal done
            answer = self._send(_body(query, texts[part.start : part.stop], truncate), deadline, stop)
            values, tokens, model = _read(answer, len(part))
            with lock:
                scores[part.start : part.stop] = values
                answers.append((tokens, model))
                done += len(part)
                progress(done, len(texts))

        futures = [self._pool.submit(send, part) for part in parts]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            if not all(future.done() for future in futures):
                stop.set()  # the first error ends the others' retries
        for future in futures:
            future.result()
        ranked = best_first(scores, top_n)
        return Reranking(
            results=tuple(Ranked(index, scores[index], documents[index]) for index in ranked),
            total_tokens=sum(tokens for tokens, _ in answers),
            model=answers[0][1],
            requests=len(parts),
        )

    def _parts(self, query: str, texts: Sequence[str]) -> Iterator[range]:
        """Consecutive documents that fit one request together, sized by their bytes as they are sent."""
        split = self._split
        overhead = len(_body(query, [], False))
        start, size, tokens = 0, overhead, 0.0
        for index, text in enumerate(texts):
            length = len(_json(text)) + 1
            if overhead + length > split.max_bytes:
                raise PayloadTooLarge(
                    f"documents[{index}] makes a request of {overhead + length} bytes, and {split.max_bytes} are allowed: cut it into passages."
                )
            estimate = (len(query) + len(text)) / 4
            full = (
                size + length > split.max_bytes
                or index - start == split.max_documents
                or tokens + estimate > split.max_tokens
            )
            if full and index > start:
                yield range(start, index)
                start, size, tokens = index, overhead, 0.0
            size, tokens = size + length, tokens + estimate
        yield range(start, len(texts))

    def _send(self, body: bytes, deadline: float, stop: threading.Event) -> bytes:
        """One request with its retries. Scoring changes nothing on the other side, so a repeat is always
        safe.
        """
        last: RerankError | None = None
        for attempt in range(self._retry.tries):
            left = deadline - time.monotonic()
            if left <= 0 or stop.is_set():
                break
            try:
                return self._transport(body, left)
            except RETRYABLE as error:
                # A last try that ran out of time says less than why the tries before it failed.
                last = last if last and isinstance(error, DeadlineExceeded) else error
            pause = random.uniform(0, min(self._retry.longest, self._retry.first * 2**attempt))
            if isinstance(last, Overloaded):
                pause = max(pause, last.retry_after)
            if time.monotonic() + pause >= deadline or stop.wait(pause):
                break
        if stop.is_set():
            raise DeadlineExceeded("The rerank was given up.")
        raise last or DeadlineExceeded("No answer in time: give a longer timeout or fewer documents.")

    def close(self) -> None:
        self._pool.shutdown()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _text(document: Document, index: int) -> str:
    text = document.get("text") if isinstance(document, Mapping) else document
    if not isinstance(text, str):
        raise InvalidRequest(f'documents[{index}] must be a string or an object with "text".')
    return text


def _json(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "A text holds half of a surrogate pair, which is no Unicode: clean it."
        ) from None


def _body(query: str, texts: Sequence[str], truncate: bool) -> bytes:
    return _json({"query": query, "documents": list(texts), "return_documents": False, "truncate": truncate})


def _read(answer: bytes, count: int) -> tuple[list[float], int, str]:
    """Scores in request order, tokens and model of a Jina answer to `count` documents."""
    try:
        payload = json.loads(answer)
        scores = {int(item["index"]): float(item["relevance_score"]) for item in payload["results"]}
        values = [scores[index] for index in range(count)]
        return values, int(payload["usage"]["total_tokens"]), str(payload["model"])
    except (ValueError, KeyError, TypeError, IndexError):
        raise BadAnswer("The answer is not that of a reranker: check the endpoint or URL.") from None
