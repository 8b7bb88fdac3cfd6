"""What the client raises: `str(error)` says what to change, and never holds a query's or a document's text.

RerankError
    InvalidRequest              the request cannot be read or means nothing
        TokenLimitExceeded      truncation is not allowed, and a text does not fit
        UnsupportedMediaType    a body of a type that no reranker here reads
        PayloadTooLarge         more bytes or documents than one request may carry
    Overloaded                  the queue is full; come back after `retry_after` seconds
    DeadlineExceeded            no answer within the time that was given
    Unavailable                 no model is ready, or nothing answers there
    InternalError               a defect on the server's side
    EndpointNotFound            there is no such endpoint or URL
    AccessDenied                credentials are missing, or do not allow the call
    BadAnswer                   the other side answered, but not as a reranker
"""

from __future__ import annotations

from sagerank_inference.contract import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    RerankError,
    TokenLimitExceeded,
    Unavailable,
    UnsupportedMediaType,
)

__all__ = [
    "AccessDenied",
    "BadAnswer",
    "DeadlineExceeded",
    "EndpointNotFound",
    "InternalError",
    "InvalidRequest",
    "Overloaded",
    "PayloadTooLarge",
    "RerankError",
    "TokenLimitExceeded",
    "Unavailable",
    "UnsupportedMediaType",
]


class EndpointNotFound(RerankError):
    """There is no endpoint of this name, or nothing at this URL."""


class AccessDenied(RerankError):
    """The caller has no credentials, or they do not allow the call."""


class BadAnswer(RerankError):
    """The other side answered, but not as a reranker."""
