"""The model behind the server: a worker replaced when it dies, its batcher, and whether to trust both."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from .artefact import MANIFEST, ArtefactError, Manifest, sha256
from .backend import Answer, Exchange
from .batcher import Account, Batcher, Run, Work, WorkerDied
from .cache import Lookup, ScoreCache
from .cascade import Rounds, Stage, make_timings
from .contract import DeadlineExceeded, InternalError, Limits, RerankError, Scores, Unavailable
from .engine import load_stages
from .metrics import Metrics
from .reader import Reader
from .scale import AS_IT_IS
from .settings import Settings
from .steps import Steps
from .supervisor import LoadFailed, Worker
from .windows import Windows
from .worker import Child

_DEATHS = 3  # of workers, none of which served for _STEADY seconds, are no accident
_STEADY = 10.0
_LOOK = 64  # pairs that are looked up in one step: some 0.2 ms, of long ones 2

log = logging.getLogger("sagerank")
T = TypeVar("T")


class Service:
    """`state` is "loading", "ready", "restarting", "drifted" or "failed"; only while "ready" is /ping 200.

    While "restarting", requests wait for the next worker.
    """

    def __init__(self, settings: Settings, metrics: Metrics, child: Child | None = None) -> None:
        """child: the model's process, where it was started already."""
        self.settings, self.metrics = settings, metrics
        self.state = "loading"
        self.model = ""
        self.max_tokens, self.request_seconds = settings.max_tokens, settings.request_seconds
        self.cors_origins = settings.cors_origins
        self.limits = Limits(max_documents=settings.max_documents, max_body_bytes=settings.max_body_bytes)
        self._worker = Worker(settings, child)
        self._reader = Reader()
        self.batcher = Batcher(
            batch_tokens=settings.batch_tokens,
            max_queue_tokens=settings.max_queue_tokens,
            observe=metrics.observe_batch,
        )
        self._cache: ScoreCache | None = None
        self._stages: list[Stage] = []
        self._runs: list[Run]  # the model of each
        self._scale = AS_IT_IS  # of the artefact's scores

    async def run(self, on_failure: Callable[[], None]) -> None:
        """Keep a worker until cancelled. Calls on_failure when no worker will do."""
        deaths = 0
        try:
            while True:
                began, ready = time.monotonic(), math.inf  # one that dies while it loads has not served
                try:
                    # The tokenizer loads while the child loads the model.
                    loading = asyncio.to_thread(self._load_stages)
                    loaded, _ = await asyncio.gather(self._worker.start(), loading)
                    ready = time.monotonic()
                    self._set(
                        "ready",
                        model=self.model,
                        seconds=round(ready - began, 2),
                        pid=self._worker.pid,
                        **loaded.facts,
                    )
                    self.batcher.resume(loaded.lanes)
                    golden = asyncio.create_task(self._watch_golden(loaded.tolerances))
                    await self._worker.gone()
                    self.batcher.pause()
                    self._set("restarting")  # at once: how the process ended may take a while to be known
                    golden.cancel()
                    how = await self._worker.end()
                except WorkerDied as error:
                    how = str(error)
                except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as error:
                    # A defect of ours too, or a panic of a library's: the task would end in silence, and /ping answer 503 for ever.
                    expected = isinstance(error, LoadFailed | ArtefactError | ValueError | OSError)
                    self._fail(str(error) if expected else f"{type(error).__name__}: {error}")
                    on_failure()
                    return
                self.metrics.restarts.inc()
                deaths = 1 if time.monotonic() - ready > _STEADY else deaths + 1
                if deaths == _DEATHS:
                    self._fail(f"the model's process died {_DEATHS} times in a row, the last by {how}")
                    on_failure()
                    return
                self._set("restarting", reason=f"the model's process ended: {how}")
                if self._cache:  # what scored them may have been broken before it died
                    await asyncio.to_thread(self._cache.clear)
                await asyncio.sleep(0.1 * 2**deaths)
                self._worker = Worker(self.settings)
        finally:
            await self._worker.stop()

    @property
    def children(self) -> list[int]:
        """Return the processes whose end is waited for here."""
        return [self._worker.pid] if self._worker.pid else []

    @property
    def idle(self) -> bool:
        """Say whether nothing is under way."""
        return self.batcher.idle

    @property
    def queued_tokens(self) -> int:
        """Return how much waits to be scored."""
        return self.batcher.queued_tokens

    def _load_stages(self) -> None:
        if self._stages:  # of an earlier worker
            return
        folder = self.settings.model_dir
        manifest = Manifest.read(folder, self.settings.manifest_sha256)
        # Of one artefact, whatever is laid here later: tokenizer, names and limits are read once, weights by every worker.
        self.settings = replace(self.settings, manifest_sha256=sha256(folder / MANIFEST))
        stages = load_stages(folder, self.settings)
        self._runs = [self._runner(number) for number in range(len(stages))]
        if self.settings.cache_mb:
            self._cache = cache = ScoreCache(self.settings.cache_mb)
            self.metrics.cached.set_function(lambda: cache.pairs)
        self.model = manifest.model
        self._scale = manifest.scale
        self._stages = stages

    def _runner(self, number: int) -> Run:
        return lambda batch: self._worker.run(batch, number)

    def _set(self, state: str, **facts: object) -> None:
        self.state = state
        self.metrics.ready.set(state == "ready")
        self.metrics.drifted.set(state == "drifted")
        if facts:
            log.log(
                logging.INFO if state == "ready" else logging.ERROR, json.dumps({"event": state, **facts})
            )

    def _fail(self, reason: str) -> None:
        self._set("failed", reason=reason)
        self.batcher.fail_all(Unavailable("No model is ready here, and none will be: see the server's log."))

    def admit(self) -> None:
        """Raise Unavailable or Overloaded where it is known before a request is read that it cannot be taken."""
        if not self._stages or self.state not in ("ready", "restarting"):
            raise Unavailable(f"No model is ready (state: {self.state}): try again shortly.")
        self.batcher.check(timeout=self.settings.request_seconds)

    async def rerank(self, exchange: Exchange) -> Answer:
        """Read, score and render. Raises a RerankError; `exchange.dialect` is known once the body is read."""
        account = Account()
        prepared = await self._tokenised(exchange, self._open(exchange))
        logits: list[float] = []
        for number, run in enumerate(self._runs):
            if number:
                prepared = await self._tokenised(exchange, self._next(exchange, prepared, logits))
            sent = time.monotonic()
            logits, queued = await self.batcher.score(
                prepared.work, run=run, timeout=exchange.left, account=account, name=exchange.request_id
            )
            exchange.queue += queued
            exchange.forwards.append(time.monotonic() - sent - queued)
            self.metrics.observe_stage(number, self._stages[number].manifest.model, prepared.documents)
            self._count(exchange, prepared.lookup)
        return await self._read(exchange, self._render(exchange, prepared, logits))

    def _count(self, exchange: Exchange, lookup: Lookup) -> None:
        exchange.cached += lookup.known
        if self._cache:
            self.metrics.observe_lookup(lookup.known, len(lookup.missing))

    async def _tokenised(self, exchange: Exchange, steps: Steps[_Prepared]) -> _Prepared:
        since = time.monotonic()
        prepared = await self._read(exchange, steps)
        exchange.tokenise += time.monotonic() - since
        return prepared

    async def _read(self, exchange: Exchange, steps: Steps[T]) -> T:
        try:
            async with asyncio.timeout(exchange.left):
                return await self._reader.run(steps, exchange.size)
        except TimeoutError:
            raise DeadlineExceeded(
                "No answer in time: send fewer or shorter documents, or add instances."
            ) from None

    def _open(self, exchange: Exchange) -> Steps[_Prepared]:
        """Parse and tokenise a body."""
        exchange.parse(self.limits, self._scale)
        exchange.rounds = [
            Rounds(
                self._stages,
                group.query,
                group.documents,
                request.truncation,
                spans=request.return_spans,
            )
            for request in exchange.call.requests
            for group in request.groups
        ]
        yield 0
        return (yield from self._prepare(exchange, admitted=False))

    def _next(self, exchange: Exchange, before: _Prepared, logits: Sequence[float]) -> Steps[_Prepared]:
        """Tokenise for the next stage."""
        _take(exchange, before.lookup.complete(logits))
        yield 0
        return (yield from self._prepare(exchange, admitted=True))

    def _prepare(self, exchange: Exchange, *, admitted: bool) -> Steps[_Prepared]:
        """Gather the pairs of all queries that are to be scored. Raises Overloaded and DeadlineExceeded as soon as they are too many."""
        lookup = Lookup(self._cache, len(exchange.forwards))
        tokens = documents = 0
        for rounds in exchange.rounds:
            steps = rounds.steps()
            while True:
                try:
                    gathered = next(steps)
                except StopIteration as end:
                    windows: Windows = end.value
                    break
                if not admitted:
                    self.batcher.check(tokens + gathered, timeout=exchange.left)
                yield tokens + gathered
            for first in range(0, len(windows.ids), _LOOK):
                lookup.add(windows.ids[first : first + _LOOK])
                yield tokens
            tokens += sum(map(len, windows.ids))
            documents += len(windows.document_tokens)
        return _Prepared(Work(lookup.missing), documents, lookup)

    def _render(self, exchange: Exchange, last: _Prepared, logits: Sequence[float]) -> Steps[Answer]:
        _take(exchange, last.lookup.complete(logits))
        yield 0
        for one in exchange.rounds:
            yield from one.find_spans()
        timings = make_timings(exchange.tokenise, exchange.queue, exchange.forwards)
        rounds = iter(exchange.rounds)
        scores = [
            [next(rounds).scores(timings) for _ in request.groups] for request in exchange.call.requests
        ]
        body, media_type = exchange.render(scores, model=self.model)
        found = sizes(scores) | ({"cached": exchange.cached} if exchange.cached else {})
        return Answer(body, media_type, found, timings)

    async def _watch_golden(self, tolerances: Sequence[float]) -> None:
        """Score the golden pairs again when idle, past the cache; a drift takes this server out of service."""
        while True:
            await asyncio.sleep(self.settings.golden_seconds)
            if not self.batcher.idle:
                continue
            try:
                for stage, run, tolerance in zip(self._stages, self._runs, tolerances, strict=True):
                    logits = []
                    for windows in stage.golden:
                        scored, _ = await self.batcher.score(
                            Work(list(windows.ids)), run=run, timeout=self.settings.request_seconds
                        )
                        logits += windows.scatter(scored)
                    stage.manifest.check_golden(logits, tolerance)
            except InternalError:
                self._worker.kill()  # it fails on what it could do when it began
            except RerankError:
                continue  # no time for it now, or no worker: that is known elsewhere
            except ArtefactError as error:
                self._set("drifted", reason=str(error))
                return


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a stage has to score, and the documents that this is for."""

    work: Work
    documents: int
    lookup: Lookup


def _take(exchange: Exchange, logits: Sequence[float]) -> None:
    """Give every query its part of a stage's logits."""
    at = 0
    for rounds in exchange.rounds:
        count = rounds.waiting
        rounds.take(logits[at : at + count])
        at += count


def sizes(scores: Sequence[Sequence[Scores]]) -> dict[str, int]:
    """Return the sizes of an answer for the log. `tokens` are as billed."""
    groups = [group for request in scores for group in request]
    return {
        "documents": sum(len(group.values) for group in groups),
        "tokens": sum(group.total_tokens for group in groups),
        # With the query before each document, as the model sees them; and what a rectangle round them would hold.
        "computed": sum(len(g.values) * g.query_tokens + sum(g.document_tokens) for g in groups),
        "padded": sum(len(g.values) * (g.query_tokens + max(g.document_tokens, default=0)) for g in groups),
    }
