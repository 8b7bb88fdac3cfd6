"""The backend of the proxy: what comes in at the server's routes is scored by a reranker elsewhere, through sagerank's client."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from sagerank_inference.backend import Answer, Exchange
from sagerank_inference.contract import BadGateway, Group, Limits, Overloaded, RerankRequest, Scores, Timings
from sagerank_inference.metrics import Metrics
from sagerank_inference.reader import Reader
from sagerank_inference.steps import Steps

from ..client import AsyncRerankClient, Options, Reranking
from ..errors import AccessDenied, BadAnswer, DeadlineExceeded, EndpointNotFound

# SageMaker's own limit is that of the client's requests, into which larger ones are split.
LIMITS = Limits(max_documents=100_000, max_body_bytes=32 * 1024 * 1024)
_MOST_UNDER_WAY = 512  # requests; the client asks for a few of them at once, and the others wait
_MAX_TOKENS = 8192  # of a pair, as all the models that are deployed here take them
# Of probabilities that say no more: their sigmoids are 1 and 0.
_CERTAIN, _IMPOSSIBLE = 40.0, -750.0
_LATE = "No answer in time: send fewer or shorter documents, or start the proxy with a longer --timeout."

log = logging.getLogger("sagerank")
T = TypeVar("T")


class Proxy:
    """Ready while it runs: whether the reranker behind it is, the next request will tell."""

    def __init__(
        self,
        client: AsyncRerankClient,
        metrics: Metrics,
        *,
        name: str,
        request_seconds: float,
        limits: Limits = LIMITS,
        cors_origins: str = "none",
    ) -> None:
        """name: of what stands behind the client, which is told as the model's where no answer has named that."""
        self.state, self.model, self.max_tokens = "ready", name, _MAX_TOKENS
        self.request_seconds, self.limits, self.cors_origins = request_seconds, limits, cors_origins
        self.children: list[int] = []
        self.queued_tokens = 0
        self._client, self._metrics = client, metrics
        self._reader = Reader()
        self._under_way = 0

    async def run(self, on_failure: Callable[[], None]) -> None:  # noqa: ARG002, nothing fails for good here
        """Wait for the end, and close the connections."""
        self._metrics.ready.set(1)
        try:
            await asyncio.Event().wait()
        finally:
            await self._client.close()

    def admit(self) -> None:
        """Raise Overloaded where too many requests wait already."""
        if self._under_way >= _MOST_UNDER_WAY:
            raise Overloaded(
                "Too many requests are under way: try again in 1 s, or start another proxy.", retry_after=1.0
            )

    @property
    def idle(self) -> bool:
        """Say whether nothing is under way."""
        return self._under_way == 0

    async def rerank(self, exchange: Exchange) -> Answer:
        """Read, have it scored, and render. Raises a RerankError; `exchange.dialect` is known once the body is read."""
        self._under_way += 1
        try:
            began = time.monotonic()
            await self._read(exchange, self._open(exchange))
            sent = time.monotonic()
            rerankings = await self._ask(exchange)
            timings = Timings(tokenise=sent - began, queue=0.0, forward=time.monotonic() - sent)
            return await self._read(exchange, self._render(exchange, rerankings, timings))
        except DeadlineExceeded:
            raise DeadlineExceeded(_LATE) from None
        except (AccessDenied, EndpointNotFound, BadAnswer) as error:
            # No fault of the caller's, who is told what to tell the operator. The log has the kind alone: another
            # server's sentence may quote a text.
            cause = type(error).__name__
            log.error(json.dumps({"event": "unusable", "request_id": exchange.request_id, "cause": cause}))
            raise BadGateway(f"The reranker behind this proxy cannot be used. {error}") from None
        finally:
            self._under_way -= 1

    async def _read(self, exchange: Exchange, steps: Steps[T]) -> T:
        try:
            async with asyncio.timeout(exchange.left):
                return await self._reader.run(steps, exchange.size)
        except TimeoutError:
            raise DeadlineExceeded(_LATE) from None

    def _open(self, exchange: Exchange) -> Steps[None]:
        exchange.parse(self.limits)
        yield 0

    async def _ask(self, exchange: Exchange) -> list[Reranking]:
        """Return what is said of each group: a query is a call, and a call as many requests as it takes."""
        groups = [(request, group) for request in exchange.call.requests for group in request.groups]
        answers: dict[int, Reranking] = {}
        rest = iter(enumerate(groups))

        # Few tasks for all groups: of a hundred thousand that wait, each would be looked for among all when it is cancelled.
        async def ask() -> None:
            for number, (request, group) in rest:
                answers[number] = await self._client.rerank(
                    group.query,
                    group.documents,
                    truncate=request.truncation.allowed,
                    options=_options(request),
                    timeout=exchange.left,
                )

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(self._client.concurrency, len(groups))):
                    tasks.create_task(ask())
        except BaseExceptionGroup as errors:  # the first error ended the others
            raise errors.exceptions[0] from None
        return [answers[number] for number in range(len(groups))]

    def _render(self, exchange: Exchange, rerankings: Sequence[Reranking], timings: Timings) -> Steps[Answer]:
        rest = iter(rerankings)
        scores = [
            [_scores(request, group, next(rest), timings) for group in request.groups]
            for request in exchange.call.requests
        ]
        yield 0
        model = rerankings[0].model if rerankings else self.model
        body, media_type = exchange.render(scores, model=model)
        sizes = {
            "documents": sum(len(reranking.results) for reranking in rerankings),
            "tokens": sum(reranking.total_tokens for reranking in rerankings),
            "requests": sum(reranking.requests for reranking in rerankings),
        }
        return Answer(body, media_type, sizes, timings)


def _options(request: RerankRequest) -> Options:
    truncation = request.truncation
    return Options(
        raw_scores=request.raw_scores,  # of probabilities every reranker knows
        return_spans=request.return_spans,
        max_tokens_per_doc=truncation.max_document_tokens,
        truncate_prompt_tokens=truncation.max_pair_tokens,
        truncation_direction="left" if truncation.left else "right",
    )


def _scores(request: RerankRequest, group: Group, reranking: Reranking, timings: Timings) -> Scores:
    """Return the scores in the order of the documents, as the server's own model gives them."""
    ranked = sorted(reranking.results, key=lambda item: item.index)
    query_tokens, *document_tokens = _shares(
        reranking.total_tokens, [len(group.query), *map(len, group.documents)]
    )
    return Scores(
        values=tuple(item.score if request.raw_scores else _logit(item.score) for item in ranked),
        query_tokens=query_tokens,
        document_tokens=tuple(document_tokens),
        timings=timings,
        spans=tuple(item.span or (0, 0) for item in ranked) if request.return_spans else None,
    )


def _logit(probability: float) -> float:
    if probability in (0, 1):
        return _CERTAIN if probability else _IMPOSSIBLE
    return math.log(probability) - math.log1p(-probability)


def _shares(total: int, weights: Sequence[int]) -> Iterator[int]:
    """Yield whole numbers in proportion to the weights, whose sum is the total: only that was told."""
    whole, so_far, given = sum(weights), 0, 0
    for weight in weights:
        so_far += weight
        share = total * so_far // whole - given
        given += share
        yield share
