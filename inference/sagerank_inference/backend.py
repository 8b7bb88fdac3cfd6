"""What the HTTP routes need behind them, and what passes between the two."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from .contract import Limits, Scores, Timings
from .dialects import Call, parse, render
from .scale import AS_IT_IS, Scale

if TYPE_CHECKING:
    from .cascade import Rounds


@dataclass(slots=True)
class Exchange:
    """One HTTP request on its way through here, from its body to its answer."""

    headers: Mapping[str, str]  # by names of any case
    path: str
    request_id: str
    deadline: float  # of time.monotonic()
    dialect: str = ""  # of the first request, once that is read
    body: bytes = field(init=False)  # until it is parsed
    size: int = field(init=False)  # of the body
    call: Call = field(init=False)
    rounds: list[Rounds] = field(init=False, default_factory=list)  # one for each query
    # Seconds so far; `forwards` of each stage.
    tokenise: float = field(init=False, default=0.0)
    queue: float = field(init=False, default=0.0)
    forwards: list[float] = field(init=False, default_factory=list)
    cached: int = field(init=False, default=0)  # pairs that were not computed, their scores being known

    def take(self, body: bytes) -> None:
        self.body, self.size = body, len(body)

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self.deadline - time.monotonic())

    def parse(self, limits: Limits, scale: Scale = AS_IT_IS) -> None:
        """Make `call` of the body, which is let go. Raises a RerankError.

        scale: how the logits become scores.
        """
        self.call = parse(
            self.body,
            self.headers.get("content-type"),
            path=self.path,
            headers=self.headers,
            limits=limits,
            scale=scale,
        )
        self.body = b""
        self.dialect = self.call.dialect

    def render(self, scores: Sequence[Sequence[Scores]], *, model: str) -> tuple[bytes, str]:
        """Return body and content type of the answer. scores[r][g] are those of group g of request r."""
        return render(
            self.call,
            scores,
            model=model,
            request_id=self.request_id,
            accept=self.headers.get("accept", ""),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back, and what the log and the metrics say of it."""

    body: bytes
    media_type: str
    sizes: dict[str, int]
    timings: Timings


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
