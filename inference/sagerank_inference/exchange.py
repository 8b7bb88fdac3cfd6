"""One HTTP request between the routes and the backend that answers it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from .cascade import Rounds
from .contract import Timings
from .dialects import Call


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

    def take(self, body: bytes) -> None:
        self.body, self.size = body, len(body)

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self.deadline - time.monotonic())


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back, and what the log and the metrics say of it."""

    body: bytes
    media_type: str
    sizes: dict[str, int]
    timings: Timings
