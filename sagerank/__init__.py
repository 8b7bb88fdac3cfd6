"""The Jina Reranker v1 family on AWS SageMaker: the client that an application imports, and the command line."""

from . import errors
from .client import AsyncRerankClient, RerankClient

__version__ = "0.7.0"
__all__ = ["AsyncRerankClient", "RerankClient", "__version__", "errors"]
