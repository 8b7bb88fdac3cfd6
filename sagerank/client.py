"""The client that an application imports: one call reranks any number of documents.

    with RerankClient.sagemaker("my-reranker") as client:
        ranking = client.rerank("how do glaciers move", documents, top_n=10)

Large requests are split by bytes, documents and estimated tokens, sent concurrently, retried where that helps, and
merged into the exact ranking that one request would have given. `AsyncRerankClient` is the same for asyncio.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Self
from weakref import WeakSet

from sagerank_inference.contract import best_first

from .errors import DeadlineExceeded, InvalidRequest, NoCapacity, Overloaded, RerankError, Unavailable
from .transport import CONNECTIONS, RETRYABLE, HttpTransport, SageMakerTransport, Transport
from .wire import Document, Options, Split, check_texts, named_as_given, parts_of, read_answer, read_scores

__all__ = [
    "AsyncRerankClient",
    "Document",
    "Options",
    "Progress",
    "Ranked",
    "RerankClient",
    "Reranking",
    "Retry",
    "Split",
    "read_answer",
]

Progress = Callable[[int, int], None]
_CONCURRENCY = 4
SECONDS = 120.0  # of a call, by default
START_SECONDS = 900.0  # that a person waits for an endpoint's first instance
_SPLIT, _OPTIONS = Split(), Options()


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document with its score."""

    index: int  # in the documents that were given
    score: float  # 0 to 1; with raw_scores a logit
    document: Document
    span: tuple[int, int] | None = None  # with return_spans: the characters of its text that the score is of


@dataclass(frozen=True, slots=True)
class Reranking:
    """Results best first; tokens as the server billed them; how many requests it took."""

    results: tuple[Ranked, ...]
    total_tokens: int
    model: str
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Full jitter: a wait between 0 and min(longest, first * 2^try) seconds, never past the deadline.

    start: the longest wait between two tries while an endpoint without instances starts one; these are counted by no
    limit but the deadline.
    """

    tries: int = 6
    first: float = 0.2
    longest: float = 8.0
    start: float = 5.0

    def __post_init__(self) -> None:
        if self.tries < 1 or not all(0 <= part < math.inf for part in (self.first, self.longest, self.start)):
            raise InvalidRequest(f"{self} is no plan: give at least 1 try, and seconds of 0 or more.")


@dataclass(eq=False)
class _Client:
    """What both clients are: one transport, and how requests are split, retried and merged."""

    transport: Transport
    _: KW_ONLY
    split: Split = _SPLIT
    retry: Retry = Retry()
    concurrency: int = _CONCURRENCY  # requests of one rerank that are under way at once
    # Called, in the thread of the requests, before each wait for an endpoint's first instance, with the seconds of the call.
    starting: Callable[[float], None] | None = None

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
        inference_component: str | None = None,
        target_variant: str | None = None,
        endpoint_url: str | None = None,
        split: Split = _SPLIT,
        retry: Retry = Retry(),
        concurrency: int = _CONCURRENCY,
        connections: int = CONNECTIONS,
        starting: Callable[[float], None] | None = None,
    ) -> Self:
        """A client of a SageMaker endpoint. Raises InvalidRequest where no region is known.

        region, profile: by default AWS_REGION's and AWS_PROFILE's (see sagerank.aws). inference_component, target_variant:
        which of the endpoint's is asked, where it has several. endpoint_url: where the API is, if not at AWS.
        connections: how many at most are open at once, over all calls; a call's `timeout` counts the wait for a free one.
        starting: is called before each wait for the first instance of an endpoint that has none, with the seconds of the call.
        """
        transport = SageMakerTransport(
            endpoint,
            region=region,
            profile=profile,
            inference_component=inference_component,
            target_variant=target_variant,
            endpoint_url=endpoint_url,
            connections=connections,
        )
        return cls(transport, split=split, retry=retry, concurrency=concurrency, starting=starting)

    @classmethod
    def http(
        cls,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        split: Split = _SPLIT,
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
        min_score: float | None = None,
        truncate: bool = True,
        options: Options = _OPTIONS,
        timeout: float = SECONDS,
        progress: Progress | None = None,
    ) -> Reranking:
        """Rank documents (strings, or objects with "text") for a query.

        min_score: results with a lower score are left out. truncate: a text that does not fit the model is cut, or else
        refused. `progress` is called with documents done and their number. Raises an error of sagerank.errors that says
        what to change, at the latest after `timeout` seconds, which include the wait for one of the client's connections.
        """
        texts = check_texts(query, documents, top_n)
        if min_score is not None and not _is_number(min_score):
            raise InvalidRequest(f"min_score is {min_score!r}: give a number, or leave it out.")
        if not _is_number(timeout):
            raise InvalidRequest(f"timeout is {timeout!r}: give a number of seconds.")
        scores = [0.0] * len(texts)
        spans: list[tuple[int, int] | None] = [None] * len(texts)
        answers: list[tuple[int, str]] = []
        failures: dict[int, RerankError] = {}  # of the parts that are tried again
        done, free = 0, asyncio.Semaphore(self.concurrency)
        began = asyncio.get_running_loop().time()
        deadline = began + timeout

        async def send(part: range, body: bytes) -> None:
            nonlocal done
            try:
                answer = await self._ask(
                    body, free, began, deadline, partial(failures.__setitem__, part.start)
                )
            except InvalidRequest as error:
                raise named_as_given(error, part.start) from None
            failures.pop(part.start, None)
            read = read_scores(answer, texts[part.start : part.stop], options)
            scores[part.start : part.stop], spans[part.start : part.stop], tokens, model = read
            answers.append((tokens, model))
            done += len(part)
            if progress:
                progress(done, len(texts))

        try:
            async with asyncio.timeout_at(deadline):
                # In a thread: megabytes of text would hold up whatever else this loop does.
                parts = await asyncio.to_thread(
                    lambda: list(parts_of(query, texts, truncate, options, self.split))
                )
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
                Ranked(index, scores[index], documents[index], spans[index])
                for index in best_first(scores, top_n)
                if min_score is None or scores[index] >= min_score
            ),
            total_tokens=sum(tokens for tokens, _ in answers),
            model=answers[0][1],
            requests=len(parts),
        )

    async def _ask(
        self,
        body: bytes,
        free: asyncio.Semaphore,
        began: float,
        deadline: float,
        failed: Callable[[RerankError], None],
    ) -> bytes:
        """The answer to a body, tried for until its tries or the call's time are over; `failed` hears of each try's error."""
        now = asyncio.get_running_loop().time
        attempt = 0
        while True:
            try:
                async with free:
                    return await self.transport(body)
            except RETRYABLE as error:
                failed(error)
                pause = self._pause(error, attempt)
                starts = isinstance(error, NoCapacity)  # which takes longer than any number of tries
                attempt += not starts
                if attempt == self.retry.tries or now() + pause >= deadline:
                    raise
                if starts and self.starting:
                    self.starting(now() - began)
            await asyncio.sleep(pause)

    def _pause(self, error: RerankError, attempt: int) -> float:
        """Seconds until the next try. Scoring changes nothing on the other side, so a repeat is always safe."""
        if isinstance(error, NoCapacity):
            return random.uniform(self.retry.start / 2, self.retry.start)
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
        min_score: float | None = None,
        truncate: bool = True,
        options: Options = _OPTIONS,
        timeout: float = SECONDS,
        progress: Progress | None = None,
    ) -> Reranking:
        """As AsyncRerankClient.rerank. `progress` is called in the caller's own thread."""
        events: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
        work = self._rerank(
            query,
            documents,
            top_n=top_n,
            min_score=min_score,
            truncate=truncate,
            options=options,
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

    def submit(self, query: str, documents: Sequence[Document], **options: Any) -> Future[Reranking]:
        """Start what `rerank` does and return its future, which asyncio.wrap_future awaits on any loop. Thread-safe.

        options: as rerank's, without progress. Cancelling the future closes its requests.
        """
        return self._start(self._rerank(query, documents, **options))

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

        if self._process == os.getpid() and threading.current_thread() is self._thread:
            # Whoever owned it was garbage, which any thread collects: this one would wait for itself.
            threading.Thread(target=self.close, daemon=True).start()
            return
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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
