"""Merges what concurrent requests are waiting for into batches.

Work-conserving: whatever is queued when the worker can take a batch goes out at once, nothing waits for
others to come. It computes as many batches at once as it has lanes, and one more is kept ahead for each, so none waits
for the front. An error belongs to its batch, and within it to the pair that causes it: a failed batch is split
until the culprit is alone.

In turn: the clock here counts tokens given out, and a request is due some multiple of its own size after it came. So
equal requests are answered one after the other (sharing the worker would make all of them as late as the last), a small
one overtakes a large one, and a large one cannot be put off for ever, since its due time is reached. What a request has
beyond the first _SHARE batches counts as it is given out: one of a hundred long documents is no wall before the short ones,
early or late.
"""

from __future__ import annotations

import asyncio
import bisect
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .contract import DeadlineExceeded, InternalError, Overloaded, RerankError, Unavailable
from .plan import cost
from .tokenise import Windows

_SIMILAR = 2  # a pair joins a batch whose longest is at most this many times its length
_PATIENCE = 4  # times its own size, until a request is due
_SHARE = 16  # batches of a request that count before they are served

Run = Callable[[Sequence[Sequence[int]]], Awaitable[list[float]]]


@dataclass(slots=True, eq=False, kw_only=True)
class _Job:
    """One request. `waiting` are its windows that no batch holds yet, shortest first. Sizes are in tokens."""

    ids: Sequence[Sequence[int]]
    done: asyncio.Future[None]
    waiting: list[int]
    lengths: list[int]
    logits: list[float]
    left: int
    run: Run
    admitted_at: int  # by the batcher's clock
    share: int  # tokens that count before they are served
    waiting_tokens: int
    served: int
    first_sent: float = 0.0

    @property
    def due(self) -> int:
        return self.admitted_at + _PATIENCE * max(self.share, self.served)

    def take(self, begin: int, end: int) -> list[_Entry]:
        """Remove waiting[begin:end] from what waits, and return them as entries of a batch."""
        taken = self.waiting[begin:end]
        del self.waiting[begin:end]
        tokens = sum(self.lengths[index] for index in taken)
        self.served += tokens
        self.waiting_tokens -= tokens
        return [(self, index) for index in taken]


_Entry: TypeAlias = tuple[_Job, int]


@dataclass(slots=True)
class Account:
    """What one request has been given so far: the later stages of a cascade go on from it."""

    admitted_at: int = -1  # by the batcher's clock; -1: not admitted yet
    served: int = 0  # tokens


@dataclass(frozen=True, slots=True)
class BatchStats:
    """The size of a batch that came back, with the tokens charged for padding, and its seconds."""

    pairs: int
    tokens: int
    charged: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Flight:
    """A batch at the worker."""

    entries: list[_Entry]
    charged: int
    sent: float


class Batcher:
    def __init__(
        self,
        *,
        batch_tokens: int,
        max_queue_tokens: int,
        observe: Callable[[BatchStats], None] = lambda _: None,
    ) -> None:
        self._observe = observe
        self._batch_tokens, self._max_queue_tokens = batch_tokens, max_queue_tokens
        self._jobs: list[_Job] = []
        self._retries: deque[list[_Entry]] = deque()
        self._flying: dict[asyncio.Future[list[float]], _Flight] = {}
        self._clock = 0  # tokens given out
        self._last_landing = 0.0
        # Of the last batches that came back, the older ones for less: the worker's speed.
        self._recent_tokens, self._recent_seconds = 10_000.0, 1.0
        self._paused = True
        self._lanes = 1

    def resume(self, lanes: int = 1) -> None:
        """Send what waits: a worker is there, which computes `lanes` batches at once."""
        self._paused, self._lanes = False, lanes
        self._dispatch()

    def pause(self) -> None:
        """Hold what waits: the worker is gone, and another may still answer in time."""
        self._paused = True

    def fail_all(self, error: RerankError) -> None:
        """Answer everything that waits with an error: no worker will come."""
        for job in list(self._jobs):
            self._finish(job, error)

    @property
    def queued_tokens(self) -> int:
        return sum(job.waiting_tokens for job in self._jobs)

    @property
    def idle(self) -> bool:
        return not self._jobs and not self._flying

    async def score(
        self, windows: Windows, *, run: Run, timeout: float, account: Account | None = None
    ) -> tuple[list[float], float]:
        """Return the logits of the windows, in order, and the seconds until the first was sent.

        run: the model; a batch is of one model. account: of a request that comes more than once: admitted once, it is
        not turned away halfway, nor served anew as if it had just come.

        Raises Overloaded at once, DeadlineExceeded after `timeout` seconds, Unavailable or InternalError as
        the worker does. When the caller is cancelled, what it still waits for is dropped.
        """
        account = account or Account()
        lengths = [len(ids) for ids in windows.ids]
        tokens = sum(lengths)
        # The largest request is not counted: it may exceed the limit alone, and must not keep all others out.
        largest = max((job.waiting_tokens for job in self._jobs), default=0)
        waiting = self.queued_tokens + tokens - max(tokens, largest)
        if waiting > self._max_queue_tokens and account.admitted_at < 0:
            seconds = self.queued_tokens * self._recent_seconds / self._recent_tokens
            wait = round(max(1.0, seconds), 1)
            raise Overloaded(f"The queue is full: try again in {wait} s, or add instances.", retry_after=wait)
        if account.admitted_at < 0:
            account.admitted_at = self._clock
        start = time.monotonic()
        job = _Job(
            ids=windows.ids,
            done=asyncio.get_running_loop().create_future(),
            waiting=sorted(range(len(lengths)), key=lengths.__getitem__),
            lengths=lengths,
            logits=[0.0] * len(lengths),
            left=len(lengths),
            run=run,
            admitted_at=account.admitted_at,
            share=min(account.served + tokens, _SHARE * self._batch_tokens),
            waiting_tokens=tokens,
            served=account.served,
        )
        self._jobs.append(job)
        self._dispatch()
        try:
            async with asyncio.timeout(timeout):
                await job.done
        except TimeoutError:
            raise DeadlineExceeded(
                f"No answer within {timeout:g} s: send fewer or shorter documents, or add instances."
            ) from None
        finally:
            account.served = job.served
            self._drop(job)
        return job.logits, job.first_sent - start

    def _drop(self, job: _Job) -> None:
        if job in self._jobs:
            self._jobs.remove(job)
        job.waiting.clear()
        job.waiting_tokens = 0

    def _finish(self, job: _Job, error: Exception | None = None) -> None:
        if not job.done.done():
            if error is None:
                job.done.set_result(None)
            else:
                job.done.set_exception(error)
        self._drop(job)

    def _dispatch(self) -> None:
        while not self._paused and len(self._flying) < 2 * self._lanes:
            # Nothing long waits behind another batch: a short request that comes meanwhile would wait for
            # both.
            ahead = bool(self._flying)
            if ahead and any(flight.charged > self._batch_tokens for flight in self._flying.values()):
                return
            entries = self._retries.popleft() if self._retries else self._next_batch(ahead=ahead)
            entries = [(job, index) for job, index in entries if not job.done.done()]
            if not entries:
                if self._retries:
                    continue
                return
            self._send(entries)

    def _next_batch(self, *, ahead: bool) -> list[_Entry]:
        """Return pairs of similar length, those of the requests that are due first."""
        jobs = sorted((job for job in self._jobs if job.waiting), key=lambda job: job.due)
        jobs = [job for job in jobs if job.run == jobs[0].run]
        if not jobs:
            return []
        longest = jobs[0].lengths[jobs[0].waiting[-1]]
        if ahead and longest > self._batch_tokens:
            return []  # it takes all of the worker, once that is free: others must not keep it waiting
        room = max(1, self._batch_tokens // longest)
        entries: list[_Entry] = []
        for job in jobs:
            end = bisect.bisect_right(job.waiting, longest, key=job.lengths.__getitem__)
            begin = end
            while (
                begin > 0 and end - begin < room and job.lengths[job.waiting[begin - 1]] * _SIMILAR >= longest
            ):
                begin -= 1
            entries += job.take(begin, end)
            room -= end - begin
            if room <= 0:
                break
        return entries

    def _send(self, entries: list[_Entry]) -> None:
        lengths = [job.lengths[index] for job, index in entries]
        self._clock += sum(lengths)
        now = time.monotonic()
        for job, _ in entries:
            job.first_sent = job.first_sent or now
        # No task where the worker returns a future: a batch is two turns of the loop, its answer and its landing.
        answer = asyncio.ensure_future(entries[0][0].run([job.ids[index] for job, index in entries]))
        self._flying[answer] = _Flight(entries, cost(max(lengths), len(lengths)), now)
        answer.add_done_callback(self._landed)

    def _landed(self, answer: asyncio.Future[list[float]]) -> None:
        flight = self._flying.pop(answer)
        error = answer.exception()
        if error is None:
            self._scatter(flight, answer.result())
        elif isinstance(error, InternalError):
            self._split(flight.entries, error)
        else:
            for job, _ in flight.entries:
                self._finish(job, error if isinstance(error, Unavailable) else InternalError(str(error)))
        self._dispatch()

    def _scatter(self, flight: _Flight, logits: list[float]) -> None:
        for (job, index), logit in zip(flight.entries, logits, strict=True):
            job.logits[index] = logit
            job.left -= 1
            if job.left == 0:
                self._finish(job)
        # The worker's time since the last landing is this one's, whatever else it computes.
        now = time.monotonic()
        seconds = now - max(flight.sent, self._last_landing)
        self._last_landing = now
        tokens = sum(job.lengths[index] for job, index in flight.entries)
        self._recent_tokens = 0.9 * self._recent_tokens + tokens
        self._recent_seconds = 0.9 * self._recent_seconds + seconds
        self._observe(BatchStats(len(flight.entries), tokens, flight.charged, seconds))

    def _split(self, entries: list[_Entry], error: InternalError) -> None:
        if len(entries) == 1:
            self._finish(entries[0][0], error)
            return
        jobs = list(dict.fromkeys(job for job, _ in entries))
        if len(jobs) > 1:
            self._retries.extend([entry for entry in entries if entry[0] is job] for job in jobs)
        else:
            middle = len(entries) // 2
            self._retries.extend([entries[:middle], entries[middle:]])
