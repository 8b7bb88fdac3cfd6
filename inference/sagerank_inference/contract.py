"""What a rerank request, its scores and its errors are, whatever the wire dialect. Standard library only.

    RerankError
    +-- InvalidRequest            the request cannot be read or means nothing
    |   +-- TokenLimitExceeded    truncation is not allowed, and a pair does not fit
    |   +-- UnsupportedMediaType  the body is of a type nobody here reads
    |   +-- PayloadTooLarge       more bytes or documents than one request may carry
    |   +-- RequestTimeout        the body did not arrive in time
    +-- Unauthorized              the caller has no key, or one that is not known
    +-- Overloaded                the queue is full; come back after `retry_after` seconds
    +-- DeadlineExceeded          the answer would have come too late to be received
    +-- Unavailable               no model is ready: still loading, or its process died
    +-- BadGateway                what has to answer in place of this server cannot be used
    +-- InternalError             a defect on this side

`str(error)` is one sentence for the caller that says what to change. It never holds the text of a query or
document.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass


class RerankError(Exception):
    dialect: str = ""  # by name: whose error form answers it; "" until that is known


class InvalidRequest(RerankError):
    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field  # of the body, where one alone is to blame


class TokenLimitExceeded(InvalidRequest):
    REMEDY = "shorten it, or allow truncation."  # the end of its message, by which a client knows it in every dialect


class UnsupportedMediaType(InvalidRequest):
    pass


class PayloadTooLarge(InvalidRequest):
    pass


class RequestTimeout(InvalidRequest):
    pass


class Unauthorized(RerankError):
    pass


class Overloaded(RerankError):
    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds


class DeadlineExceeded(RerankError):
    pass


class Unavailable(RerankError):
    pass


class BadGateway(RerankError):
    pass


class InternalError(RerankError):
    pass


_STATUS: dict[type[RerankError], int] = {
    TokenLimitExceeded: 400,
    UnsupportedMediaType: 415,
    PayloadTooLarge: 413,
    RequestTimeout: 408,
    InvalidRequest: 400,
    Unauthorized: 401,
    Overloaded: 429,
    DeadlineExceeded: 504,
    BadGateway: 502,
    Unavailable: 503,
    InternalError: 500,
    RerankError: 500,
}


def status(error: RerankError) -> int:
    """Return the HTTP status of an error: no other file knows numbers."""
    return next(_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS)


@dataclass(frozen=True, slots=True)
class Limits:
    max_documents: int = 10_000  # in one request, over all its queries
    max_body_bytes: int = 6_291_456  # SageMaker's own limit for a real-time invocation


@dataclass(frozen=True, slots=True)
class Group:
    """One query and the documents to rank for it."""

    query: str
    documents: tuple[str, ...]
    _: KW_ONLY
    top_n: int | None = None
    originals: tuple[str | None, ...] | None = None  # JSON to echo in place of a text; None: the text
    identity: str | None = None  # the caller's id of this query, where the dialect has one


@dataclass(frozen=True, slots=True)
class Truncation:
    """What happens to texts that do not fit."""

    allowed: bool = True  # False: a pair is refused, not cut
    max_document_tokens: int | None = None  # a document keeps at most so many
    max_pair_tokens: int | None = None  # and so does a pair with its special tokens, in one window
    left: bool = False  # a limit cuts the start of a text, not its end


@dataclass(frozen=True, slots=True)
class RerankRequest:
    dialect: str  # a name of dialects.DIALECTS
    groups: tuple[Group, ...]
    _: KW_ONLY
    return_documents: bool = False
    alone: bool = False  # one pair that is in no list, and nor is its answer
    raw_scores: bool = False  # logits instead of their sigmoid
    return_spans: bool = False  # with each document the characters that its score is of
    min_span_score: float = -math.inf  # a document below it comes without
    min_score: float | None = None  # results below it are left out; a probability, or a logit with raw_scores
    truncation: Truncation = Truncation()


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds that a request took. `stages` divides `forward` among the models of a cascade."""

    tokenise: float
    queue: float
    forward: float
    stages: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Scores:
    """Logits of a Group in the order of its documents, and its tokens as the dialects bill them."""

    values: tuple[float, ...]
    query_tokens: int
    document_tokens: tuple[int, ...]
    timings: Timings
    # First character of each document's best window and the one after its last; None where nobody asked.
    spans: tuple[tuple[int, int], ...] | None = None

    @property
    def total_tokens(self) -> int:
        return self.query_tokens + sum(self.document_tokens)


def sigmoid(logit: float) -> float:
    """Return the probability of a logit, in [0, 1], without overflow for any finite one.

    To 16 decimals, which is at most 18 characters: of longer numbers the JSON readers of some clients in Java make a
    BigDecimal, and those clients (OpenSearch's cohere.rerank) take none but a Double.
    """
    power = math.exp(-abs(logit))
    return round((1.0 if logit >= 0 else power) / (1.0 + power), 16)


def best_first(values: Sequence[float], top_n: int | None) -> list[int]:
    """Return the indices of the top_n highest values (None: of all), best first, and equal values in their order."""
    order = sorted(range(len(values)), key=lambda index: -values[index])
    return order if top_n is None else order[:top_n]
