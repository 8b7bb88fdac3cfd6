"""LangChain: a document compressor for retrievers, and a cross-encoder for what takes one.

retriever = ContextualCompressionRetriever(
    base_compressor=SagerankReranker(endpoint="my-reranker", top_n=3), base_retriever=...
)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sagerank_inference.dialects.pairs import runs

from ..client import Reranking
from .target import Connection, Target, missing

try:
    from langchain_core.callbacks import Callbacks
    from langchain_core.cross_encoders import BaseCrossEncoder
    from langchain_core.documents import BaseDocumentCompressor, Document
    from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr
except ModuleNotFoundError as error:
    raise missing("langchain", error) from None


class _Reaching(BaseModel):
    """Where the reranker is: `endpoint` on SageMaker, or `url`."""

    model_config = ConfigDict(extra="forbid")

    endpoint: str | None = None
    url: str | None = None
    inference_component: str | None = None
    region: str | None = None
    profile: str | None = None
    api_key: SecretStr | None = Field(default=None, exclude=True)  # of a URL; else SAGERANK_API_KEY's
    timeout: float = 120.0  # seconds
    _connection: Connection = PrivateAttr()

    def model_post_init(self, _context: Any, /) -> None:
        """Raise InvalidRequest where the target is not known."""
        key = self.api_key.get_secret_value() if self.api_key else None
        self._connection = Connection(Target.of(self, key))


class SagerankReranker(_Reaching, BaseDocumentCompressor):
    """Keeps the best documents, best first, each with its score in the metadata.

    top_n: at most so many; None: all. min_score: those below, from 0 to 1, are left out. Raises an error of sagerank.errors.
    """

    top_n: int | None = 3
    min_score: float | None = None
    score_key: str = "relevance_score"  # of the metadata

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Rank documents for a query. callbacks: unused, the base class has them."""
        del callbacks
        if not documents:
            return []
        texts = [document.page_content for document in documents]
        return self._kept(documents, self._connection.rerank(query, texts, **self._options()))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Rank documents for a query while the event loop does other things."""
        del callbacks
        if not documents:
            return []
        texts = [document.page_content for document in documents]
        return self._kept(documents, await self._connection.arerank(query, texts, **self._options()))

    def _options(self) -> dict[str, Any]:
        return {"top_n": self.top_n, "min_score": self.min_score, "timeout": self.timeout}

    def _kept(self, documents: Sequence[Document], ranking: Reranking) -> list[Document]:
        kept = []
        for result in ranking.results:
            document = documents[result.index]
            metadata = {**document.metadata, self.score_key: result.score}
            kept.append(document.model_copy(update={"metadata": metadata}))
        return kept


class SagerankCrossEncoder(_Reaching, BaseCrossEncoder):
    """Scores pairs of query and text, from 0 to 1; neighbours with one query are one request."""

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """Return a score for each pair, in order."""
        scores: list[float] = []
        for group in runs(text_pairs):
            ranking = self._connection.rerank(group.query, group.documents, timeout=self.timeout)
            scores += _in_order(ranking)
        return scores

    async def ascore(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """Return a score for each pair, in order, while the event loop does other things."""
        scores: list[float] = []
        for group in runs(text_pairs):
            ranking = await self._connection.arerank(group.query, group.documents, timeout=self.timeout)
            scores += _in_order(ranking)
        return scores


def _in_order(ranking: Reranking) -> list[float]:
    return [result.score for result in sorted(ranking.results, key=lambda result: result.index)]
