"""Reads and renders requests beside the event loop: a step at a time, small ones first.

What a request costs here grows with its bytes, up to seconds. A thread does it, in steps that the work itself cuts
short, and after each step goes on with whatever is due first: work is due some time after it came that grows with its
size. So a small request waits for one step of a large one, and a large one is not put off for ever. What is so small
that handing it over costs more than doing it is done at once, in the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from .steps import Steps, finish

T = TypeVar("T")

_AT_ONCE = 1024  # bytes that take the loop about 5 ms at worst, whatever they say
_PATIENCE = 4e-6  # seconds for each byte until work is due: about four times what it takes


@dataclass(order=True, slots=True)
class _Item:
    due: float
    number: int
    steps: Steps[Any] = field(compare=False)
    done: asyncio.Future[Any] = field(compare=False)


class Reader:
    """One thread for the whole server: two would take turns at the interpreter all the same."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._items: list[_Item] = []  # a heap
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="reader", daemon=True).start()

    async def run(self, steps: Steps[T], size: int) -> T:
        """Return what the steps return, or raise what they raise. size: of the request, in bytes.

        When the caller is cancelled, the steps end where they are.
        """
        if size <= _AT_ONCE:
            try:
                return finish(steps)
            except Exception:
                raise
            except BaseException as error:
                raise _harmless(error) from None
        loop = asyncio.get_running_loop()
        item = _Item(time.monotonic() + _PATIENCE * size, next(self._numbers), steps, loop.create_future())
        with self._changed:
            heapq.heappush(self._items, item)
            self._changed.notify()
        try:
            return cast(T, await item.done)
        except asyncio.CancelledError:
            # What it holds is not to wait for its turn.
            with self._changed:
                if item in self._items:
                    self._items.remove(item)
                    heapq.heapify(self._items)
            raise

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._items:
                    self._changed.wait()
                item = heapq.heappop(self._items)
            if self._ended(item):
                continue
            with self._changed:
                heapq.heappush(self._items, item)

    def _ended(self, item: _Item) -> bool:
        """Go on with an item, to its end or until another is due before it."""
        while not item.done.done():  # cancelled, if it is
            try:
                next(item.steps)
            except StopIteration as end:
                _hand(item, asyncio.Future.set_result, end.value)
                return True
            except BaseException as error:
                _hand(item, asyncio.Future.set_exception, _harmless(error))
                return True
            # Without the lock: what others put in meanwhile is seen after the next step.
            if self._items and self._items[0] < item:
                return False
        item.steps.close()
        return True


def _harmless(error: BaseException) -> Exception:
    """Return an error that ends no more than its request: a panic in Rust is no Exception."""
    return error if isinstance(error, Exception) else RuntimeError(type(error).__name__)


def _hand(item: _Item, settle: Callable[[asyncio.Future[Any], Any], None], value: object) -> None:
    def settled() -> None:
        if not item.done.done():
            settle(item.done, value)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to take it
        item.done.get_loop().call_soon_threadsafe(settled)
