"""The client that an application imports: one call reranks any number of documents.

    with RerankClient.sagemaker("my-reranker") as client:
        ranking = client.rerank("how do glaciers move", documents, top_n=10)

Large requests are split by bytes, documents and estimated tokens, sent concurrently, retried where that helps, and
merged into the exact ranking that one request would have given. `AsyncRerankClient` is the same for asyncio.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import KW_ONLY, dataclass, field
from queue import SimpleQueue
from typing import Any, Self
from weakref import WeakSet

from sagerank_inference.contract import best_first

from .errors import (
    BadAnswer,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    RerankError,
    Unavailable,
)
from .transport import CONNECTIONS, REAL_TIME_BYTES, RETRYABLE, HttpTransport, SageMakerTransport, Transport

Document = str | Mapping[str, Any]
Progress = Callable[[int, int], None]
_CONCURRENCY = 4
_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document with its score."""

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
    """What one request may carry. Tokens are estimated as characters / 4, English text's average.

    A serverless endpoint takes smaller bodies: Split(max_bytes=sagerank.transport.SERVERLESS_BYTES).
    """

    max_bytes: int = REAL_TIME_BYTES
    max_documents: int = 1_000
    max_tokens: int = 300_000  # about what a small CPU instance scores within SageMaker's 60 s

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.max_documents, self.max_tokens) < 1:
            raise InvalidRequest(f"{self} lets nothing through: give at least 1 of each.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Full jitter: a wait between 0 and min(longest, first * 2^try) seconds, never past the deadline."""

    tries: int = 6
    first: float = 0.2
    longest: float = 8.0

    def __post_init__(self) -> None:
        if self.tries < 1 or not (0 <= self.first < math.inf and 0 <= self.longest < math.inf):
            raise InvalidRequest(f"{self} is no plan: give at least 1 try, and seconds of 0 or more.")


@dataclass(eq=False)
class _Client:
    """What both clients are: one transport, and how requests are split, retried and merged."""

    transport: Transport
    _: KW_ONLY
    split: Split = Split()
    retry: Retry = Retry()
    concurrency: int = _CONCURRENCY  # requests of one rerank that are under way at once

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise InvalidRequest(f"concurrency is {self.concurrency}: give at least 1.")

    @classmethod
    def sagemaker(
        cls,
        endpoint: str,
        *,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        split: Split = Split(),
        retry: Retry = Retry(),
        concurrency: int = _CONCURRENCY,
        connections: int = CONNECTIONS,
    ) -> Self:
        """A client of a SageMaker endpoint. Raises InvalidRequest where no region is known.

        region, profile: by default AWS_REGION's and AWS_PROFILE's (see sagerank.aws). endpoint_url: where the API is, if not at AWS.
        connections: how many at most are open at once, over all calls; a call's `timeout` counts the wait for a free one.
        """
        transport = SageMakerTransport(
            endpoint, region=region, profile=profile, endpoint_url=endpoint_url, connections=connections
        )
        return cls(transport, split=split, retry=retry, concurrency=concurrency)

    @classmethod
    def http(
        cls,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        split: Split = Split(),
        retry: Retry = Retry(),
        concurrency: int = _CONCURRENCY,
        connections: int = CONNECTIONS,
    ) -> Self:
        """A client of any server that speaks Jina's /v1/rerank, such as `sagerank serve`. Raises InvalidRequest.

        url: a host, or a path that ends in /, means v1/rerank there; any other path is taken as it is.
        connections: how many at most are open at once, over all calls; a call's `timeout` counts the wait for a free one.
        """
        transport = HttpTransport(url, headers=headers, connections=connections)
        return cls(transport, split=split, retry=retry, concurrency=concurrency)

    async def _rerank(
        self,
        query: str,
        documents: Sequence[Document],
        *,
        top_n: int | None = None,
        truncate: bool = True,
        timeout: float = _SECONDS,
        progress: Progress | None = None,
    ) -> Reranking:
        """Rank documents (strings, or objects with "text") for a query.

        `progress` is called with documents done and their number. Raises an error of sagerank.errors that says what to
        change, at the latest after `timeout` seconds, which include the wait for one of the client's connections.
        """
        texts = _texts(query, documents, top_n)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or math.isnan(timeout):
            raise InvalidRequest(f"timeout is {timeout!r}: give a number of seconds.")
        scores = [0.0] * len(texts)
        answers: list[tuple[int, str]] = []
        failures: dict[int, RerankError] = {}  # of the parts that are tried again
        done, free = 0, asyncio.Semaphore(self.concurrency)
        now = asyncio.get_running_loop().time
        deadline = now() + timeout

        async def send(part: range, body: bytes) -> None:
            nonlocal done
            for attempt in range(self.retry.tries):
                try:
                    async with free:
                        answer = await self.transport(body)
                    break
                except RETRYABLE as error:
                    failures[part.start] = error
                    pause = self._pause(error, attempt)
                    if attempt + 1 == self.retry.tries or now() + pause >= deadline:
                        raise
                await asyncio.sleep(pause)
            failures.pop(part.start, None)
            values, tokens, model = _read(answer, len(part))
            scores[part.start : part.stop] = values
            answers.append((tokens, model))
            done += len(part)
            if progress:
                progress(done, len(texts))

        try:
            async with asyncio.timeout_at(deadline):
                # In a thread: megabytes of text would hold up whatever else this loop does.
                parts = await asyncio.to_thread(lambda: list(_parts(query, texts, truncate, self.split)))
                async with asyncio.TaskGroup() as group:
                    for part, body in parts:
                        group.create_task(send(part, body))
        except TimeoutError:
            # Why a try failed says more than that the time is over.
            late = DeadlineExceeded(
                "No answer in time: give a longer timeout or fewer documents, or more connections where many calls share this client."
            )
            raise next(iter(failures.values()), late) from None
        except BaseExceptionGroup as errors:  # the first error ended the others
            raise errors.exceptions[0] from None
        return Reranking(
            results=tuple(
                Ranked(index, scores[index], documents[index]) for index in best_first(scores, top_n)
            ),
            total_tokens=sum(tokens for tokens, _ in answers),
            model=answers[0][1],
            requests=len(parts),
        )

    def _pause(self, error: RerankError, attempt: int) -> float:
        """Seconds until the next try. Scoring changes nothing on the other side, so a repeat is always safe."""
        pause = random.uniform(0, min(self.retry.longest, self.retry.first * 2 ** min(attempt, 30)))
        return max(pause, error.retry_after) if isinstance(error, Overloaded) else pause


# Another thread may hold a client's lock while this one forks: the child's is a new one.
_clients: WeakSet[RerankClient] = WeakSet()


def _after_fork() -> None:
    for client in _clients:
        client._lock, client._process = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class AsyncRerankClient(_Client):
    """The client for asyncio: one pool of connections; cancelling a rerank closes its requests."""

    rerank = _Client._rerank

    async def close(self) -> None:
        """Close the connections."""
        await self.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@dataclass(eq=False)
class RerankClient(_Client):
    """The client for everybody else. Thread-safe. Close it, or use it as a context manager.

    The requests run on an event loop in a thread of its own, so that a deadline or Ctrl-C ends them at once.
    """

    _lock: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)
    # In which the loop's thread runs: a fork has none.
    _process: int = field(init=False, repr=False, default=0)
    _loop: asyncio.AbstractEventLoop = field(init=False, repr=False)
    _thread: threading.Thread = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _clients.add(self)

    def rerank(
        self,
        query: str,
        documents: Sequence[Document],
        *,
        top_n: int | None = None,
        truncate: bool = True,
        timeout: float = _SECONDS,
        progress: Progress | None = None,
    ) -> Reranking:
        """As AsyncRerankClient.rerank. `progress` is called in the caller's own thread."""
        events: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
        work = self._rerank(
            query,
            documents,
            top_n=top_n,
            truncate=truncate,
            timeout=timeout,
            progress=(lambda *event: events.put(event)) if progress else None,
        )
        future = self._start(work)
        future.add_done_callback(lambda _: events.put(None))
        try:
            while event := events.get():
                if progress:
                    progress(*event)
            return future.result()
        except CancelledError:
            raise Unavailable("This client was closed before the answer came.") from None
        except BaseException:  # Ctrl-C too
            future.cancel()
            raise

    def _start(self, work: Coroutine[Any, Any, Reranking]) -> Future[Reranking]:
        """Hand work to the event loop, which runs in its thread from the first call on."""
        with self._lock:
            if self._process != os.getpid():
                self._loop, self._process = asyncio.new_event_loop(), os.getpid()
                self._thread = threading.Thread(target=self._loop.run_forever, name="rerank", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """End what is under way, close the connections, and end the client's thread."""

        async def finish() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            await self.transport.close()

        with self._lock:
            if self._process == os.getpid():
                asyncio.run_coroutine_threadsafe(finish(), self._loop).result()
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()
            self._process = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _texts(query: str, documents: Sequence[Document], top_n: int | None) -> list[str]:
    """The documents' texts. Raises InvalidRequest for what would be refused after it was sent."""
    if not isinstance(query, str) or not query.strip():
        raise InvalidRequest("query is blank: give the words to rank the documents for.")
    if isinstance(documents, str | bytes) or not isinstance(documents, Sequence):
        raise InvalidRequest('documents is no list: give one of strings, or of objects with "text".')
    if not documents:
        raise InvalidRequest("documents is empty: give at least one.")
    if top_n is not None and (type(top_n) is not int or top_n < 1):
        raise InvalidRequest(f"top_n is {top_n!r}: give a whole number from 1 on, or leave it out for all.")
    return [_text(document, index) for index, document in enumerate(documents)]


def _text(document: Document, index: int) -> str:
    text = document.get("text") if isinstance(document, Mapping) else document
    if not isinstance(text, str):
        raise InvalidRequest(f'documents[{index}] must be a string or an object with "text".')
    return text


def _parts(query: str, texts: Sequence[str], truncate: bool, split: Split) -> Iterator[tuple[range, bytes]]:
    """Consecutive documents that fit one request together, and its body."""
    fields = {"query": query, "return_documents": False, "truncate": truncate}
    head = _json(fields)[:-1] + b',"documents":['
    written: list[bytes] = []
    start, size, tokens = 0, len(head) + 2, 0.0
    for index, text in enumerate(texts):
        document = _json(text)
        length = len(document) + 1
        if len(head) + 2 + length > split.max_bytes:
            raise PayloadTooLarge(
                f"documents[{index}] makes a request of {len(head) + 2 + length} bytes, and {split.max_bytes} are allowed: cut it into passages."
            )
        estimate = (len(query) + len(text)) / 4
        full = (
            size + length > split.max_bytes
            or len(written) == split.max_documents
            or tokens + estimate > split.max_tokens
        )
        if full and written:
            yield range(start, index), head + b",".join(written) + b"]}"
            start, size, tokens, written = index, len(head) + 2, 0.0, []
        size, tokens = size + length, tokens + estimate
        written.append(document)
    yield range(start, len(texts)), head + b",".join(written) + b"]}"


def _json(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "A text holds half of a surrogate pair, which is no Unicode: clean it."
        ) from None


def read_answer(answer: bytes) -> tuple[list[dict[str, Any]], int, str]:
    """The results, tokens and model of a Jina answer: each result has an index of its own and a score from 0 to 1.

    Raises BadAnswer.
    """
    try:
        payload = json.loads(answer)
        results, tokens, model = payload["results"], payload["usage"]["total_tokens"], payload["model"]
        indices = {item["index"] for item in results if type(item["index"]) is int and item["index"] >= 0}
        scores = [item["relevance_score"] for item in results]
    except (
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ):  # no JSON, too deep, a number too long, or other JSON
        indices, scores, tokens, model, results = set(), [], None, None, None
    known = type(tokens) is int and 0 <= tokens < 2**53 and isinstance(model, str) and model.isprintable()
    if not known or not isinstance(results, list) or len(indices) != len(results):
        raise BadAnswer("The answer is not that of a reranker: check the endpoint or URL.")
    if not all(type(score) in (int, float) and 0 <= score <= 1 for score in scores):  # nor NaN
        raise BadAnswer(
            "A score is no number from 0 to 1: take a server that answers with those, not with logits."
        )
    return results, tokens, model


def _read(answer: bytes, count: int) -> tuple[list[float], int, str]:
    """Scores in request order, tokens and model of a Jina answer to `count` documents."""
    results, tokens, model = read_answer(answer)
    scores = {item["index"]: float(item["relevance_score"]) for item in results}
    if scores.keys() != set(range(count)):
        raise BadAnswer(
            f"The answer ranks other documents than the {count} that were sent: check the endpoint or URL."
        )
    return [scores[index] for index in range(count)], tokens, model
