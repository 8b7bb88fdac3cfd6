"""The model behind the server: a worker replaced when it dies, its batcher, and whether to trust both."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from .artefact import ArtefactError, Manifest
from .batcher import Account, Batcher, Run
from .cascade import Rounds, Stage
from .contract import Group, RerankError, RerankRequest, Scores, Unavailable
from .engine import load_stages
from .metrics import Metrics
from .settings import Settings
from .tokenise import Windows
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
            batch_tokens=settings.batch_tokens,
            max_queue_tokens=settings.max_queue_tokens,
            observe=metrics.observe_batch,
        )
        self._stages: list[Stage]
        self._runs: list[Run]  # the model of each

    async def run(self, on_failure: Callable[[], None]) -> None:
        """Keep a worker until cancelled. Calls on_failure when the model cannot be loaded at all."""
        deaths: deque[float] = deque(maxlen=_DEATHS)
        try:
            while True:
                began = time.monotonic()
                try:
                    # The tokenizer loads while the child loads the model.
                    loading = asyncio.to_thread(self._load_stages)
                    loaded, _ = await asyncio.gather(self._worker.start(), loading)
                    self._set(
                        "ready",
                        model=self.model,
                        seconds=round(time.monotonic() - began, 2),
                        pid=self._worker.pid,
                    )
                    self.batcher.resume(loaded.lanes)
                    golden = asyncio.create_task(self._watch_golden(loaded.tolerances))
                    how = await self._worker.wait_death()
                    golden.cancel()
                except WorkerDied as error:
                    how = str(error)
                except Exception as error:
                    # A defect of ours too: the task would end in silence, and /ping answer 503 for ever.
                    expected = isinstance(error, LoadFailed | ArtefactError | ValueError | OSError)
                    self._fail(str(error) if expected else f"{type(error).__name__}: {error}")
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

    def _load_stages(self) -> None:
        self._stages = load_stages(self.settings.model_dir, self.settings)
        self._runs = [self._runner(number) for number in range(len(self._stages))]
        self.model = Manifest.read(self.settings.model_dir).model

    def _runner(self, number: int) -> Run:
        return lambda batch: self._worker.run(batch, number)

    def _set(self, state: str, **facts: object) -> None:
        self.state = state
        self.metrics.ready.set(state == "ready")
        log.log(logging.INFO if state == "ready" else logging.ERROR, json.dumps({"event": state, **facts}))

    def _fail(self, reason: str) -> None:
        self._set("failed", reason=reason)
        self.batcher.fail_all(Unavailable("No model is ready here, and none will be: see the server's log."))

    async def score(self, request: RerankRequest) -> list[Scores]:
        """Return the scores of every group, in order. Raises a RerankError."""
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
        rounds = Rounds(self._stages, group.query, group.documents, request.truncation)
        account = Account()
        for number, run in enumerate(self._runs):
            windows = await asyncio.to_thread(_packed, rounds)
            rounds.tokenised = time.monotonic()  # the thread's answer was under way too
            timeout = max(0.0, deadline - rounds.tokenised)
            logits, queued = await self.batcher.score(windows, run=run, timeout=timeout, account=account)
            rounds.take(logits, queued=queued)
            self.metrics.observe_stage(
                number, self._stages[number].manifest.model, len(windows.document_tokens)
            )
        return rounds.scores()

    async def _watch_golden(self, tolerances: Sequence[float]) -> None:
        """Score the golden pairs again when idle; a drift takes this server out of service."""
        while True:
            await asyncio.sleep(self.settings.golden_seconds)
            if not self.batcher.idle:
                continue
            try:
                for stage, run, tolerance in zip(self._stages, self._runs, tolerances, strict=True):
                    logits = []
                    for pair in stage.manifest.golden:
                        windows = await asyncio.to_thread(stage.tokeniser, pair.query, [pair.document])
                        scored, _ = await self.batcher.score(
                            windows, run=run, timeout=self.settings.request_seconds
                        )
                        logits += windows.scatter(scored)
                    stage.manifest.check_golden(logits, tolerance)
            except RerankError:
                continue  # no time for it now, or no worker: that is known elsewhere
            except ArtefactError as error:
                self._set("drifted", reason=str(error))
                return


def _packed(rounds: Rounds) -> Windows:
    """Read the next windows, with ids packed as the worker's frames carry them: not in the event loop."""
    windows = rounds.read()
    return replace(windows, ids=[array("i", ids) for ids in windows.ids])
