"""Work in steps beside an event loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from sagerank_inference.reader import Reader
from sagerank_inference.steps import Steps

LARGE = 10**6  # bytes


class Panic(BaseException):
    """What the tokenizers library raises for a panic in Rust."""


def counting(steps: int, seen: list[str], name: str, gate: threading.Event | None = None) -> Steps[str]:
    for number in range(steps):
        if gate:
            gate.wait(5)
        seen.append(name)
        yield number
    return name


def test_small_work_goes_first_and_large_work_is_not_put_off_for_ever() -> None:
    async def test() -> None:
        reader, seen, gate = Reader(), list[str](), threading.Event()
        large = asyncio.create_task(reader.run(counting(50, seen, "large", gate), LARGE))
        await asyncio.sleep(0.05)
        small = asyncio.create_task(reader.run(counting(3, seen, "small"), 10_000))
        await asyncio.sleep(0.05)
        gate.set()
        assert await small == "small"
        assert await large == "large"
        assert seen.index("small") <= 2

    asyncio.run(test())


def test_what_is_cancelled_while_it_waits_is_held_no_longer() -> None:
    async def test() -> None:
        reader, gate, seen = Reader(), threading.Event(), list[str]()
        first = asyncio.create_task(reader.run(counting(1, seen, "first", gate), 10_000))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(reader.run(counting(1, seen, "waiting"), LARGE)) for _ in range(5)]
        await asyncio.sleep(0.05)
        for task in waiting[1:]:
            task.cancel()
        await asyncio.sleep(0.05)
        assert len(reader._items) == 1
        gate.set()
        assert (await first, await waiting[0]) == ("first", "waiting")
        assert seen == ["first", "waiting"]

    asyncio.run(test())


@pytest.mark.parametrize("size", [10, LARGE])
def test_an_error_ends_its_own_work_only_even_a_panic(size: int) -> None:
    def failing(error: BaseException) -> Steps[None]:
        yield 0
        raise error

    async def test() -> None:
        reader = Reader()
        with pytest.raises(ValueError, match="mine"):
            await reader.run(failing(ValueError("mine")), size)
        with pytest.raises(RuntimeError, match="Panic"):
            await reader.run(failing(Panic("a text of the request")), size)
        assert await reader.run(counting(1, [], "next"), size) == "next"

    asyncio.run(test())


def test_the_loop_goes_on_beside_long_work() -> None:
    def busy() -> Steps[None]:
        for _ in range(20):
            end = time.monotonic() + 0.01
            while time.monotonic() < end:
                pass
            yield 0

    async def test() -> None:
        work = asyncio.create_task(Reader().run(busy(), LARGE))
        turns = 0
        while not work.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 20

    asyncio.run(test())
