"""LlamaIndex: a node postprocessor.

index.as_query_engine(node_postprocessors=[SagerankRerank(endpoint="my-reranker", top_n=3)])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import InvalidRequest
from .target import Connection, Target, missing

try:
    from llama_index.core.bridge.pydantic import Field, PrivateAttr, SecretStr
    from llama_index.core.callbacks import CBEventType, EventPayload
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
    from llama_index_instrumentation import get_dispatcher
except ModuleNotFoundError as error:
    raise missing("llamaindex", error) from None

_dispatcher = get_dispatcher(__name__)


class SagerankRerank(BaseNodePostprocessor):
    """Keeps the best nodes, best first, each with its score from 0 to 1.

    endpoint: on SageMaker, with its inference_component, region and profile where it has them; or url. top_n: at most so
    many; None: all. min_score: nodes below are left out. Raises an error of sagerank.errors.
    """

    endpoint: str | None = None
    url: str | None = None
    inference_component: str | None = None
    region: str | None = None
    profile: str | None = None
    api_key: SecretStr | None = Field(default=None, exclude=True)  # of a URL; else SAGERANK_API_KEY's
    top_n: int | None = 2
    min_score: float | None = None
    keep_retrieval_score: bool = False  # in the metadata
    metadata_mode: MetadataMode = MetadataMode.EMBED  # what of a node is its text
    timeout: float = 120.0  # seconds
    _connection: Connection = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Raise InvalidRequest where the target is not known."""
        super().model_post_init(context)
        key = self.api_key.get_secret_value() if self.api_key else None
        self._connection = Connection(Target.of(self, key))

    @classmethod
    def class_name(cls) -> str:
        return "SagerankRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = self._started(nodes, query_bundle)
        if not nodes:
            return []
        with self._event(nodes, query) as event:
            kept = self._kept(nodes, self._connection.rerank(query, self._texts(nodes), **self._options()))
            event.on_end(payload={EventPayload.NODES: kept})
        _dispatcher.event(ReRankEndEvent(nodes=kept))
        return kept

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = self._started(nodes, query_bundle)
        if not nodes:
            return []
        with self._event(nodes, query) as event:
            ranking = await self._connection.arerank(query, self._texts(nodes), **self._options())
            kept = self._kept(nodes, ranking)
            event.on_end(payload={EventPayload.NODES: kept})
        _dispatcher.event(ReRankEndEvent(nodes=kept))
        return kept

    def _started(self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None) -> str:
        """Return the query, and tell who listens."""
        if query_bundle is None:
            raise InvalidRequest("There is no query: give query_bundle or query_str.")
        if nodes:
            _dispatcher.event(
                ReRankStartEvent(
                    query=query_bundle,
                    nodes=nodes,
                    top_n=len(nodes) if self.top_n is None else self.top_n,
                    model_name=self._connection.target.name,
                )
            )
        return str(query_bundle.query_str)

    def _event(self, nodes: list[NodeWithScore], query: str) -> Any:
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: self._connection.target.name,
            EventPayload.QUERY_STR: query,
            EventPayload.TOP_K: self.top_n,
        }
        return self.callback_manager.event(CBEventType.RERANKING, payload=payload)

    def _texts(self, nodes: Sequence[NodeWithScore]) -> list[str]:
        return [node.node.get_content(metadata_mode=self.metadata_mode) for node in nodes]

    def _options(self) -> dict[str, Any]:
        return {"top_n": self.top_n, "min_score": self.min_score, "timeout": self.timeout}

    def _kept(self, nodes: Sequence[NodeWithScore], ranking: Any) -> list[NodeWithScore]:
        kept = []
        for result in ranking.results:
            node = nodes[result.index]
            if self.keep_retrieval_score:
                node.node.metadata["retrieval_score"] = node.score
            kept.append(NodeWithScore(node=node.node, score=result.score))
        return kept
