"""The batcher before a scripted worker: no clocks, no sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagerank_inference.batcher import WorkerDied
from sagerank_inference.contract import DeadlineExceeded, InternalError, Overloaded, Unavailable
from sagerank_inference.plan import cost

from ..servers import POISON, OneModel, ScriptedWorker, batcher, run, windows


@given(st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=12), min_size=1, max_size=8))
def test_everyone_gets_their_own_scores_in_order_and_budgets_hold(requests: list[list[int]]) -> None:
    async def test() -> None:
        worker = ScriptedWorker()
        it = batcher(worker)
        scores = await asyncio.gather(*(it.score(windows(*lengths), timeout=9) for lengths in requests))
        assert [logits for logits, _ in scores] == [
            [float(length) for length in lengths] for lengths in requests
        ]
        assert all(len(batch) == 1 or cost(max(batch), len(batch)) <= 100 for batch in worker.batches)
        await asyncio.sleep(0)
        assert it.queued_tokens == 0
        assert it.idle

    run(test)


def test_what_queues_while_the_worker_is_busy_is_merged() -> None:
    async def test() -> None:
        worker = ScriptedWorker(held=True)
        it = batcher(worker)
        tasks = [asyncio.create_task(it.score(windows(10), timeout=9)) for _ in range(12)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # The first went out alone at once, one batch waits at the worker's door; nothing waited for company.
        assert worker.batches[0] == [10]
        assert len(worker.batches) <= 2
        worker.gate.set()
        await asyncio.gather(*tasks)
        assert sum(map(len, worker.batches)) == 12
        assert max(map(len, worker.batches)) == 10, "a full budget of 100 tokens"

    run(test)


class LaneWorker(ScriptedWorker):
    """Answers each batch after a few turns of the loop, and remembers what was there at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.there: list[int] = []
        self.together: list[list[int]] = []

    async def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
        longest = max(map(len, batch))
        self.there.append(longest)
        self.together.append(list(self.there))
        for _ in range(5):
            await asyncio.sleep(0)
        self.there.remove(longest)
        return await super().__call__(batch)


def test_every_lane_has_a_batch_and_another_waits_for_it() -> None:
    async def test() -> None:
        worker = LaneWorker()
        it = batcher(worker)
        it.resume(lanes=3)
        await asyncio.gather(*(it.score(windows(*[20] * 9), timeout=9) for _ in range(6)))
        assert max(map(len, worker.together)) == 6

    run(test)


def test_a_long_pair_is_alone_at_the_worker_and_is_reached_under_any_load() -> None:
    async def test() -> None:
        worker = LaneWorker()
        it = batcher(worker)
        it.resume(lanes=3)
        over = False

        async def crowd() -> None:
            while not over:
                await it.score(windows(20, 30), timeout=9)

        others = [asyncio.create_task(crowd()) for _ in range(40)]
        await asyncio.sleep(0)
        scores, _ = await it.score(windows(500, 10, 700), timeout=9)
        over = True
        await asyncio.gather(*others)
        assert scores == [500.0, 10.0, 700.0]
        assert [there for there in worker.together if max(there) > 100] == [[700], [500]]

    run(test)


def test_a_long_request_does_not_starve_a_short_one() -> None:
    async def test() -> None:
        worker = ScriptedWorker(held=True)
        it = batcher(worker)
        long = asyncio.create_task(it.score(windows(*[5000] * 20), timeout=9))
        await asyncio.sleep(0)
        short = asyncio.create_task(it.score(windows(10, 12), timeout=9))
        await asyncio.sleep(0)
        worker.gate.set()
        await short
        assert not long.done()
        before = [batch for batch in worker.batches if batch == [5000]]
        assert len(before) <= 2, "at most the one under way, and one more"
        await long

    run(test)


def test_a_short_request_overtakes_many_that_are_overdue() -> None:
    async def test() -> None:
        worker = ScriptedWorker(held=True)
        it = batcher(worker, max_queue_tokens=1_000_000)
        long = [asyncio.create_task(it.score(windows(5000), timeout=99)) for _ in range(55)]
        await asyncio.sleep(0)
        worker.gate.set()
        while len(worker.batches) < 30:
            await asyncio.sleep(0)
        worker.gate.clear()
        before = len(worker.batches)
        short = asyncio.create_task(it.score(windows(10), timeout=9))
        await asyncio.sleep(0)
        worker.gate.set()
        await short
        assert worker.batches.index([10]) <= before + 2, "the one under way, and one whose turn it may be"
        await asyncio.gather(*long)

    run(test)


def test_what_cannot_be_scored_in_time_is_refused_at_once() -> None:
    async def test() -> None:
        it = batcher(ScriptedWorker(held=True), max_queue_tokens=10**9)
        it.check(1_000_000, timeout=9)  # how fast the worker is, nobody knows yet
        it._measured = True
        it.check(100_000, timeout=9)
        with pytest.raises(DeadlineExceeded, match="more than 1000000 tokens"):
            it.check(1_000_000, timeout=9)

    run(test)


def test_equal_requests_are_answered_one_after_the_other() -> None:
    """Shared, the worker would make each of them as late as the last."""

    async def test() -> None:
        worker = ScriptedWorker()
        it = batcher(worker)
        lengths = (47, 48, 49, 50)
        await asyncio.gather(*(it.score(windows(*[length] * 6), timeout=9) for length in lengths))
        assert worker.batches == [[length] * 2 for length in lengths for _ in range(3)]

    run(test)


def test_a_small_request_overtakes_a_large_one() -> None:
    async def test() -> None:
        worker = ScriptedWorker(held=True)
        it = batcher(worker)
        large = asyncio.create_task(it.score(windows(*[50] * 40), timeout=9))
        await asyncio.sleep(0)
        small = asyncio.create_task(it.score(windows(10), timeout=9))
        await asyncio.sleep(0)
        worker.gate.set()
        await small
        await large
        assert worker.batches.index([10]) == 2, "after the batch that runs and the one at the door"

    run(test)


@pytest.mark.parametrize("pairs", [3, 60])
def test_a_large_request_is_not_put_off_for_ever(pairs: int) -> None:
    """Small ones keep coming, as fast as they are answered. The large one's pace may be a quarter, but not nothing."""

    async def test() -> None:
        worker = ScriptedWorker()
        it = batcher(worker)
        large = asyncio.create_task(it.score(windows(*[100] * pairs), timeout=9))

        async def small() -> None:
            while not large.done():
                await it.score(windows(99), timeout=9)

        await asyncio.gather(large, *(small() for _ in range(4)))
        assert worker.batches.count([99]) <= 5 * pairs + 20

    run(test)


def test_poison_fails_its_own_request_only() -> None:
    async def test() -> None:
        worker = ScriptedWorker(held=True)
        it = batcher(worker)
        opener = asyncio.create_task(it.score(windows(100), timeout=9))
        good = [asyncio.create_task(it.score(windows(10, 11), timeout=9)) for _ in range(3)]
        bad = asyncio.create_task(it.score(windows(10, token=POISON), timeout=9))
        await asyncio.sleep(0)
        worker.gate.set()
        with pytest.raises(InternalError):
            await bad
        assert [logits for logits, _ in await asyncio.gather(*good)] == [[10.0, 11.0]] * 3
        await opener
        assert (await it.score(windows(7), timeout=9))[0] == [7.0]

    run(test)


def test_what_a_dead_worker_held_is_given_to_the_next_and_the_rest_waits_for_it() -> None:
    async def test() -> None:
        worker = ScriptedWorker(held=True)
        it = batcher(worker)
        held = [asyncio.create_task(it.score(windows(100), timeout=9)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting = asyncio.create_task(it.score(windows(90), timeout=9))
        await asyncio.sleep(0)
        worker.error = WorkerDied("died")
        worker.gate.set()
        await asyncio.sleep(0.01)
        assert worker.batches == [[100], [100]], "nothing goes to the dead"
        worker.error = None
        it.resume()
        assert [logits for logits, _ in await asyncio.gather(*held, waiting)] == [[100.0], [100.0], [90.0]]

    run(test)


def test_who_kills_two_workers_is_refused_alone() -> None:
    """All die with it the first time. The second time it is alone."""

    async def test() -> None:
        killing = 13

        class Mortal(ScriptedWorker):
            async def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
                self.batches.append([len(pair) for pair in batch])
                await asyncio.sleep(0)
                if any(killing in pair for pair in batch):
                    asyncio.get_running_loop().call_later(0.01, it.resume)
                    raise WorkerDied("died")
                return [float(len(pair)) for pair in batch]

        it = batcher(Mortal())
        good = [asyncio.create_task(it.score(windows(10, 11), timeout=9)) for _ in range(3)]
        bad = asyncio.create_task(it.score(windows(10, token=killing), timeout=9))
        good += [asyncio.create_task(it.score(windows(10, 11), timeout=9)) for _ in range(3)]
        with pytest.raises(Unavailable, match="died 2 times under this request"):
            await bad
        assert [logits for logits, _ in await asyncio.gather(*good)] == [[10.0, 11.0]] * 6
        assert it.idle
        assert it.queued_tokens == 0

    run(test)


def test_an_answer_of_another_size_is_an_error_of_its_batch() -> None:
    async def test() -> None:
        class Short(ScriptedWorker):
            async def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
                return (await super().__call__(batch))[: 0 if len(batch) == 1 else None]

        it = batcher(Short())
        with pytest.raises(InternalError, match="another number of scores"):
            await it.score(windows(10), timeout=9)
        assert (await it.score(windows(7, 7), timeout=9))[0] == [7.0, 7.0]

    run(test)


def test_without_a_worker_until_the_deadline_nobody_is_told_to_send_less() -> None:
    async def test() -> None:
        it = batcher(ScriptedWorker())
        it.pause()
        with pytest.raises(Unavailable):
            await it.score(windows(10), timeout=0.01)

    run(test)


def test_no_worker_to_come_answers_everyone() -> None:
    async def test() -> None:
        it = OneModel(ScriptedWorker(), batch_tokens=100, max_queue_tokens=1000)
        waiting = asyncio.create_task(it.score(windows(10), timeout=9))
        await asyncio.sleep(0)
        it.fail_all(Unavailable("none"))
        with pytest.raises(Unavailable):
            await waiting

    run(test)


def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    async def test() -> None:
        worker = ScriptedWorker(held=True)
        it = batcher(worker, max_queue_tokens=300)
        tasks = [asyncio.create_task(it.score(windows(100), timeout=9)) for _ in range(6)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await it.score(windows(100), timeout=9)
        assert caught.value.retry_after >= 1
        worker.gate.set()
        await asyncio.gather(*tasks)

    run(test)


def test_one_request_larger_than_the_queue_is_taken_and_keeps_nobody_out() -> None:
    async def test() -> None:
        worker = ScriptedWorker(held=True)
        it = batcher(worker, max_queue_tokens=300)
        large = asyncio.create_task(it.score(windows(*[100] * 50), timeout=9))
        await asyncio.sleep(0)
        small = asyncio.create_task(it.score(windows(100), timeout=9))
        await asyncio.sleep(0)
        assert not small.done()
        worker.gate.set()
        await asyncio.gather(large, small)

    run(test)


def test_a_deadline_or_a_departed_caller_drops_the_work() -> None:
    async def test() -> None:
        worker = ScriptedWorker(held=True)
        it = batcher(worker)
        first = asyncio.create_task(it.score(windows(*[100] * 2), timeout=9))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded, match="in time"):
            await it.score(windows(*[100] * 50), timeout=0.01)
        gone = asyncio.create_task(it.score(windows(*[100] * 50), timeout=9))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert it.queued_tokens == 0
        worker.gate.set()
        await first
        assert sum(map(len, worker.batches)) == 2

    run(test)
