"""Merges what concurrent requests are waiting for into batches.

Work-conserving: whatever is queued when the worker can take a batch goes out at once, nothing waits for
others to come. It computes as many batches at once as it has lanes, and one more is kept ahead for each, so none waits
for the front. An error belongs to its batch, and within it to the pair that causes it: a failed batch is split
until the culprit is alone.

In turn: half of the tokens go to whichever request is due first, half to the smallest. The clock here counts tokens
given out, and a request is due some multiple of its own size after it came: equal requests are answered one after the
other (sharing the worker would make all of them as late as the last), and a large one cannot be put off for ever, since
its due time is reached. The smallest waits for no more than what is out when it comes, however many large ones are
overdue. What a request has beyond the first _SHARE batches counts as it is given out: one of a hundred long documents is
no wall before the short ones, early or late.

A worker that dies takes nothing with it: what it held is sent once more to the next, each request by itself, so that
the one that kills it is found out and the others are not.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import json
import logging
import time
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from .contract import DeadlineExceeded, InternalError, Overloaded, RerankError, Unavailable
from .plan import cost

_SIMILAR = 2  # a pair joins a batch whose longest is at most this many times its length
_PATIENCE = 4  # times its own size, until a request is due
_SHARE = 16  # batches of a request that count before they are served
_COMPANIONS = 64  # requests that are asked for pairs to fill a batch
_DEATHS = 2  # of workers under one request, until it is refused
_HOPELESS = 2  # times the deadline that a request is expected to take, until it is refused

log = logging.getLogger("sagerank")

Run = Callable[[Sequence[Sequence[int]]], Awaitable[list[float]]]


class WorkerDied(Unavailable):
    """The process that held a batch is gone."""


@dataclass(slots=True)
class Work:
    """Pairs to score, as token ids; made where it may take its time, since it takes more than one look at each."""

    ids: list[Sequence[int]]
    lengths: list[int] = field(init=False)  # tokens
    order: list[int] = field(init=False)  # of the pairs, shortest first
    tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.lengths = list(map(len, self.ids))
        self.order = sorted(range(len(self.ids)), key=self.lengths.__getitem__)
        self.tokens = sum(self.lengths)


@dataclass(slots=True, eq=False, kw_only=True)
class _Job:
    """One request. `waiting` are its pairs that no batch holds yet, shortest first. Sizes are in tokens."""

    number: int
    name: str
    ids: list[Sequence[int]]
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
    deaths: int = 0
    died_in: int = 0  # the last of the workers that died with it, by number

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


class _Turns:
    """Jobs by a key that changes only while they are out of here, the smallest first."""

    def __init__(self, key: Callable[[_Job], int]) -> None:
        self._key = key
        self._places: list[tuple[int, int, _Job]] = []

    def __iter__(self) -> Iterator[_Job]:
        return (job for _, _, job in self._places)

    def add(self, job: _Job) -> None:
        bisect.insort(self._places, (self._key(job), job.number, job))

    def remove(self, job: _Job) -> None:
        del self._places[bisect.bisect_left(self._places, (self._key(job), job.number, job))]

    @property
    def last(self) -> _Job | None:
        return next(reversed(self._places), (0, 0, None))[-1]  # in one look: the reader's thread asks too


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
    worker: int
    suspect: bool


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
        self._numbers = itertools.count(1)
        self._jobs: set[_Job] = set()
        # Those of them that have pairs waiting, in both orders.
        self._by_due, self._by_size = _Turns(lambda job: job.due), _Turns(lambda job: job.waiting_tokens)
        self.queued_tokens = 0
        self._retries: deque[list[_Entry]] = deque()
        # What a dead worker held: goes out with nothing beside it.
        self._suspects: deque[list[_Entry]] = deque()
        self._flying: dict[asyncio.Future[list[float]], _Flight] = {}
        self._clock = 0  # tokens given out
        self._balance = 0  # of them, those given to the smallest less those given to who was due
        self._last_landing = 0.0
        # Of the last full batches that came back, the older ones for less: the worker's speed.
        self._recent_tokens, self._recent_seconds, self._measured = 10_000.0, 1.0, False
        self._paused, self._generation = True, 0
        self._lanes = 1

    def resume(self, lanes: int = 1) -> None:
        """Send what waits: a worker is there, which computes `lanes` batches at once."""
        self._paused, self._lanes = False, lanes
        self._generation += 1
        self._dispatch()

    def pause(self) -> None:
        """Hold what waits: the worker is gone, and another may still answer in time."""
        self._paused = True

    def fail_all(self, error: RerankError) -> None:
        """Answer everything that waits with an error: no worker will come."""
        for job in list(self._jobs):
            self._finish(job, error)

    @property
    def idle(self) -> bool:
        return not self._jobs and not self._flying

    def check(self, tokens: int = 0, *, timeout: float) -> None:
        """Raise what a request of at least so many tokens would be told: Overloaded or DeadlineExceeded.

        Any thread may ask, while it still counts them. timeout: seconds until the request's deadline.
        """
        largest = job.waiting_tokens if (job := self._by_size.last) else 0
        # The largest request is not counted: it may exceed the limit alone, and must not keep all others out.
        if self.queued_tokens + tokens - max(tokens, largest) > self._max_queue_tokens:
            wait = round(max(1.0, self._seconds(self.queued_tokens)), 1)
            raise Overloaded(f"The queue is full: try again in {wait} s, or add instances.", retry_after=wait)
        if self._measured and self._seconds(tokens) > _HOPELESS * timeout:
            raise DeadlineExceeded(
                f"The request has more than {tokens} tokens, too many to score in time: "
                "send fewer or shorter documents, or add instances."
            )

    def _seconds(self, tokens: int) -> float:
        return tokens * self._recent_seconds / self._recent_tokens

    async def score(
        self, work: Work, *, run: Run, timeout: float, account: Account | None = None, name: str = ""
    ) -> tuple[list[float], float]:
        """Return the logits of the pairs, in order, and the seconds until the first was sent.

        run: the model; a batch is of one model. account: of a request that comes more than once: admitted once, it is
        not turned away halfway, nor served anew as if it had just come. name: by which the log speaks of it.

        Raises Overloaded at once, DeadlineExceeded or Unavailable after `timeout` seconds, and InternalError as the
        worker does. When the caller is cancelled, what it still waits for is dropped.
        """
        if not work.ids:
            return [], 0.0
        account = account or Account()
        if account.admitted_at < 0:
            self.check(work.tokens, timeout=timeout)
            account.admitted_at = self._clock
        start = time.monotonic()
        job = _Job(
            number=next(self._numbers),
            name=name,
            ids=work.ids,
            done=asyncio.get_running_loop().create_future(),
            waiting=work.order,
            lengths=work.lengths,
            logits=[0.0] * len(work.ids),
            left=len(work.ids),
            run=run,
            admitted_at=account.admitted_at,
            share=min(account.served + work.tokens, _SHARE * self._batch_tokens),
            waiting_tokens=work.tokens,
            served=account.served,
        )
        self._jobs.add(job)
        self._wait(job)
        self._dispatch()
        try:
            async with asyncio.timeout(timeout):
                await job.done
        except TimeoutError:
            if self._paused:
                raise Unavailable("No model is ready: its process ended and is being replaced.") from None
            raise DeadlineExceeded(
                "No answer in time: send fewer or shorter documents, or add instances."
            ) from None
        finally:
            account.served = job.served
            self._drop(job)
        return job.logits, job.first_sent - start

    def _wait(self, job: _Job) -> None:
        """Put a job where its turn is found."""
        if job.waiting:
            self._by_due.add(job)
            self._by_size.add(job)
            self.queued_tokens += job.waiting_tokens

    def _leave(self, job: _Job) -> None:
        """Take it from there, before anything changes by which it is found."""
        if job.waiting:
            self._by_due.remove(job)
            self._by_size.remove(job)
            self.queued_tokens -= job.waiting_tokens

    def _drop(self, job: _Job) -> None:
        self._jobs.discard(job)
        self._leave(job)
        job.waiting = []

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
            # both. And nothing flies beside a suspect.
            ahead = bool(self._flying)
            flights = self._flying.values()
            if ahead and any(flight.charged > self._batch_tokens or flight.suspect for flight in flights):
                return
            suspect = bool(self._suspects)
            if ahead and suspect:
                return
            again = self._suspects or self._retries
            entries = again.popleft() if again else self._next_batch(ahead=ahead)
            if not entries:
                return
            entries = [(job, index) for job, index in entries if not job.done.done()]
            if entries:
                self._send(entries, suspect=suspect)

    def _next_batch(self, *, ahead: bool) -> list[_Entry]:
        """Return pairs of similar length, those of the request whose turn it is first."""
        smallest = self._balance <= 0
        first = next(iter(self._by_size if smallest else self._by_due), None)
        if first is None:
            return []
        longest = first.lengths[first.waiting[-1]]
        if ahead and longest > self._batch_tokens:
            return []  # it takes all of the worker, once that is free: others must not keep it waiting
        room = max(1, self._batch_tokens // longest)
        entries: list[_Entry] = []
        others = itertools.islice(self._by_due, _COMPANIONS)
        for job in [first, *(job for job in others if job is not first and job.run == first.run)]:
            end = bisect.bisect_right(job.waiting, longest, key=job.lengths.__getitem__)
            begin = end
            while (
                begin > 0 and end - begin < room and job.lengths[job.waiting[begin - 1]] * _SIMILAR >= longest
            ):
                begin -= 1
            if begin < end:
                self._leave(job)
                entries += job.take(begin, end)
                self._wait(job)
            room -= end - begin
            if room <= 0:
                break
        tokens = sum(job.lengths[index] for job, index in entries)
        self._balance += tokens if smallest else -tokens
        return entries

    def _send(self, entries: list[_Entry], *, suspect: bool) -> None:
        lengths = [job.lengths[index] for job, index in entries]
        self._clock += sum(lengths)
        now = time.monotonic()
        for job, _ in entries:
            job.first_sent = job.first_sent or now
        # No task where the worker returns a future: a batch is two turns of the loop, its answer and its landing.
        answer = asyncio.ensure_future(entries[0][0].run([job.ids[index] for job, index in entries]))
        charged = cost(max(lengths), len(lengths))
        self._flying[answer] = _Flight(entries, charged, now, self._generation, suspect)
        answer.add_done_callback(self._landed)

    def _landed(self, answer: asyncio.Future[list[float]]) -> None:
        flight = self._flying.pop(answer)
        error = answer.exception()
        if error is None and len(answer.result()) != len(flight.entries):
            error = InternalError("The model's answer has another number of scores than the batch.")
        if error is None:
            self._scatter(flight, answer.result())
        elif isinstance(error, InternalError):
            self._split(flight.entries, error)
        elif isinstance(error, WorkerDied):
            self._suspect(flight)
        else:
            for job, _ in flight.entries:
                self._finish(job, InternalError(str(error)))
        self._dispatch()

    def _scatter(self, flight: _Flight, logits: list[float]) -> None:
        for (job, index), logit in zip(flight.entries, logits, strict=True):
            job.logits[index] = logit
            job.ids[index] = _SCORED  # its memory is another's
            job.left -= 1
            if job.left == 0:
                self._finish(job)
        # The worker's time since the last landing is this one's, whatever else it computes.
        now = time.monotonic()
        seconds = now - max(flight.sent, self._last_landing)
        self._last_landing = now
        tokens = sum(job.lengths[index] for job, index in flight.entries)
        if 2 * flight.charged > self._batch_tokens:  # a smaller one says how long a turn takes
            self._measured = True
            self._recent_tokens = 0.9 * self._recent_tokens + tokens
            self._recent_seconds = 0.9 * self._recent_seconds + seconds
        self._observe(BatchStats(len(flight.entries), tokens, flight.charged, seconds))

    def _suspect(self, flight: _Flight) -> None:
        """Keep what a dead worker held for the next, or refuse who was there both times."""
        self.pause()
        for job, entries in _by_job(flight.entries):
            if job.died_in != flight.worker:
                job.died_in = flight.worker
                job.deaths += 1
            if job.deaths < _DEATHS:
                self._suspects.append(entries)
            elif not job.done.done():
                log.error(json.dumps({"event": "refused", "request_id": job.name, "deaths": job.deaths}))
                self._finish(
                    job,
                    Unavailable(
                        f"The model's process died {job.deaths} times under this request: send shorter or fewer documents."
                    ),
                )

    def _split(self, entries: list[_Entry], error: InternalError) -> None:
        if len(entries) == 1:
            self._finish(entries[0][0], error)
            return
        parts = [part for _, part in _by_job(entries)]
        if len(parts) == 1:
            middle = len(entries) // 2
            parts = [entries[:middle], entries[middle:]]
        self._retries.extend(parts)


_SCORED = array("i")


def _by_job(entries: Sequence[_Entry]) -> list[tuple[_Job, list[_Entry]]]:
    parts: dict[_Job, list[_Entry]] = {}
    for entry in entries:
        parts.setdefault(entry[0], []).append(entry)
    return list(parts.items())
