"""What the HTTP routes need behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .contract import Limits
from .service import Answer, Exchange


class Backend(Protocol):
    """What answers the requests that come in here: the model on this machine, or one elsewhere."""

    state: str  # "ready" while it answers
    model: str
    limits: Limits
    max_tokens: int  # of a pair
    request_seconds: float  # after which nobody waits for an answer
    cors_origins: str  # whose pages may call, with commas between; *: any, "none": none

    async def run(self, on_failure: Callable[[], None]) -> None:
        """Do what has to be done beside requests, until cancelled. Calls on_failure when there is no more use in it."""

    def admit(self) -> None:
        """Raise Unavailable or Overloaded where it is known before a request is read that it cannot be taken."""

    async def rerank(self, exchange: Exchange) -> Answer:
        """Read, score and render. Raises a RerankError; `exchange.dialect` is known once the body is read."""

    @property
    def idle(self) -> bool:
        """Say whether nothing is under way."""

    @property
    def queued_tokens(self) -> int:
        """Return how much waits to be scored."""

    @property
    def children(self) -> list[int]:
        """Return the processes whose end is waited for here."""
