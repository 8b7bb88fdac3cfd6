"""The model behind the server: a worker that is replaced when it dies, the batcher before it, and whether
both can be trusted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from .artefact import ArtefactError, Manifest
from .batcher import Batcher
from .contract import Dialect, Group, RerankError, RerankRequest, Scores, Timings, Truncation, Unavailable
from .engine import load_tokeniser
from .metrics import Metrics
from .settings import Settings
from .tokenise import Tokeniser, Windows
from .worker import LoadFailed, Worker, WorkerDied

_DEATHS, _WITHIN = 3, 300.0  # so many deaths in so many seconds are no accident

log = logging.getLogger("sagerank")


class Service:
    """`state` is "loading", "ready", "restarting", "drifted" or "failed"; only "ready" serves."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.state = "loading"
        self.model = ""
        self._worker = Worker(settings)
        self.batcher = Batcher(
            lambda batch: self._worker.run(batch),
            batch_tokens=settings.batch_tokens,
            max_queue_tokens=settings.max_queue_tokens,
            observe=metrics.observe_batch,
        )
        self._tokeniser: Tokeniser
        self._manifest: Manifest

    async def run(self, on_failure: Callable[[], None]) -> None:
        """Keep a worker until cancelled. Calls on_failure when the model cannot be loaded at all."""
        deaths: deque[float] = deque(maxlen=_DEATHS)
        try:
            while True:
                began = time.monotonic()
                try:
                    # The tokenizer loads while the child loads the model.
                    loading = asyncio.to_thread(self._load_tokeniser)
                    tolerance, _ = await asyncio.gather(self._worker.start(), loading)
                    self._set(
                        "ready",
                        model=self.model,
                        seconds=round(time.monotonic() - began, 2),
                        pid=self._worker.pid,
                    )
                    self.batcher.resume()
                    golden = asyncio.create_task(self._watch_golden(tolerance))
                    how = await self._worker.wait_death()
                    golden.cancel()
                except WorkerDied as error:
                    how = str(error)
                except (LoadFailed, ArtefactError, ValueError, OSError) as error:
                    self._fail(str(error))
                    on_failure()
                    return
                self.batcher.pause()
                self.metrics.restarts.inc()
                deaths.append(time.monotonic())
                if len(deaths) == _DEATHS and deaths[-1] - deaths[0] < _WITHIN:
                    self._fail(
                        f"the model's process died {_DEATHS} times within {_WITHIN:g} s, the last by {how}"
                    )
                    return
                self._set("restarting", reason=f"the model's process ended: {how}")
                await asyncio.sleep(0.1 * 2 ** len(deaths))
                self._worker = Worker(self.settings)
        finally:
            await self._worker.stop()

    def _load_tokeniser(self) -> None:
        self._manifest = Manifest.read(self.settings.model_dir)
        self._tokeniser = load_tokeniser(self.settings.model_dir, self._manifest, self.settings)
        self.model = self._manifest.model

    def _set(self, state: str, **facts: object) -> None:
        self.state = state
        self.metrics.ready.set(state == "ready")
        log.log(logging.INFO if state == "ready" else logging.ERROR, json.dumps({"event": state, **facts}))

    def _fail(self, reason: str) -> None:
        self._set("failed", reason=reason)
        self.batcher.fail_all(Unavailable("No model is ready here, and none will be: see the server's log."))

    async def score(self, request: RerankRequest) -> list[Scores]:
        """One Scores for each group. Raises a RerankError."""
        if self.state != "ready":
            raise Unavailable(f"No model is ready (state: {self.state}): try again shortly.")
        deadline = time.monotonic() + self.settings.request_seconds
        tasks = [
            asyncio.ensure_future(self._score_group(request, group, deadline)) for group in request.groups
        ]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # the first error, or the caller's leaving, ends the others
                task.cancel()

    async def _score_group(self, request: RerankRequest, group: Group, deadline: float) -> Scores:
        start = time.monotonic()
        windows = await asyncio.to_thread(self._tokenise, group, request.truncation)
        tokenised = time.monotonic()
        logits, queued = await self.batcher.score(windows, timeout=max(0.0, deadline - tokenised))
        forward = time.monotonic() - tokenised - queued
        return Scores(
            values=tuple(windows.scatter(logits)),
            query_tokens=windows.query_tokens,
            document_tokens=tuple(windows.document_tokens),
            timings=Timings(tokenise=tokenised - start, queue=queued, forward=forward),
        )

    def _tokenise(self, group: Group, truncation: Truncation) -> Windows:
        """With ids as the worker's frames carry them, packed here and not in the event loop."""
        windows = self._tokeniser(group.query, group.documents, truncation)
        return replace(windows, ids=[array("i", ids) for ids in windows.ids])

    async def _watch_golden(self, tolerance: float) -> None:
        """Score the golden pairs again when there is nothing else to do; a drift takes this server out of
        service.
        """
        while True:
            await asyncio.sleep(self.settings.golden_seconds)
            if not self.batcher.idle:
                continue
            groups = tuple(Group(pair.query, (pair.document,)) for pair in self._manifest.golden)
            try:
                scores = await self.score(RerankRequest(Dialect.JINA, groups))
                self._manifest.check_golden([group.values[0] for group in scores], tolerance)
            except RerankError:
                continue  # no time for it now, or no worker: that is known elsewhere
            except ArtefactError as error:
                self._set("drifted", reason=str(error))
                return
