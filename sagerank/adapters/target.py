"""Where the reranker of an adapter is, and the client that reaches it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self
from weakref import WeakSet, finalize

from ..client import RerankClient, Reranking
from ..errors import InvalidRequest
from ..models.extras import install

KEY = "SAGERANK_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A SageMaker endpoint, or the URL of a server or proxy. Raises InvalidRequest unless it is exactly one."""

    endpoint: str | None = None
    url: str | None = None
    inference_component: str | None = None
    region: str | None = None
    profile: str | None = None
    # Of a URL; by default the environment's SAGERANK_API_KEY.
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if bool(self.endpoint) == bool(self.url):
            raise InvalidRequest("Give endpoint, a SageMaker endpoint's name, or url, a server's address.")
        if self.url and (self.inference_component or self.region or self.profile):
            raise InvalidRequest(
                "inference_component, region and profile are of a SageMaker endpoint: give them with endpoint, not url."
            )

    @classmethod
    def of(cls, adapter: object, api_key: str | None) -> Self:
        """Return the target that an adapter's attributes name. Raises InvalidRequest."""
        named = (field.name for field in fields(cls) if field.name != "api_key")
        return cls(api_key=api_key, **{name: getattr(adapter, name) for name in named})

    @property
    def name(self) -> str:
        """What to call it in events of a framework."""
        return self.endpoint or str(self.url)

    def connect(self) -> RerankClient:
        """Make a client. Raises an error of sagerank.errors."""
        if self.endpoint:
            return RerankClient.sagemaker(
                self.endpoint,
                region=self.region,
                profile=self.profile,
                inference_component=self.inference_component,
            )
        key = self.api_key or os.environ.get(KEY, "")
        return RerankClient.http(str(self.url), headers={"Authorization": f"Bearer {key}"} if key else None)


# Another thread may be making a client while this one forks: the child's lock is a new one.
_connections: WeakSet[Connection] = WeakSet()


def _after_fork() -> None:
    for connection in _connections:
        connection._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Connection:
    """One client of a target for all threads and event loops, made when it is first needed, closed with its adapter."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._client: RerankClient | None = None
        _connections.add(self)

    def __reduce__(self) -> tuple[type[Connection], tuple[Target]]:
        """Copies and pickles make a client of their own."""
        return Connection, (self.target,)

    def rerank(self, query: str, texts: Sequence[str], **options: Any) -> Reranking:
        """Rank texts as RerankClient.rerank does."""
        return self._connected().rerank(query, texts, **options)

    async def arerank(self, query: str, texts: Sequence[str], **options: Any) -> Reranking:
        """Rank texts as RerankClient.rerank does, while the event loop does other things."""
        return await asyncio.wrap_future(self._connected().submit(query, texts, **options))

    def _connected(self) -> RerankClient:
        with self._lock:
            if self._client is None:
                self._client = self.target.connect()
                finalize(self, self._client.close)
            return self._client


def missing(extra: str, error: ModuleNotFoundError) -> ImportError:
    """Return the error of a framework that is not there."""
    return ImportError(f"sagerank.adapters.{extra} needs {error.name}: {install(extra)}", name=error.name)
