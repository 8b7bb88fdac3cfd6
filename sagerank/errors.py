"""What the client raises.

`str(error)` is one sentence for the caller that says what to change. It never holds the text of a query or document.
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
    "NoCapacity",
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


class NoCapacity(Unavailable):
    """The endpoint has no instance at the moment, and AWS starts one, which takes minutes."""


class BadAnswer(RerankError):
    """The other side answered, but not as a reranker."""
